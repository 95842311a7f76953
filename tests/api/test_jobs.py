"""Jobs as operators see them: listed, looked at, tried again, withdrawn with a reason; and shown in the console."""

import json
from typing import Any

import pytest

from tests.api.settling import (
    approve,
    ask_to_calculate,
    ask_to_close,
    calculate,
    change_as_superuser,
    close,
    issued,
    jobs,
    reach_goals,
    redeem,
    show_day,
    show_statement,
    today,
)
from tests.api.test_console import enter, key_of
from tests.conftest import World


async def act(world: World, job: dict[str, Any], action: str, **body: Any) -> Any:
    how = {"json": body} if body else {}
    return await world.ops("ops-maker", "POST", f"/admin/v1/jobs/{job['JobId']}/{action}", **how)


async def a_failed_calculation(world: World) -> tuple[dict[str, Any], dict[str, Any]]:
    """The statement and its job: the day's file is lost and a leaf is another one."""
    await redeem(world, "idt_1_a")
    await close(world, today())
    await swap_a_byte(world)
    (world.home / "sealed" / f"{today()}.parquet").unlink()
    statement = await calculate(world, today())
    (job,) = await jobs(world, Kind="statement_calculation")
    assert (statement["Status"], job["Status"]) == ("FAILED", "FAILED")
    return statement, job


async def swap_a_byte(world: World) -> None:
    """Doing it again undoes it."""
    await change_as_superuser(
        world, "event", "UPDATE {table} SET leaf = set_byte(leaf, 30, get_byte(leaf, 30) # 1) WHERE partner = 'parkco'"
    )


async def test_jobs_are_listed_by_state_kind_and_partner(world: World) -> None:
    await redeem(world, "idt_1_a")
    await close(world, today())
    await ask_to_calculate(world, today())
    assert [job["Kind"] for job in await jobs(world)] == ["statement_calculation", "day_closing"]
    assert [job["Kind"] for job in await jobs(world, State="DONE")] == ["day_closing"]
    assert [job["Kind"] for job in await jobs(world, PartnerId="parkco")] == ["statement_calculation"]
    assert await jobs(world, PartnerId="shopco") == []
    (job,) = await jobs(world, Kind="day_closing")
    shown = (await world.ops("ops-checker", "GET", f"/admin/v1/jobs/{job['JobId']}")).json()["Data"]
    assert (shown, shown["Day"], shown["RequestedBy"]) == (job, today(), "ops-maker")


@pytest.mark.parametrize("filters", [{"State": "SLEEPING"}, {"Kind": "gardening"}])
async def test_a_filter_that_nothing_can_match_is_refused(shared_world: World, filters: dict[str, str]) -> None:
    answer = await shared_world.ops("ops-maker", "GET", "/admin/v1/jobs", params=filters)
    assert (answer.status_code, answer.json()["code"]) == (400, "job_filter_invalid")


async def test_jobs_are_for_operators_and_an_unknown_one_is_not_found(shared_world: World) -> None:
    assert (await shared_world.http.get("/admin/v1/jobs")).status_code == 401
    for method, tail in (("GET", ""), ("POST", "/retry"), ("POST", "/withdrawal")):
        body = {"json": {"Reason": "x"}} if tail else {}
        answer = await shared_world.ops("ops-maker", method, f"/admin/v1/jobs/job_none{tail}", **body)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_resource")


async def test_a_failed_calculation_is_tried_again_once_its_cause_is_mended(world: World) -> None:
    statement, job = await a_failed_calculation(world)
    await swap_a_byte(world)
    answer = await act(world, job, "retry", Reason="the cause is mended")
    assert (answer.status_code, answer.json()["Data"]["Status"]) == (200, "WAITING")
    assert (await show_statement(world, statement["StatementId"]))["Status"] == "CALCULATING"
    await world.do_chores()
    assert (await show_statement(world, statement["StatementId"]))["Status"] == "CALCULATED"
    told = await world.sql("SELECT actor FROM audit WHERE action = 'job.retried'")
    assert [row["actor"] for row in told] == ["ops-maker"]
    done = await act(world, job, "retry", Reason="the cause is mended")
    assert (done.status_code, done.json()["code"]) == (409, "state_conflict")


async def test_a_failed_calculation_is_not_tried_again_behind_a_later_one(world: World) -> None:
    _, job = await a_failed_calculation(world)
    await swap_a_byte(world)
    later = await calculate(world, today())
    assert (later["Number"], later["Status"]) == (2, "CALCULATED")
    answer = await act(world, job, "retry", Reason="the cause is mended")
    assert (answer.status_code, answer.json()["code"]) == (409, "state_conflict")


async def test_a_waiting_calculation_is_withdrawn_with_a_reason_and_blocks_nothing(world: World) -> None:
    await redeem(world, "idt_1_a")
    await close(world, today())
    asked = (await ask_to_calculate(world, today())).json()["Data"]
    (job,) = await jobs(world, State="WAITING")
    assert (await act(world, job, "withdrawal", Reason="")).status_code == 400
    answer = await act(world, job, "withdrawal", Reason="asked for too early")
    assert answer.json()["Data"]["Status"] == "WITHDRAWN"
    statement = await show_statement(world, asked["StatementId"])
    assert (statement["Status"], statement["Failure"]) == (
        "FAILED", "withdrawn by ops-maker: asked for too early",
    )  # fmt: skip
    assert (await calculate(world, today()))["Number"] == 2
    again = await act(world, job, "withdrawal", Reason="once more")
    assert (again.status_code, again.json()["code"]) == (409, "state_conflict")
    told = await world.sql("SELECT detail FROM audit WHERE action = 'job.withdrawn'")
    assert [row["detail"]["reason"] for row in told] == ["asked for too early"]


async def test_a_withdrawn_closing_can_be_asked_for_again(world: World) -> None:
    await redeem(world, "idt_1_a")
    await ask_to_close(world, today())
    (job,) = await jobs(world)
    await act(world, job, "withdrawal", Reason="not today")
    await world.do_chores()
    assert (await show_day(world, today()))["Status"] == "OPEN"
    assert (await close(world, today()))["Status"] == "SEALED"


async def test_what_an_issued_statement_owes_is_not_withdrawn(world: World) -> None:
    await reach_goals(world, 1)
    await issued(world, today())
    (job,) = await jobs(world, Kind="commission_booking")
    answer = await act(world, job, "withdrawal", Reason="too dear")
    assert (answer.status_code, answer.json()["code"]) == (409, "state_conflict")


async def test_one_poisoned_partner_delays_no_other(world: World) -> None:
    """Its facts lead nowhere: its statement fails with the event's name, the other's is calculated."""
    await redeem(world, "idt_1_a")
    rows = await world.sql("SELECT leaf FROM event WHERE type = 'redemption.confirmed'")
    leaf = json.loads(rows[0]["leaf"])
    await record_lie(world, {**leaf, "event_id": "evt_lie", "partner": "shopco"})
    await close(world, today())
    poisoned, good = await ask_to_calculate(world, today(), "shopco"), await ask_to_calculate(world, today(), "parkco")
    await world.do_chores()
    failed, done = [await show_statement(world, a.json()["Data"]["StatementId"]) for a in (poisoned, good)]
    assert (failed["Status"], done["Status"]) == ("FAILED", "CALCULATED")
    assert "evt_lie" in failed["Failure"]
    assert (await approve(world, done, "ops-maker", "maker")).status_code == 200


async def record_lie(world: World, leaf: dict[str, Any]) -> None:
    """A redemption of the one partner under the contract of the other."""
    await world.sql(
        """INSERT INTO event (event_id, type, partner, contract, contract_version, occurred_at_ms, recorded_at_ms,
             business_day, currency, amount_minor, subject_token, leaf)
           SELECT $1, type, $2, contract, contract_version, occurred_at_ms, recorded_at_ms, business_day, currency,
             amount_minor, subject_token, $3 FROM event WHERE type = 'redemption.confirmed' LIMIT 1""",
        leaf["event_id"], leaf["partner"], json.dumps(leaf, sort_keys=True, separators=(",", ":")).encode(),
    )  # fmt: skip


async def test_the_console_shows_state_attempts_failure_and_next_try(world: World) -> None:
    _, job = await a_failed_calculation(world)
    await ask_to_calculate(world, today())
    cookie = await enter(world, key_of(world, "ops-maker"))
    page = (await world.http.get("/console", headers={"Cookie": cookie})).text
    for text in ('id="jobs"', job["JobId"], "FAILED", "are not those that were sealed", "WAITING"):
        assert text in page
