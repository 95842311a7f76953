"""Which days can be closed, what closing shuts, and how a sandbox's business date moves."""

from datetime import date
from typing import Any

import asyncpg
import pytest

from tests.api.settling import (
    ask_to_calculate,
    ask_to_close,
    close,
    issue,
    issued,
    jobs,
    later,
    redeem,
    show_day,
    today,
)
from tests.conftest import World


async def refused(world: World, day: str) -> tuple[int, str]:
    answer = await ask_to_close(world, day)
    return answer.status_code, str(answer.json()["code"])


async def move(world: World, body: Any = None) -> Any:
    how = {} if body is None else {"json": body}
    return await world.http.post("/sandbox/v1/business-date", **how)


async def days_with_events(world: World) -> list[str]:
    rows = await world.sql("SELECT DISTINCT business_day FROM event ORDER BY 1")
    return [row[0].isoformat() for row in rows]


@pytest.mark.parametrize(
    "spelling", ["20200102", "2026-W01-1", "2020-1-2", "2020-002", "2020-02-30", "+2020-01-02", "today"]
)
async def test_a_day_has_one_spelling(shared_world: World, spelling: str) -> None:
    assert await refused(shared_world, spelling) == (400, "body_malformed")
    shown = await shared_world.ops("ops-maker", "GET", f"/admin/v1/days/{spelling}")
    asked = await ask_to_calculate(shared_world, spelling)
    assert [(a.status_code, a.json()["code"]) for a in (shown, asked)] == [(400, "body_malformed")] * 2


async def test_a_day_in_other_digits_is_no_path_and_no_day(shared_world: World) -> None:
    assert await refused(shared_world, "２０２０-01-02") == (404, "unknown_path")
    asked = await ask_to_calculate(shared_world, "２０２０-01-02")
    assert (asked.status_code, asked.json()["code"]) == (400, "body_malformed")


async def test_a_day_before_the_last_head_is_refused_and_later_days_still_close(world: World) -> None:
    await redeem(world, "idt_1_a")
    await close(world, today())
    assert await refused(world, "2020-01-01") == (409, "day_behind_head")
    assert await jobs(world, State="WAITING") == []
    assert (await move(world)).status_code == 200
    assert (await close(world, later(today())))["Status"] == "SEALED"


async def test_a_day_after_the_business_date_is_refused(world: World) -> None:
    for day in (later(today()), later(today(), 400), "9998-12-31"):
        assert await refused(world, day) == (409, "day_not_over")
        asked = await ask_to_calculate(world, day)
        assert (asked.status_code, asked.json()["code"]) == (409, "day_not_over")


async def test_a_day_of_long_ago_is_closed_while_none_is_sealed(world: World) -> None:
    assert (await close(world, "2020-01-01"))["Status"] == "SEALED"
    await redeem(world, "idt_1_a")
    assert (await close(world, today()))["Status"] == "SEALED"


async def test_closing_a_day_shuts_all_days_up_to_it(world: World) -> None:
    first = today()
    assert (await move(world, {"Date": later(first, 3)})).status_code == 200
    await close(world, later(first, 3))
    await redeem(world, "idt_1_a")
    assert (await days_with_events(world))[-1] == later(first, 4)
    assert (await show_day(world, later(first, 1)))["Status"] == "SHUT"
    with pytest.raises(asyncpg.RestrictViolationError, match="sealed"):
        await world.sql(
            """INSERT INTO event (event_id, type, occurred_at_ms, recorded_at_ms, business_day, amount_minor, leaf)
               VALUES ('evt_x', 'x', 1789963200000, 1789963200000, $1, 0, '')""",
            date.fromisoformat(later(first, 1)),
        )


async def test_an_earlier_day_with_events_is_sealed_with_the_later_one(world: World) -> None:
    first = today()
    await redeem(world, "idt_1_a")
    await move(world, {"Date": later(first, 2)})
    await redeem(world, "idt_1_b")
    await close(world, later(first, 2))
    sealed = [await show_day(world, later(first, n)) for n in (0, 2)]
    assert [(day["Status"], day["EventCount"] > 0) for day in sealed] == [("SEALED", True)] * 2


async def test_facts_are_recorded_in_the_business_date_once_it_is_ahead_of_the_calendar(world: World) -> None:
    before = today()
    answer = await move(world)
    assert answer.json()["Data"] == {"DateBefore": before, "Date": later(before)}
    await redeem(world, "idt_1_a")
    assert (await days_with_events(world))[-1] == later(before)
    assert (await world.ops("ops-maker", "GET", "/admin/v1/days")).json()["Data"] == {
        "Day": later(before), "Status": "OPEN", "BusinessDate": later(before),
    }  # fmt: skip


async def test_the_business_date_moves_forward_only(world: World) -> None:
    before = today()
    assert (await move(world, {"Date": later(before, 5)})).status_code == 200
    for day in (later(before, 5), later(before), "2020-01-01"):
        answer = await move(world, {"Date": day})
        assert (answer.status_code, answer.json()["code"]) == (409, "business_date_not_forward")
    with pytest.raises(asyncpg.RestrictViolationError, match="forward"):
        await world.sql("UPDATE sandbox_business_date SET day = day - 1")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"Date": "9998-12-31"}, "business_date_too_far"),
        ({"Date": "20300102"}, "body_malformed"),
        ({"Day": "2030-01-02"}, "body_malformed"),
        (["2030-01-02"], "body_malformed"),
    ],
)
async def test_a_date_that_cannot_be_moved_to_is_refused(shared_world: World, body: Any, code: str) -> None:
    answer = await move(shared_world, body)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


async def test_asking_twice_is_asking_once(world: World) -> None:
    await redeem(world, "idt_1_a")
    first, second = await ask_to_close(world, today()), await ask_to_close(world, today())
    assert first.json()["Data"]["JobId"] == second.json()["Data"]["JobId"]
    await world.do_chores()
    again = await ask_to_close(world, today())
    assert (again.status_code, again.json()["Data"]["Status"]) == (202, "SEALED")
    assert len(await jobs(world, Kind="day_closing")) == 1
    asked = await world.sql("SELECT count(*) FROM audit WHERE action = 'day.closure_requested'")
    assert asked[0][0] == 1


async def test_the_next_statement_begins_on_the_day_after_the_last_one(world: World) -> None:
    await redeem(world, "idt_1_a")
    first = await issued(world, today())
    await move(world, {"Date": later(today(), 2)})
    await redeem(world, "idt_1_b")
    second = await issued(world, later(today(), 2))
    assert (second["FromDay"], second["ToDay"]) == (later(first["ToDay"]), later(today(), 2))
    assert (await issue(world, second)).status_code == 409
    again = await ask_to_calculate(world, later(today(), 2))
    assert (again.status_code, again.json()["code"]) == (409, "state_conflict")


async def test_no_statement_reaches_into_a_day_that_is_still_open(world: World) -> None:
    """What is recorded in that day later would be on no statement: the next one begins on the day after."""
    await redeem(world, "idt_1_a")
    await close(world, today())
    assert (await move(world)).status_code == 200
    asked = await ask_to_calculate(world, later(today()))  # nothing was recorded in it yet
    assert (asked.status_code, asked.json()["code"]) == (409, "day_not_sealed")
    await redeem(world, "idt_1_b")
    assert (await close(world, later(today())))["Status"] == "SEALED"
    assert (await ask_to_calculate(world, later(today()))).status_code == 202
