"""Forward-only migrations: plain SQL files applied in order by yoyo, under its lock, each in a transaction."""

from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
import yoyo

from gateway.database.pool import Connection

_FOLDER = Path(__file__).parent / "migrations"
_NAMES = frozenset(path.stem for path in _FOLDER.glob("*.sql"))


def migrate(url: str) -> list[str]:
    """Bring the database up to this program's version; returns the names of what was applied just now."""
    backend = yoyo.get_backend(_yoyo_url(url))
    try:
        migrations = yoyo.read_migrations(str(_FOLDER))
        with backend.lock():
            pending = backend.to_apply(migrations)
            backend.apply_migrations(pending)
        return [migration.id for migration in pending]
    finally:
        backend.connection.close()


async def missing_migrations(conn: Connection) -> list[str]:
    """What this program needs and the database lacks. More than it needs is fine: migrations only go forward."""
    try:
        applied = await conn.fetch("SELECT migration_id FROM _yoyo_migration")
    except asyncpg.UndefinedTableError:
        return sorted(_NAMES)
    return sorted(_NAMES - {row["migration_id"] for row in applied})


def _yoyo_url(url: str) -> str:
    """asyncpg's address, spelled for yoyo: the psycopg driver named in the scheme."""
    parts = urlsplit(url)
    return urlunsplit(("postgresql+psycopg", parts.netloc, parts.path, urlencode(parse_qsl(parts.query)), ""))
