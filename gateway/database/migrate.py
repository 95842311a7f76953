"""Forward-only migrations: plain SQL files applied in order by yoyo, under its lock, each in a transaction."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
import yoyo

from gateway.database.pool import Connection
from gateway.database.roles import GATEWAY, GRANTS, OWNER, OWNERSHIP, ROLES, membership

_FOLDER = Path(__file__).parent / "migrations"
FIRST, VERSION_2 = "0001.core", "0010."  # the latter begins version 2 of events and statements
STARTS = "0018."  # closings tell when versions start from here on
_NAMES = frozenset(path.stem for path in _FOLDER.glob("*.sql"))


def migrate(url: str, *, serving: str = "") -> list[str]:
    """Bring the database up to this program's version; returns the names of what was applied just now.

    `url` is of the user that may make roles and tables. `serving`, where it is another one, is the gateway's address:
    its user gets the rights of the gateway.
    """
    backend = yoyo.get_backend(_yoyo_url(url))
    try:
        migrations = yoyo.read_migrations(str(_FOLDER))
        with backend.lock():
            _refuse_old_home(backend, migrations)
            pending = backend.to_apply(migrations)
            backend.apply_migrations(pending)
            _settle_rights(backend, user=urlsplit(serving).username or "")
        return [migration.id for migration in pending]
    finally:
        backend.connection.close()


def _settle_rights(backend: Any, *, user: str) -> None:
    """All or nothing, each time: a migration may have made tables, and rights that somebody gave are taken back."""
    with backend.transaction():
        for statement in (ROLES, OWNERSHIP, GRANTS):
            backend.cursor().execute(statement)
        if user and user not in (OWNER, GATEWAY):
            backend.cursor().execute(membership(user))


class OldHome(Exception):
    """What it holds was recorded before version 2 of events and statements was what it is now: nobody can go on."""

    def __init__(self) -> None:
        super().__init__(
            "This database is of a Parasol from before settlement version 2 and cannot be taken over: start with a new "
            "--home, or remove the old one with `make clean`."
        )


def check_home(url: str) -> None:
    """For who does not migrate. Raises OldHome."""
    backend = yoyo.get_backend(_yoyo_url(url))
    try:
        _refuse_old_home(backend, yoyo.read_migrations(str(_FOLDER)))
    finally:
        backend.connection.close()


def _refuse_old_home(backend: Any, migrations: Any) -> None:
    """Raises OldHome. A first migration that was cut off has left no documents, and goes on."""
    lacking = {migration.id for migration in backend.to_apply(migrations)}
    names = {migration.id for migration in migrations}
    if FIRST in names - lacking and any(name.startswith(VERSION_2) for name in lacking):
        _refuse_where(backend, "SELECT EXISTS (SELECT FROM document)")
    elif FIRST in names - lacking and any(name.startswith(STARTS) for name in lacking):
        _refuse_where(backend, "SELECT EXISTS (SELECT FROM statement WHERE closing IS NOT NULL)")


def _refuse_where(backend: Any, question: str) -> None:
    ((used,),) = backend.execute(question).fetchall()
    if used:
        raise OldHome


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
