"""`kill -9` in the middle of closing, calculating or booking: the next process goes on, and nothing is done twice."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.settlement.drafts import remove_abandoned, writing_in
from gateway.settlement.verify import verify_files
from tests.api.settling import (
    approved,
    ask_to_calculate,
    ask_to_close,
    calculate,
    close,
    commissions_booked,
    download,
    issue,
    issued,
    jobs,
    reach_goals,
    redeem,
    show_day,
    show_statement,
    today,
)
from tests.conftest import World

ROOT = Path(__file__).parents[2]


async def run_until_killed(world: World, kind: str, *, fatal: int) -> bool:
    """False: it was done before it came to that."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.mortal", world.url, str(world.home), kind, str(fatal),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert (process.returncode, said) in ((-signal.SIGKILL, b""), (0, b"done")), (process.returncode, said)
    return process.returncode != 0


async def kill_again_and_again(world: World, kind: str, *, stride: int) -> int:
    """One after another dies `stride` visits later in its work; how many did."""
    deaths = 0
    while await run_until_killed(world, kind, fatal=2 + deaths * stride):
        deaths += 1
        await world.sql("UPDATE job SET attempts = 0 WHERE state = 'RUNNING'")
        assert deaths < 40
    return deaths


async def states(world: World, kind: str) -> list[str]:
    return [job["Status"] for job in await jobs(world, Kind=kind)]


async def sealed_once(world: World, day: str) -> dict[str, Any]:
    found = await show_day(world, day)
    (counted,) = await world.sql("SELECT count(*) FROM event WHERE business_day = $1::text::date", day)
    assert (found["Status"], found["EventCount"]) == ("SEALED", counted[0])
    told = await world.sql("SELECT count(*) FROM audit WHERE action = 'day.sealed'")
    assert told[0][0] == 1
    return found


async def test_a_closing_that_is_killed_anywhere_is_carried_on(world: World) -> None:
    await redeem(world, "idt_1_a")
    assert (await ask_to_close(world, today())).status_code == 202
    assert await kill_again_and_again(world, "day_closing", stride=6) >= 3
    await sealed_once(world, today())
    assert await states(world, "day_closing") == ["DONE"]


async def test_a_calculation_that_is_killed_anywhere_is_carried_on(world: World, tmp_path: Path) -> None:
    await redeem(world, "idt_1_a")
    worth = await reach_goals(world, 5)
    await close(world, today())
    asked = (await ask_to_calculate(world, today())).json()["Data"]
    assert await kill_again_and_again(world, "statement_calculation", stride=4) >= 3
    statement = await show_statement(world, asked["StatementId"])
    assert statement["Status"] == "CALCULATED"
    (kept,) = await world.sql("SELECT count(*), sum(amount_minor)::bigint FROM statement_commission")
    assert tuple(kept) == (5, worth)
    await approved(world, statement)
    assert (await issue(world, statement)).status_code == 200
    path = tmp_path / "statement.json"
    path.write_bytes((await download(world, asked["StatementId"])).content)
    assert verify_files([path]).accepted
    assert not list((world.home / "statements").glob(f"{asked['StatementId']}.work"))


async def test_what_a_killed_process_left_is_removed_when_nobody_writes_there(world: World) -> None:
    day, statement = world.home / "sealed" / f"{today()}.1.ab.draft", world.home / "statements" / "stm_dead.work"
    await reach_goals(world, 1)
    await close(world, today())
    await calculate(world, today())
    kept = sorted((*day.parent.iterdir(), *statement.parent.iterdir()))
    for draft in (day, day.with_name(f"{day.name}.draft")):  # its own, and that of the Parquet writer under it
        draft.write_bytes(b"half a f")
    statement.mkdir()
    (statement / "accrued.spool").write_text("12 a")
    with writing_in(day.parent), writing_in(statement.parent):
        assert await remove_abandoned(world.home) == 0
    assert day.exists()
    assert statement.exists()
    await world.do_chores()
    assert sorted((*day.parent.iterdir(), *statement.parent.iterdir())) == kept


async def test_a_killed_writer_holds_nothing(world: World, tmp_path: Path) -> None:
    """The lock goes with the process, so that what it left is seen to be nobody's."""
    program = (
        "import os, signal, sys; from pathlib import Path; from gateway.settlement.drafts import writing_in\n"
        "with writing_in(Path(sys.argv[1]) / 'sealed') as folder:\n"
        "    (folder / 'day.draft').touch(); print('writing', flush=True); sys.stdin.read()"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"writing\n"
    assert await remove_abandoned(tmp_path) == 0
    process.kill()
    await process.wait()
    assert await remove_abandoned(tmp_path) == 1
    assert list((tmp_path / "sealed").iterdir()) == []


async def test_a_booking_that_is_killed_anywhere_books_each_commission_once(world: World) -> None:
    worth = await reach_goals(world, 600)  # three steps
    await issued(world, today())
    assert await kill_again_and_again(world, "commission_booking", stride=4) >= 3
    assert await states(world, "commission_booking") == ["DONE"]
    assert await commissions_booked(world) == worth
    (entries,) = await world.sql("SELECT count(*) FROM ledger_entry WHERE cause LIKE 'commission.accrued:%'")
    assert entries[0] == 600


async def test_a_step_books_a_few_hundred_rows_at_most(world: World) -> None:
    await reach_goals(world, 600)
    await issued(world, today())
    await world.do_chores()
    steps = await world.sql(
        "SELECT count(*) FROM ledger_entry WHERE cause LIKE 'commission.accrued:%' GROUP BY xmin::text ORDER BY 1 DESC"
    )
    assert [row[0] for row in steps] == [250, 250, 100]


@pytest.mark.parametrize("again", ["with progress", "without progress"])
async def test_commissions_that_are_in_the_book_already_are_not_booked_again(world: World, again: str) -> None:
    worth = await reach_goals(world, 3)
    statement = await issued(world, today())
    await world.do_chores()
    if again == "without progress":
        await world.sql("UPDATE commission_progress SET booked_through = 0")
    await world.sql("UPDATE job SET state = 'WAITING', finished_at_ms = NULL WHERE kind = 'commission_booking'")
    await world.do_chores()
    assert await states(world, "commission_booking") == ["DONE"]
    assert (await commissions_booked(world), statement["Status"]) == (worth, "CALCULATED")
