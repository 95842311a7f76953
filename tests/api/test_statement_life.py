"""A statement can fail or be refused: the next has a new number, and nothing is blocked."""

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from gateway.clock import now_ms
from gateway.jobs.runner import JobRunner
from gateway.settlement.day_closing import DayClosing
from gateway.settlement.sealed_files import SealedFiles
from gateway.settlement.statement_process import Order, carry_out
from tests.api.settling import (
    approved,
    ask_to_calculate,
    ask_to_close,
    calculate,
    change_as_superuser,
    close,
    download,
    issue,
    issued,
    jobs,
    later,
    redeem,
    refuse,
    show_statement,
    today,
)
from tests.conftest import World


def file_of(world: World, statement: dict[str, Any]) -> Path:
    return world.home / "statements" / f"{statement['StatementId']}.statement"


async def a_closed_day(world: World) -> str:
    await redeem(world, "idt_1_a")
    await close(world, today())
    return today()


@pytest.mark.parametrize("operator", ["ops-maker", "ops-checker"])
async def test_a_calculated_statement_is_refused_with_a_reason_and_the_next_has_the_next_number(
    world: World, operator: str
) -> None:
    day = await a_closed_day(world)
    first = await calculate(world, day)
    answer = await refuse(world, first, operator)
    assert answer.json()["Data"] == {"StatementId": first["StatementId"], "Status": "REFUSED"}
    shown = await show_statement(world, first["StatementId"])
    assert (shown["Status"], shown["Failure"]) == (
        "REFUSED", f"refused by {operator}: the price of lot-1 is last year's",
    )  # fmt: skip
    second = await calculate(world, day)
    assert (second["Number"], second["Status"], second["FromDay"]) == (2, "CALCULATED", first["FromDay"])
    told = await world.sql("SELECT actor FROM audit WHERE action = 'statement.refused'")
    assert [row["actor"] for row in told] == [operator]


async def test_an_approved_statement_is_refused_and_an_issued_one_is_not(world: World) -> None:
    day = await a_closed_day(world)
    first = await calculate(world, day)
    await approved(world, first)
    assert (await refuse(world, first)).status_code == 200
    assert (await issue(world, first)).json()["code"] == "state_conflict"
    second = await calculate(world, day)
    await approved(world, second)
    await issue(world, second)
    answer = await refuse(world, second)
    assert (answer.status_code, answer.json()["code"]) == (409, "state_conflict")


async def test_a_refusal_says_why(world: World) -> None:
    day = await a_closed_day(world)
    statement = await calculate(world, day)
    path = f"/admin/v1/statements/{statement['StatementId']}/refusal"
    for body in ({}, {"Reason": ""}, {"Reason": "x" * 301}):
        answer = await world.ops("ops-maker", "POST", path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "body_malformed")


async def test_a_failed_statement_blocks_nothing_and_its_number_is_not_used_again(world: World) -> None:
    day = await a_closed_day(world)
    await change_as_superuser(
        world, "event", "UPDATE {table} SET leaf = replace(leaf::text, '5', '6')::bytea WHERE partner = 'parkco'"
    )
    (world.home / "sealed" / f"{day}.parquet").unlink()
    failed = await calculate(world, day)
    assert (failed["Number"], failed["Status"]) == (1, "FAILED")
    for number in (2, 3):
        again = await ask_to_calculate(world, day)
        assert (again.status_code, again.json()["Data"]["Number"]) == (202, number)
        await world.do_chores()
        assert (await show_statement(world, again.json()["Data"]["StatementId"]))["Status"] == "FAILED"


async def test_a_currency_without_facts_is_refused_and_the_only_one_needs_no_name(world: World) -> None:
    day = await a_closed_day(world)
    answer = await ask_to_calculate(world, day, Currency="EUR")
    assert (answer.status_code, answer.json()["code"]) == (409, "currency_without_facts")
    named = await ask_to_calculate(world, day, Currency="CNY")
    assert (named.status_code, named.json()["Data"]["Currency"]) == (202, "CNY")


async def test_with_facts_in_several_currencies_one_must_be_named(world: World) -> None:
    day = await a_closed_day(world)
    await world.sql("INSERT INTO sealed_currency (day, partner_id, currency) SELECT max(day), 'parkco', 'EUR' "
                    "FROM sealed_day")  # fmt: skip
    answer = await ask_to_calculate(world, day)
    assert (answer.status_code, answer.json()["code"]) == (409, "currency_not_named")
    assert "CNY, EUR" in answer.json()["detail"]
    made = [await ask_to_calculate(world, day, Currency=currency) for currency in ("CNY", "EUR")]
    assert [answer.json()["Data"]["Number"] for answer in made] == [1, 1]


async def test_a_version_recorded_after_the_days_of_a_statement_changes_nothing_in_it(world: World) -> None:
    day = await a_closed_day(world)
    await record_unknown_version(world, starts=later(day, 2), told=later(day))
    assert (await calculate(world, day))["Status"] == "CALCULATED"


async def record_unknown_version(world: World, *, starts: str, told: str) -> None:
    """Its `contract.effective` is not in the days that are sealed."""
    await world.sql(
        """INSERT INTO document (kind, id, version, partner_id, body, sha256, applied_at_ms, applied_by, starts_ms,
             ends_ms, currency)
           SELECT kind, id, 99, partner_id, body || '{"a_term_of_tomorrow": {}}', sha256('x'),
             extract(epoch FROM $2::text::date AT TIME ZONE 'Asia/Shanghai')::bigint * 1000, applied_by,
             extract(epoch FROM $1::text::date AT TIME ZONE 'Asia/Shanghai')::bigint * 1000, ends_ms, currency
           FROM document WHERE kind = 'contract' AND partner_id = 'parkco' ORDER BY version DESC LIMIT 1""",
        starts,
        told,
    )


async def test_the_ledger_has_the_commissions_once_the_job_is_done(world: World) -> None:
    await redeem(world, "idt_1_a")
    statement = await issued(world, today())
    (job,) = await jobs(world, Kind="commission_booking")
    assert (job["Status"], job["StatementId"]) == ("WAITING", statement["StatementId"])
    await world.do_chores()
    (job,) = await jobs(world, Kind="commission_booking")
    assert (job["Status"], job["Attempts"]) == ("DONE", 1)


async def test_a_statements_file_is_for_nobody_elses_eyes(world: World) -> None:
    await redeem(world, "idt_1_a")
    statement = await issued(world, today())
    file, sealed = file_of(world, statement), world.home / "sealed" / f"{today()}.parquet"
    for path, mode in ((file, 0o600), (file.parent, 0o700), (sealed, 0o600), (sealed.parent, 0o700)):
        assert stat.S_IMODE(path.stat().st_mode) == mode, path


@pytest.mark.parametrize("spoilt", ["missing", "changed", "cut", "a pipe"])
async def test_a_download_that_is_not_on_this_disk_is_made_again_byte_for_byte(world: World, spoilt: str) -> None:
    await redeem(world, "idt_1_a")
    statement = await issued(world, today())
    whole = (await download(world, statement["StatementId"])).content
    path = file_of(world, statement)
    if spoilt in ("missing", "a pipe"):
        path.unlink()
        if spoilt == "a pipe":
            os.mkfifo(path)
    else:
        path.write_bytes(whole.replace(b"1", b"2", 1) if spoilt == "changed" else whole[:-1])
    away = await download(world, statement["StatementId"])
    assert (away.status_code, away.json()["code"], away.headers["retry-after"]) == (503, "statement_file_away", "10")
    assert (await download(world, statement["StatementId"])).status_code == 503
    assert len(await jobs(world, Kind="statement_file")) == 1
    await world.do_chores()
    again = await download(world, statement["StatementId"])
    assert (again.status_code, again.content) == (200, whole)
    assert hashlib.sha256(again.content).hexdigest() == statement["Sha256"]


async def test_a_lost_file_is_made_again_after_the_bank_moved_to_another_address(world: World) -> None:
    await redeem(world, "idt_1_a")
    statement = await issued(world, today())
    whole = (await download(world, statement["StatementId"])).content
    file_of(world, statement).unlink()
    moved = msgspec.structs.replace(world.house.foundation.settings, issuer="https://new.bank.test")
    outcome = await carry_out(moved, Order("remake", statement["StatementId"]))
    assert outcome.failure is None
    assert file_of(world, statement).read_bytes() == whole


async def test_a_bank_that_is_called_otherwise_since_goes_on_settling(world: World) -> None:
    """Its statements would be refused by our own verifier for ever, as the heads have the name of before."""
    await redeem(world, "idt_1_a")
    assert (await ask_to_close(world, today())).status_code == 202
    database = world.house.database
    closing = DayClosing(database, world.house.foundation.keyring, SealedFiles(database, world.home), "Old Name Bank")
    assert await JobRunner(database, (closing.kind(),)).run_next(closing.kind(), now_ms())
    first = await calculate(world, today())
    assert first["Status"] == "CALCULATED", first.get("Failure")
    await approved(world, first)
    await issue(world, first)
    assert (await world.http.post("/sandbox/v1/business-date")).status_code == 200
    await close(world, later(today()))
    second = await calculate(world, later(today()))
    assert second["Status"] == "CALCULATED", second.get("Failure")
    names = await world.sql("SELECT head ->> 'bank' FROM sealed_day UNION SELECT bank FROM statement")
    assert [row[0] for row in names] == ["Old Name Bank"]


async def test_a_file_that_cannot_be_made_the_same_is_never_handed_out(world: World) -> None:
    await redeem(world, "idt_1_a")
    statement = await issued(world, today())
    file_of(world, statement).unlink()
    await change_as_superuser(world, "statement", "UPDATE {table} SET sha256 = sha256('x')")
    assert (await download(world, statement["StatementId"])).status_code == 503
    await world.do_chores()
    (job,) = await jobs(world, Kind="statement_file")
    assert (job["Status"], "is not handed out" in job["Failure"]) == ("FAILED", True)
    assert not file_of(world, statement).exists()
    assert (await download(world, statement["StatementId"])).status_code == 503


async def test_results_of_a_calculated_statement_never_change(world: World) -> None:
    day = await a_closed_day(world)
    statement = await calculate(world, day)
    with pytest.raises(asyncpg.RestrictViolationError, match="in the making"):
        await world.sql(
            "INSERT INTO statement_commission VALUES ($1, 9, 'evt_x', 100)", statement["StatementId"]
        )  # fmt: skip
