"""The port to the bank's own systems, and the sandbox bank behind it."""
