"""The double-entry book: entries that sum to zero, never updated, only reversed."""
