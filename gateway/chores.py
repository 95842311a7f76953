"""Background work of the back office: who does it (one process, by an advisory lock), how often, and what if it fails.

A chore is an async function that does what is due and says how much that was. It must be safe to repeat: leadership
may pass to another process between any two statements.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
import structlog

from gateway import metrics, watched
from gateway.clock import now_ms
from gateway.database import Database

LEADER = 0x63686F72  # advisory lock: "chor"
ELECTION_S = 1.0  # how long an idle candidate waits, and a leader between looks at its lock's connection
ANSWER_S = 5.0  # a database that takes longer is away: whoever leads lets go of the chores
ROUNDS = 20  # times in a row that a chore with work left is asked again before the others' turn comes
log = structlog.get_logger(__name__)
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Chore:
    """`run` takes the time and returns how many things it did; above zero it is asked again at once."""

    name: str
    every_s: float
    run: Callable[[int], Awaitable[int]]


class BackOffice:
    """One candidate for doing the chores. As many may run as like; the database elects one."""

    def __init__(self, database: Database, chores: Sequence[Chore]) -> None:
        assert len({chore.name for chore in chores}) == len(chores), "a chore's name is its own"
        self._database = database
        self._chores = tuple(chores)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """For the life of a house."""
        task = watched.watch("back office", self.run())
        try:
            yield
        finally:
            await task.end()

    async def run(self) -> None:
        """Until cancelled: stand for election, lead while the lock's connection lives, stand again."""
        await watched.keep_doing("back office", self._stand)

    async def _stand(self) -> None:
        """The lock lives and dies with a connection of its own: no pool may hand that to anybody else."""
        conn = await asyncpg.connect(self._database.url, timeout=ANSWER_S)
        try:
            if await conn.fetchval("SELECT pg_try_advisory_lock($1)", LEADER, timeout=ANSWER_S):
                await self._lead(conn)
        finally:
            conn.terminate()  # a lock that is not held any more, as the server notices, or the loss of one that was
        await asyncio.sleep(ELECTION_S)

    async def _lead(self, conn: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Until the connection is lost, which it raises."""
        log.info("leadership_taken", count=len(self._chores))
        tasks = [watched.watch("chore", self._repeat(chore)) for chore in self._chores]
        try:
            metrics.gauge("parasol_chore_leader", 1)
            while True:
                await conn.fetchval("SELECT 1", timeout=ANSWER_S)
                await asyncio.sleep(ELECTION_S)
        finally:
            metrics.gauge("parasol_chore_leader", 0)
            await asyncio.gather(*(task.end() for task in tasks))

    async def _repeat(self, chore: Chore) -> None:
        while True:
            for _ in range(ROUNDS):
                if not await run_once(chore):
                    break
            await asyncio.sleep(chore.every_s)


class RowsFailed(Exception):
    """Some rows of a run could not be done. Each is in the log by its id; the run counts as failed."""


async def each_alone(
    due: Sequence[Row], do: Callable[[Row], Coroutine[Any, Any, object]], *, named: Callable[[Row], Mapping[str, str]]
) -> int:
    """All rows at once; returns how many. One that fails, or waits for an answer, holds up no other.

    `named` says under which id a failure is logged. Raises RowsFailed when all are through.
    """
    answers = await asyncio.gather(*map(do, due), return_exceptions=True)
    failed = 0
    for row, answer in zip(due, answers, strict=True):
        if isinstance(answer, BaseException):
            log.error("chore_row_failed", **named(row), exc_info=answer)
            failed += 1
    if failed:
        raise RowsFailed(f"{failed} of {len(due)} rows failed")
    return len(due)


async def run_once(chore: Chore) -> int:
    """One run, counted and timed. A failure is logged and counted, and is nothing done: the next period tries again."""
    started = time.perf_counter()
    try:
        done = await chore.run(now_ms())
    except Exception as error:  # one chore's bug must not stop the others
        log.error("chore_failed", chore=chore.name, exc_info=error)
        metrics.count("parasol_chore_runs_total", chore=chore.name, outcome="failed")
        return 0
    metrics.observe("parasol_chore_seconds", time.perf_counter() - started, chore=chore.name)
    metrics.count("parasol_chore_runs_total", chore=chore.name, outcome="done" if done else "idle")
    return done
