"""The sandbox bank: a small core bank in PostgreSQL behind the port; deterministic, with faults on demand."""
