"""A throw-away PostgreSQL with the project's schema, for measurements below HTTP."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.database import Database
from gateway.database.embedded import start_embedded
from gateway.database.migrate import migrate


@asynccontextmanager
async def scratch_database(*, pool_size: int) -> AsyncIterator[Database]:
    """Durable as in production (fsync and synchronous_commit stay on); gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="parasol-bench-") as folder:
        Path(folder).chmod(0o755)  # noqa: ASYNC240 - once; PostgreSQL runs as a user of its own under root
        cluster = start_embedded(Path(folder))
        try:
            migrate(cluster.get_uri())
            database = await Database.connect(f"{cluster.get_uri()}&role=none", pool_size=pool_size)
            yield database
            await database.close()
        finally:
            cluster.cleanup()
