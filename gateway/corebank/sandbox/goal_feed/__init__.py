"""The goal feed of the sandbox bank: what its customers reach, and since when they are its customers."""
