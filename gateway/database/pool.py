"""The connection pool. One request = one transaction; no network call to anybody else inside one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from gateway.database.roles import as_gateway

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]
else:
    Connection = Any

STATEMENT_TIMEOUT_MS = 30_000  # a statement that takes longer is a bug or an attack
LOCK_TIMEOUT_MS = 5_000  # nobody waits longer for a row: answer 503 and let the caller retry
SESSION_CLOSE_S = 1.0  # then it is cut off, and PostgreSQL lets go of what it held
_json_text = msgspec.json.Encoder()


async def prepare_connection(conn: "asyncpg.Connection[asyncpg.Record]") -> None:
    """jsonb columns are Python values, encoded and decoded by msgspec."""
    await conn.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: b"\x01" + _json_text.encode(value),  # jsonb's binary form: version 1, then the text
        decoder=lambda raw: msgspec.json.decode(raw[1:]),
    )


async def leave_as_it_is(_: "asyncpg.Connection[asyncpg.Record]") -> None:
    """What a connection goes back to its pool with: nobody changes a session (tests/tidy/test_sessions.py).

    asyncpg has rolled back a transaction that was left open. What must live with a session has one of its own.
    """


class Database:
    """A pool of this worker's connections, with the rights of the role `gateway` whoever logs in; so has all that
    is opened at its `url`."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", url: str) -> None:
        self._pool = pool
        self.url = url

    @classmethod
    async def connect(cls, url: str, *, pool_size: int) -> "Database":
        url = as_gateway(url)
        pool = await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=pool_size,
            init=prepare_connection,
            reset=leave_as_it_is,
            server_settings={
                "application_name": "parasol",
                "statement_timeout": str(STATEMENT_TIMEOUT_MS),
                "lock_timeout": str(LOCK_TIMEOUT_MS),
                "idle_in_transaction_session_timeout": str(STATEMENT_TIMEOUT_MS),
                "timezone": "UTC",
            },
        )
        return cls(pool, url)

    async def close(self) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """READ COMMITTED, committed on leaving, rolled back by any exception (a Refusal too)."""
        async with self._pool.acquire() as conn, conn.transaction():
            yield conn

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """A connection of nobody else's, closed at the end: for a lock that lives as long as its session."""
        conn = await asyncpg.connect(self.url)
        try:
            yield conn
        finally:
            await conn.close(timeout=SESSION_CLOSE_S)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """For single reads: no transaction around them."""
        async with self._pool.acquire() as conn:
            yield conn
