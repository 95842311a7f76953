"""Pages of partner developers."""
