"""Closing a day and settling it, through the operators' and the partners' doors."""

from datetime import date, timedelta
from pathlib import Path

import asyncpg
import pytest

from gateway.settlement.verify import verify_files
from tests.api.settling import REASON, approve, calculate, close, issue, later, redeem, today
from tests.api.settling import issued as settled
from tests.conftest import World


async def test_a_statement_goes_from_a_closed_day_to_the_partner_who_verifies_it(world: World, tmp_path: Path) -> None:
    await redeem(world, "idt_1_a")
    statement = await settled(world, today())
    client = world.client("parkco")
    listed = (await client.call("GET", "/partner/v1/statements")).json()["Data"]["Statement"]
    assert [entry["StatementId"] for entry in listed] == [statement["StatementId"]]
    assert listed[0]["Net"] == {"Amount": "12.00", "Currency": "CNY"}
    file = await client.call("GET", f"/partner/v1/statements/{statement['StatementId']}/file")
    path = tmp_path / "statement.json"
    path.write_bytes(file.content)
    jwks = (await world.http.get("/.well-known/statement-keys")).json()
    assert verify_files([path], jwks=jwks).accepted


async def test_two_statements_follow_each_other_and_verify_together(world: World, tmp_path: Path) -> None:
    paths = []
    for number in range(2):
        await redeem(world, f"idt_1_{number}")
        day = (await world.ops("ops-maker", "GET", "/admin/v1/days")).json()["Data"]["Day"]
        if number:
            moved = await world.http.post("/sandbox/v1/business-date")
            assert moved.json()["Data"] == {"DateBefore": today(), "Date": day}
        statement = await settled(world, day)
        file = await world.client("parkco").call("GET", f"/partner/v1/statements/{statement['StatementId']}/file")
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_bytes(file.content)
    assert verify_files(paths).accepted


async def test_a_fact_after_the_closing_belongs_to_the_next_day(world: World) -> None:
    await redeem(world, "idt_1_a")
    closed = await close(world, today())
    assert closed["Status"] == "SEALED"
    await redeem(world, "idt_1_b")
    rows = await world.sql("SELECT business_day, count(*) FROM event GROUP BY 1 ORDER BY 1")
    assert [row[0] for row in rows] == [date.fromisoformat(today()), date.fromisoformat(today()) + timedelta(days=1)]


async def test_closing_twice_is_closing_once(world: World) -> None:
    await redeem(world, "idt_1_a")
    assert await close(world, today()) == await close(world, today())


async def test_a_day_that_has_not_come_is_not_closed(world: World) -> None:
    answer = await world.ops("ops-maker", "POST", f"/admin/v1/days/{later(today())}/closure", json=REASON)
    assert (answer.status_code, answer.json()["code"]) == (409, "day_not_over")


async def test_a_day_that_is_no_day_says_how_to_write_one(world: World) -> None:
    answer = await world.ops("ops-maker", "POST", "/admin/v1/days/yesterday/closure", json=REASON)
    assert (answer.status_code, answer.json()["code"]) == (400, "body_malformed")


async def test_no_statement_over_a_day_that_is_not_sealed(world: World) -> None:
    await redeem(world, "idt_1_a")
    answer = await world.ops(
        "ops-maker", "POST", "/admin/v1/statements", json={"PartnerId": "parkco", "ToDay": today(), **REASON}
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "day_not_sealed")


async def test_no_statement_for_somebody_unknown(world: World) -> None:
    answer = await world.ops(
        "ops-maker", "POST", "/admin/v1/statements", json={"PartnerId": "x", "ToDay": today(), **REASON}
    )
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_resource")


async def test_one_statement_is_in_the_making_at_a_time(world: World) -> None:
    await redeem(world, "idt_1_a")
    await close(world, today())
    await calculate(world, today())
    answer = await world.ops(
        "ops-maker", "POST", "/admin/v1/statements", json={"PartnerId": "parkco", "ToDay": today(), **REASON}
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "state_conflict")


async def test_four_eyes_the_maker_first_then_somebody_else_who_is_a_checker(world: World) -> None:
    await redeem(world, "idt_1_a")
    await close(world, today())
    statement = await calculate(world, today())
    assert (await issue(world, statement)).json()["code"] == "approval_missing"
    early = await approve(world, statement, "ops-checker", "checker")
    assert (early.status_code, early.json()["code"]) == (409, "approval_missing")
    posing = await approve(world, statement, "ops-checker", "maker")
    assert (posing.status_code, posing.json()["code"]) == (403, "approval_role_missing")
    assert (await approve(world, statement, "ops-maker", "maker")).status_code == 200
    again = await approve(world, statement, "ops-maker", "maker")
    assert (again.status_code, again.json()["code"]) == (403, "approval_by_same_person")
    assert (await issue(world, statement)).json()["code"] == "approval_missing"


async def test_an_approval_names_the_file_that_was_looked_at(world: World) -> None:
    await redeem(world, "idt_1_a")
    await close(world, today())
    statement = await calculate(world, today())
    answer = await approve(world, statement, "ops-maker", "maker", Sha256="00" * 32)
    assert (answer.status_code, answer.json()["code"]) == (409, "state_conflict")


async def test_what_is_not_issued_does_not_exist_for_the_partner(world: World) -> None:
    await redeem(world, "idt_1_a")
    await close(world, today())
    statement = await calculate(world, today())
    client = world.client("parkco")
    assert (await client.call("GET", "/partner/v1/statements")).json()["Data"]["Statement"] == []
    answer = await client.call("GET", f"/partner/v1/statements/{statement['StatementId']}/file")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_resource")


async def test_a_statement_of_another_partner_is_not_found(world: World) -> None:
    await redeem(world, "idt_1_a")
    statement = await settled(world, today())
    for tail in ("", "/file"):
        answer = await world.client("shopco").call("GET", f"/partner/v1/statements/{statement['StatementId']}{tail}")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_resource")


async def test_an_issued_statement_is_immutable_in_the_database_too(world: World) -> None:
    await redeem(world, "idt_1_a")
    statement = await settled(world, today())
    with pytest.raises(asyncpg.RestrictViolationError):
        await world.sql("UPDATE statement SET totals = '{}' WHERE statement_id = $1", statement["StatementId"])
    with pytest.raises(asyncpg.RestrictViolationError):
        await world.sql("INSERT INTO statement_commission VALUES ($1, 1, 'evt_x', 1)", statement["StatementId"])


async def test_the_database_issues_nothing_without_two_people(world: World) -> None:
    await redeem(world, "idt_1_a")
    await close(world, today())
    statement = await calculate(world, today())
    assert (await approve(world, statement, "ops-maker", "maker")).status_code == 200
    with pytest.raises(asyncpg.RestrictViolationError, match="two people"):
        await world.sql("UPDATE statement SET state = 'ISSUED' WHERE statement_id = $1", statement["StatementId"])


async def test_no_event_slips_into_a_sealed_day(world: World) -> None:
    await redeem(world, "idt_1_a")
    await close(world, today())
    with pytest.raises(asyncpg.RestrictViolationError, match="sealed"):
        await world.sql(
            """INSERT INTO event (event_id, type, occurred_at_ms, recorded_at_ms, business_day, amount_minor, leaf)
               VALUES ('evt_x', 'x', 1789963200000, 1789963200000, $1, 0, '')""",
            date.fromisoformat(today()),
        )


async def test_a_closure_that_was_cut_off_is_carried_on(world: World) -> None:
    """The day was shut, and the process died before it was sealed: the chore seals it, with the same events."""
    await redeem(world, "idt_1_a")
    day = date.fromisoformat(today())
    asked = await world.ops("ops-maker", "POST", f"/admin/v1/days/{day.isoformat()}/closure", json=REASON)
    assert asked.status_code == 202
    await world.sql("INSERT INTO business_day (day, state, changed_at_ms) VALUES ($1, 'SEALING', 1)", day)
    await redeem(world, "idt_1_b")
    await world.do_chores()
    shown = (await world.ops("ops-maker", "GET", f"/admin/v1/days/{day.isoformat()}")).json()["Data"]
    counted = (await world.sql("SELECT count(*) FROM event WHERE business_day = $1", day))[0][0]
    assert (shown["Status"], shown["EventCount"]) == ("SEALED", counted)


async def test_every_step_is_in_the_audit_trail_with_who(world: World) -> None:
    await redeem(world, "idt_1_a")
    await settled(world, today())
    rows = await world.sql("SELECT actor, action FROM audit WHERE action LIKE 'statement.%' OR action LIKE 'day.%'")
    steps = [(row["actor"], row["action"]) for row in rows]
    assert ("ops-maker", "day.sealed") in steps
    assert [actor for actor, action in steps if action == "statement.approved"] == ["ops-maker", "ops-checker"]
    assert ("ops-checker", "statement.issued") in steps
