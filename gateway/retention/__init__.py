"""How long rows are kept: the chore that drops what has had its time."""
