"""The connection pool. One request = one transaction; no network call to anybody else inside one.

Nobody waits for a database that does not answer: a connection is had within a few seconds or not at all, and one whose
answer is not waited for any more (the request's deadline has passed) is cut, not asked to finish.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from gateway.database.absence import DatabaseAway, is_disk_full
from gateway.database.deadlines import TaskDeadlines, running
from gateway.database.roles import as_gateway

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]
else:
    Connection = Any

STATEMENT_TIMEOUT_MS = 30_000  # a statement that takes longer is a bug or an attack
LOCK_TIMEOUT_MS = 5_000  # nobody waits longer for a row: answer 503 and let the caller retry
ACQUIRE_S = 5.0  # half a request's deadline: who has no connection by then says so while somebody still listens
ANSWER_S = STATEMENT_TIMEOUT_MS / 1000 + 5.0  # a server that has not even said that the statement took too long is gone
DISK_FULL_S = 15.0  # a disk that was full is taken for full that long; then a request may try again
_LOST = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)  # TimeoutError is an OSError
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
        self._disk_full_at_s = float("-inf")
        self._waits = TaskDeadlines()

    @classmethod
    async def connect(cls, url: str, *, pool_size: int) -> "Database":
        url = as_gateway(url)
        pool = await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=pool_size,
            init=prepare_connection,
            reset=leave_as_it_is,
            command_timeout=ANSWER_S,
            server_settings={
                "application_name": "parasol",
                "statement_timeout": str(STATEMENT_TIMEOUT_MS),
                "lock_timeout": str(LOCK_TIMEOUT_MS),
                "idle_in_transaction_session_timeout": str(STATEMENT_TIMEOUT_MS),
                "timezone": "UTC",
            },
        )
        return cls(pool, url)

    @property
    def disk_is_full(self) -> bool:
        """A statement of ours has just failed for want of room."""
        return time.monotonic() - self._disk_full_at_s < DISK_FULL_S

    async def close(self) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """READ COMMITTED, committed on leaving, rolled back by any exception (a Refusal too).

        Raises DatabaseAway; then nobody knows whether it was committed.
        """
        conn = await self._acquire()
        try:
            transaction = conn.transaction()
            await transaction.start()
            try:
                yield conn
            except Exception as error:
                await self._roll_back(transaction, conn, error)
                raise
            await transaction.commit()
        except BaseException as error:
            self._give_up(conn, error)
            raise
        finally:
            await self._release(conn)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """A connection of nobody else's, closed at the end: for a lock that lives as long as its session.

        Raises DatabaseAway where it cannot be had.
        """
        try:
            conn = await asyncpg.connect(self.url, timeout=ACQUIRE_S)
        except _LOST as error:
            raise DatabaseAway(f"no session: {type(error).__name__}") from error
        try:
            await prepare_connection(conn)
            yield conn
        finally:
            await conn.close(timeout=SESSION_CLOSE_S)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """For single reads: no transaction around them. Raises DatabaseAway."""
        conn = await self._acquire()
        try:
            yield conn
        except BaseException as error:
            self._give_up(conn, error)
            raise
        finally:
            await self._release(conn)

    async def _acquire(self) -> Connection:
        late = False
        self._waits.start(ACQUIRE_S)
        try:
            try:
                return await self._pool.acquire()
            finally:
                late = self._waits.stop()
        except asyncio.CancelledError as error:
            if not late or running().cancelling():  # somebody else's, who has the last word
                raise
            raise DatabaseAway("no connection in time") from error
        except _LOST as error:
            raise DatabaseAway(f"no connection: {type(error).__name__}") from error

    async def _roll_back(self, transaction: Any, conn: Connection, error: Exception) -> None:
        """What broke stays what is told; a connection that cannot even roll back is cut, which does."""
        if _is_unusable(conn, error):
            return
        try:
            await transaction.rollback()
        except _LOST:
            conn.terminate()

    def _give_up(self, conn: Connection, error: BaseException) -> None:
        """Cut the connection whose answer is not waited for, as the polite ways (cancel, roll back, reset) all wait.

        Raises DatabaseAway where the failure was the connection's and its own class does not say so.
        """
        if is_disk_full(error):
            self._disk_full_at_s = time.monotonic()
        if not _is_unusable(conn, error):
            return
        with suppress(asyncpg.InterfaceError):  # it has left the pool already
            conn.terminate()
        if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError | OSError):
            raise DatabaseAway(f"connection lost: {type(error).__name__}") from error

    async def _release(self, conn: Any) -> None:
        """What was done is done: a connection that is lost on its way back into the pool is nobody's failure."""
        with suppress(*_LOST):
            await self._pool.release(conn)


def _is_unusable(conn: Connection, error: BaseException) -> bool:
    """Its answer may still be on its way, or it is closed. asyncpg raises InternalClientError between the server's
    last word and the end of its socket."""
    if isinstance(error, asyncio.CancelledError | TimeoutError | asyncpg.InternalClientError):
        return True
    try:
        return bool(conn.is_closed())
    except asyncpg.InterfaceError:  # it was lost, and has left the pool
        return True
