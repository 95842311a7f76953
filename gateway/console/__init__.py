"""Pages of bank operations."""
