"""The change feed: what every worker must learn within a second (partners, policies, keys, contracts, revocations).

A change is a row written in the transaction that made it, and a NOTIFY. A worker listens, and polls every half second
in case the notification was lost with its connection. Writers take one advisory lock, so rows become visible in `seq`
order and a reader that has seen n has seen everything before n; changes are rare, so nobody queues.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog

from gateway.database.pool import Connection, Database

CHANNEL = "parasol_changes"
POLL_S = 0.5  # two polls fit the promise of one second
_WRITERS = 0x70617261  # advisory lock: "para"
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """`kind` is partner, policy, contract, app_key, grant, operator, consent or bank_key; `key` is the id."""

    seq: int
    kind: str
    key: str


async def announce(conn: Connection, kind: str, key: str, *, now_ms: int) -> None:
    """Tell every worker, when and only when this transaction commits."""
    await conn.execute("SELECT pg_advisory_xact_lock($1)", _WRITERS)
    await conn.execute("INSERT INTO change (kind, key, at_ms) VALUES ($1, $2, $3)", kind, key, now_ms)
    await conn.execute("SELECT pg_notify($1, $2)", CHANNEL, kind)


async def announce_all(conn: Connection, changes: Sequence[tuple[str, str]], *, now_ms: int) -> None:
    """As `announce` does one: (kind, key) in this order, under the writers' lock once, and one NOTIFY a kind."""
    if not changes:
        return
    await conn.execute("SELECT pg_advisory_xact_lock($1)", _WRITERS)
    await conn.execute(
        """INSERT INTO change (kind, key, at_ms) SELECT n.kind, n.key, $3::bigint
           FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS n (kind, key, place) ORDER BY n.place""",
        [kind for kind, _ in changes], [key for _, key in changes], now_ms,
    )  # fmt: skip
    for kind in sorted({kind for kind, _ in changes}):
        await conn.execute("SELECT pg_notify($1, $2)", CHANNEL, kind)


async def latest_seq(conn: Connection) -> int:
    return int(await conn.fetchval("SELECT coalesce(max(seq), 0) FROM change"))


class ChangeFeed:
    """Calls every subscriber with the new changes, in order, in this worker."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._subscribers: list[Callable[[Sequence[Change]], Awaitable[None]]] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.seen_seq = 0
        self._current_at_s = time.monotonic()

    @property
    def age_s(self) -> float:
        """Seconds since this worker last knew that it had missed nothing; above a second something is wrong."""
        return time.monotonic() - self._current_at_s

    def subscribe(self, subscriber: Callable[[Sequence[Change]], Awaitable[None]]) -> None:
        self._subscribers.append(subscriber)

    async def start(self) -> None:
        """From here on nothing is missed. Load snapshots after this call."""
        async with self._database.connection() as conn:
            self.seen_seq = await latest_seq(conn)
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def catch_up(self) -> None:
        """Read what is new now and tell the subscribers; also called at the poll."""
        asked_at_s = time.monotonic()
        async with self._database.connection() as conn:
            rows = await conn.fetch("SELECT seq, kind, key FROM change WHERE seq > $1 ORDER BY seq", self.seen_seq)
        changes = [Change(row["seq"], row["kind"], row["key"]) for row in rows]
        if changes:
            for subscriber in self._subscribers:
                await subscriber(changes)
            self.seen_seq = changes[-1].seq  # only now: a subscriber that failed sees them again
        self._current_at_s = asked_at_s

    async def _follow(self) -> None:
        listener: asyncpg.Connection[asyncpg.Record] | None = None
        try:
            while True:
                try:
                    if listener is None or listener.is_closed():
                        listener = await asyncpg.connect(self._database.url)
                        await listener.add_listener(CHANNEL, self._heard)
                    await self.catch_up()
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                    log.warning("change_feed_interrupted", error=type(error).__name__)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), POLL_S)
                self._wake.clear()
        finally:
            if listener is not None and not listener.is_closed():
                await listener.close()

    def _heard(self, *_: Any) -> None:
        self._wake.set()
