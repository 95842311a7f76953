"""Partners, their apps, keys and contracts: agreed as files, stored as versions, read as one frozen snapshot."""
