"""PostgreSQL, the only store: pool and transactions, migrations, changes, gathered writes, idempotency."""

from gateway.database.pool import Connection, Database

__all__ = ["Connection", "Database"]
