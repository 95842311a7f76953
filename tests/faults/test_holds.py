"""Several workers at once, and one that is killed: nothing is overspent, and no answer was given without its commit."""

import asyncio
import signal
import sys
from collections import defaultdict
from pathlib import Path

from gateway.database import Database
from gateway.ledger.store import trial_balance
from tests.desks import counters
from tests.faults.taker import BUDGET_MINOR, ORDER_MINOR

ROOT = Path(__file__).parents[2]
OFF_MINOR = ORDER_MINOR - 1
WINNERS = BUDGET_MINOR // OFF_MINOR


async def taker(url: str, name: str, first: int, last: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.taker", url, name, str(first), str(last),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def answers_of(process: asyncio.subprocess.Process) -> dict[str, dict[str, str]]:
    """What the worker has said: {"held": {key: id}, "confirmed": …, "refused": {key: code}}."""
    output, _ = await process.communicate()
    said: dict[str, dict[str, str]] = defaultdict(dict)
    for line in output.decode().splitlines():
        words = line.split(" ")
        if len(words) == 3:  # the last line of a killed worker may be cut off
            said[words[0]][words[1]] = words[2]
    return said


async def states(database: Database) -> dict[str, str]:
    async with database.connection() as conn:
        return {row["redemption_id"]: row["state"] for row in await conn.fetch("SELECT * FROM redemption")}


async def check_books(database: Database) -> None:
    """The counters are the sum of the rows, the ledger that of the confirmed ones, and the cap holds."""
    async with database.connection() as conn:
        rows = dict(await conn.fetch("SELECT state, sum(held_minor)::bigint FROM redemption GROUP BY state"))
        posted = {b.account: b.balance_minor for b in await trial_balance(conn)}
        unbooked = await conn.fetchval(
            """SELECT count(*) FROM redemption r FULL JOIN ledger_entry e
               ON e.cause = 'redemption.confirmed:' || r.redemption_id
               FULL JOIN (SELECT * FROM event WHERE type LIKE 'redemption.%') v ON v.event_id = r.funding->>'event_id'
               WHERE (r.state = 'CONFIRMED') IS DISTINCT FROM (e.seq IS NOT NULL)
                  OR (r.state = 'CONFIRMED') IS DISTINCT FROM (v.seq IS NOT NULL)"""
        )
    confirmed, held = rows.get("CONFIRMED", 0), rows.get("HELD", 0)
    taken = (await counters(database)).get("budget|parkco-2026|first-park|CNY", (0, 0, 0))
    assert taken == (confirmed + held, confirmed, 0)
    assert taken[0] <= BUDGET_MINOR
    assert -posted.get("merchant_clearing:parkco:CNY", 0) == confirmed
    assert unbooked == 0, "each confirmed redemption has its entry and its event, and nothing else has"


async def test_two_workers_at_once_sell_exactly_the_budget(database: Database, database_url: str) -> None:
    workers = [await taker(database_url, name, 0, 300) for name in ("a", "b")]
    said = await asyncio.gather(*map(answers_of, workers))
    assert [worker.returncode for worker in workers] == [0, 0]
    assert sum(len(answers["confirmed"]) for answers in said) == WINNERS
    assert sum(len(answers["refused"]) for answers in said) == 600 - WINNERS
    await check_books(database)


async def test_a_killed_worker_has_given_no_answer_that_is_not_committed(database: Database, database_url: str) -> None:
    survivor, victim = await taker(database_url, "a", 0, 100), await taker(database_url, "b", 0, 500)
    assert victim.stdout is not None
    early = [await victim.stdout.readline() for _ in range(120)]  # well into its work, then the plug is pulled
    victim.send_signal(signal.SIGKILL)
    late, _ = await asyncio.gather(answers_of(victim), answers_of(survivor))
    for line in early:
        kind, key, value = line.decode().split()
        late[kind][key] = value
    found = await states(database)
    assert set(late["held"].values()) <= found.keys()
    assert all(found[redemption_id] == "CONFIRMED" for redemption_id in late["confirmed"].values())
    await check_books(database)

    again = await answers_of(await taker(database_url, "b", 0, 500))
    for key, redemption_id in late["held"].items():
        assert again["held"][key] == redemption_id, "the key finds the hold that was answered before the crash"
    await check_books(database)
    assert (await counters(database))["budget|parkco-2026|first-park|CNY"] == (BUDGET_MINOR, BUDGET_MINOR, 0)
