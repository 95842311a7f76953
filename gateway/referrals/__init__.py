"""Who brought whom: batches, signed links, claims, goals, attribution."""
