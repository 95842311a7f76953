"""The back office: one leader among candidates, another when it goes, a failing chore that holds nobody up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from gateway.chores import LEADER, BackOffice, Chore, run_once
from gateway.database import Connection, Database
from tests.conftest import past_all_rules

PATIENCE_S = 10.0


class Tally:
    """A chore that says when it ran."""

    def __init__(self, *, work: int = 0) -> None:
        self.runs = 0
        self.left = work
        self.ran = asyncio.Event()

    async def __call__(self, now_ms: int) -> int:
        self.runs += 1
        self.ran.set()
        done, self.left = min(self.left, 1), max(self.left - 1, 0)
        return done


async def broken(now_ms: int) -> int:
    raise RuntimeError("a bug")


@asynccontextmanager
async def working(database: Database, *chores: Chore) -> AsyncIterator[None]:
    async with BackOffice(database, chores).working():
        yield


async def leaders(conn: Connection) -> list[int]:
    rows = await conn.fetch(
        """SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND granted
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())""",
        LEADER,
    )
    return [row["pid"] for row in rows]


async def test_of_two_candidates_only_one_works(database: Database) -> None:
    first, second = Tally(), Tally()
    async with asyncio.timeout(PATIENCE_S), working(database, Chore("count", 0.01, first)):
        await first.ran.wait()
        async with working(database, Chore("count", 0.01, second)):
            for _ in range(20):
                await first_again(first)
            assert len(await leader_pids(database)) == 1
    assert second.runs == 0


async def first_again(tally: Tally) -> None:
    tally.ran.clear()
    await tally.ran.wait()


async def leader_pids(database: Database) -> list[int]:
    conn = await asyncpg.connect(database.url)
    try:
        return await leaders(conn)
    finally:
        await conn.close()


async def end_leader(database: Database) -> None:
    """Cut the connection that holds the lock, as a crash of its process would."""
    async with past_all_rules(database.url) as conn:
        for pid in await leaders(conn):
            await conn.execute("SELECT pg_terminate_backend($1)", pid)


async def test_the_next_candidate_takes_over_when_the_leader_ends(database: Database) -> None:
    first, second = Tally(), Tally()
    async with asyncio.timeout(PATIENCE_S):
        async with working(database, Chore("count", 0.05, first)):
            await first.ran.wait()
            heir = working(database, Chore("count", 0.05, second))
            await heir.__aenter__()
        await second.ran.wait()
        await heir.__aexit__(None, None, None)


async def test_a_leader_that_lost_its_connection_leads_again(database: Database) -> None:
    tally = Tally()
    async with asyncio.timeout(PATIENCE_S), working(database, Chore("count", 0.05, tally)):
        await tally.ran.wait()
        before = await leader_pids(database)
        await end_leader(database)
        while (now := await leader_pids(database)) == before or not now:
            await first_again(tally) if now else await asyncio.sleep(0.05)


async def test_a_failing_chore_does_not_stop_the_others_or_itself(database: Database) -> None:
    tally = Tally()
    async with asyncio.timeout(PATIENCE_S):
        async with working(database, Chore("bug", 0.01, broken), Chore("count", 0.01, tally)):
            while tally.runs < 5:
                await first_again(tally)


async def test_a_chore_with_work_left_is_asked_again_at_once(database: Database) -> None:
    tally = Tally(work=7)
    async with asyncio.timeout(PATIENCE_S), working(database, Chore("count", 3600.0, tally)):
        while tally.runs < 8:  # seven things done, then the run that finds nothing; the next would come in an hour
            await first_again(tally)
    assert tally.left == 0


async def test_a_run_says_how_much_it_did_and_a_failed_one_nothing() -> None:
    assert await run_once(Chore("count", 1.0, Tally(work=1))) == 1
    assert await run_once(Chore("bug", 1.0, broken)) == 0
