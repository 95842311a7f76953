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

from gateway import watched
from gateway.database.expiry import Expiry
from gateway.database.pool import Connection, Database

CHANNEL = "parasol_changes"
POLL_S = 0.5  # two polls fit the promise of one second
ANSWER_S = 2.0  # a database that takes longer over one small table is frozen or cut off: try a new session
TURN_S = 10.0  # and subscribers that take longer wait for it: the turn fails, and the picture's age says so
_WRITERS = 0x70617261  # advisory lock: "para"
# The oldest go first, the newest one never: a worker that does not find the one it has seen last knows what it missed.
CHANGES = Expiry(
    "change",
    "at_ms < $1",
    kept_ms=2 * 86_400_000,
    statement="""
        WITH oldest AS (SELECT seq, at_ms FROM change ORDER BY seq LIMIT $2)
        DELETE FROM change WHERE seq < coalesce(
            (SELECT min(seq) FROM oldest WHERE NOT at_ms < $1), (SELECT max(seq) FROM oldest))""",
)


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


class ChangesMissed(Exception):
    """What this process has not read yet is gone already: it cannot know any more what it should."""


class ChangeFeed:
    """Calls every subscriber with the new changes, in order, in this worker. `clock_s` is what its age is told by."""

    def __init__(self, database: Database, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock_s = clock_s
        self._subscribers: list[Callable[[Sequence[Change]], Awaitable[None]]] = []
        self._wake = asyncio.Event()
        self._following: watched.Watched | None = None
        self._listener: asyncpg.Connection[asyncpg.Record] | None = None
        self.seen_seq = 0
        self._current_at_s = clock_s()

    @property
    def age_s(self) -> float:
        """Seconds since this worker last knew that it had missed nothing; above a second something is wrong."""
        return self._clock_s() - self._current_at_s

    def subscribe(self, subscriber: Callable[[Sequence[Change]], Awaitable[None]]) -> None:
        self._subscribers.append(subscriber)

    async def start(self) -> None:
        """From here on nothing is missed. Load snapshots after this call."""
        async with self._database.connection() as conn:
            self.seen_seq = await latest_seq(conn)
        self._following = watched.watch("change feed", self._follow())

    async def stop(self) -> None:
        if self._following is not None:
            await self._following.end()

    async def catch_up(self) -> None:
        """Read what is new now and tell the subscribers."""
        async with self._database.connection() as conn:
            await self._tell(conn)

    async def _tell(self, conn: Connection) -> None:
        asked_at_s = self._clock_s()
        seen_seq = self.seen_seq  # another reader may move it while we wait
        rows = await conn.fetch(
            "SELECT seq, kind, key FROM change WHERE seq >= $1 ORDER BY seq", seen_seq, timeout=ANSWER_S
        )
        if seen_seq and (not rows or rows[0]["seq"] != seen_seq):
            watched.leave("change feed")
            raise ChangesMissed(f"change {seen_seq} is not there any more")
        changes = [Change(row["seq"], row["kind"], row["key"]) for row in rows if row["seq"] > seen_seq]
        if changes:
            for subscriber in self._subscribers:
                await subscriber(changes)
            self.seen_seq = max(self.seen_seq, changes[-1].seq)  # only now: a subscriber that failed sees them again
        self._current_at_s = asked_at_s

    async def _follow(self) -> None:
        try:
            await watched.keep_doing("change feed", self._turn)
        finally:
            self._hang_up()

    async def _turn(self) -> None:
        """Hear what is new, by a session of its own: a pool that is used up must not keep a suspension from biting."""
        heard = False
        try:
            async with asyncio.timeout(TURN_S):
                if self._listener is None or self._listener.is_closed():
                    self._listener = await self._listen()
                await self._tell(self._listener)
            heard = True
        finally:
            if not heard:
                self._hang_up()  # whatever state the session is in
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):  # not wait_for: on Python 3.11 that loses a cancellation to a NOTIFY
                await self._wake.wait()
        self._wake.clear()

    async def _listen(self) -> "asyncpg.Connection[asyncpg.Record]":
        listener = await asyncpg.connect(self._database.url, timeout=ANSWER_S)
        listener.add_termination_listener(self._heard)  # a session that was ended: read again at once
        await listener.add_listener(CHANNEL, self._heard)
        return listener

    def _hang_up(self) -> None:
        if self._listener is not None:
            self._listener.remove_termination_listener(self._heard)
            self._listener.terminate()
            self._listener = None

    def _heard(self, *_: Any) -> None:
        self._wake.set()
