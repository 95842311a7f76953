"""The audit trail: who, from where and why; and that a changed, missing or cut-off row is found."""

import json
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from gateway import audit
from gateway.audit import AuditChainBroken
from gateway.cli import app
from gateway.clock import now_ms
from gateway.settlement.audit_anchor import AuditTeller, AuditVerdict, verify_audit
from tests.api.settling import close, later, redeem, today
from tests.conftest import World, past_all_rules


async def verified(world: World) -> AuditVerdict:
    return await verify_audit(world.house.database, world.house.foundation.keyring)


async def sealed(world: World) -> None:
    """Two sealed days, with rows before, between and after their heads."""
    await redeem(world, "idt_1_a")
    await close(world, today())
    await world.http.post("/sandbox/v1/business-date", json={})
    await world.suspend("shopco")
    await close(world, later(today()))


async def tampered(world: World, statement: str, *values: Any) -> None:
    async with past_all_rules(world.url) as conn:
        await conn.execute(statement, *values)


async def test_each_sealed_day_holds_the_end_of_the_trail(world: World) -> None:
    await sealed(world)
    heads = await world.sql("SELECT head ->> 'audit_head' AS hash, day::text FROM sealed_day ORDER BY day")
    assert len(heads) == 2
    for head in heads:
        ((seq,),) = await world.sql("SELECT seq FROM audit WHERE hash = decode($1, 'hex')", head["hash"])
        ((told,),) = await world.sql("SELECT seq FROM audit WHERE action = 'day.sealed' AND subject = $1", head["day"])
        assert seq < told
    found = await verified(world)
    assert (found.days, found.rows) == (2, (await world.sql("SELECT count(*) FROM audit"))[0][0])


async def test_a_tail_that_was_cut_off_is_found(world: World) -> None:
    """Row by row from the end to the last head: each cut through what a sealed day has seen is noticed."""
    await sealed(world)
    ((told,),) = await world.sql("SELECT max(seq) FROM audit WHERE action = 'day.sealed'")
    await tampered(world, "DELETE FROM audit WHERE seq >= $1", told)
    with pytest.raises(AuditChainBroken, match=f"that tells of the head of {later(today())} is missing"):
        await verified(world)
    await tampered(world, "DELETE FROM audit WHERE seq >= (SELECT seq FROM audit WHERE action = 'partner.state')")
    with pytest.raises(AuditChainBroken, match=f"has the hash that the head of {later(today())} names"):
        await verified(world)
    await tampered(world, "DELETE FROM audit")
    with pytest.raises(AuditChainBroken, match=f"has the hash that the head of {today()} names"):
        await verified(world)


async def test_a_trail_written_anew_from_the_start_is_found(world: World) -> None:
    """Its links all fit; the sealed days name another one."""
    await sealed(world)
    rows = await world.sql("SELECT actor, action, subject, detail - 'from' AS detail, at_ms FROM audit ORDER BY seq")
    async with past_all_rules(world.url) as conn:
        await conn.execute("DELETE FROM audit")
        for row in rows:
            actor = "ops-checker" if row["action"] == "partner.state" else row["actor"]
            await audit.record(conn, actor=actor, action=row["action"], subject=row["subject"], detail=row["detail"],
                               now_ms=row["at_ms"])  # fmt: skip
        assert await audit.verify_chain(conn) == len(rows)
    with pytest.raises(AuditChainBroken, match="the trail is another one"):
        await verified(world)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit SET actor = 'somebody' WHERE action = 'partner.state'",
        """UPDATE audit SET detail = detail || '{"reason": "none"}' WHERE action = 'partner.state'""",
        """UPDATE audit SET detail = detail || '{"from": "10.0.0.1"}' WHERE action = 'partner.state'""",
        "DELETE FROM audit WHERE action = 'partner.state' AND subject = 'shopco'",
        "UPDATE audit SET seq = seq + 1000 WHERE seq = (SELECT max(seq) FROM audit)",
    ],
)
async def test_a_row_that_was_changed_or_taken_out_is_found(world: World, change: str) -> None:
    await world.suspend("shopco")
    await world.suspend("parkco")
    await verified(world)
    await tampered(world, change)
    with pytest.raises(AuditChainBroken, match="does not follow from the row before it"):
        await verified(world)


async def test_a_head_that_was_made_to_fit_a_cut_trail_is_found(world: World) -> None:
    await sealed(world)
    await tampered(world, "DELETE FROM sealed_day WHERE day = $1::text::date", later(today()))
    await tampered(world, "UPDATE sealed_day SET head_jws = overlay(head_jws placing 'AAAA' from 300)")
    with pytest.raises(AuditChainBroken, match=f"the head of {today()} is not signed by a key of this bank"):
        await verified(world)


def test_the_command_says_whether_the_trail_is_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread of its own loop, as a command has."""
    monkeypatch.setenv("PARASOL_DATABASE_URL", world.url)
    said = CliRunner().invoke(app, ["audit", "verify", "--home", str(world.home)])
    assert (said.exit_code, said.stdout.startswith("Whole: ")) == (0, True), said.output


async def test_rows_cut_off_after_the_last_seal_are_found_by_a_head_that_was_noted_elsewhere(world: World) -> None:
    await sealed(world)
    await world.suspend("parkco")
    async with world.house.database.connection() as conn:
        noted = await audit.head(conn)
    assert noted is not None
    heads = dict([noted])
    assert (await verify_audit(world.house.database, world.house.foundation.keyring, noted=heads)).rows == noted[0]
    await tampered(world, "DELETE FROM audit WHERE seq = $1", noted[0])
    await verified(world)  # the seals alone do not see it
    with pytest.raises(AuditChainBroken, match=f"row {noted[0]} was noted and the trail ends with row {noted[0] - 1}"):
        await verify_audit(world.house.database, world.house.foundation.keyring, noted=heads)
    await world.ops("ops-maker", "POST", "/admin/v1/partners/parkco/reinstatement", json={"Reason": "in its place"})
    with pytest.raises(AuditChainBroken, match=f"row {noted[0]} is not the one that was noted"):
        await verify_audit(world.house.database, world.house.foundation.keyring, noted=heads)


async def test_the_trails_end_goes_into_the_log_when_it_has_moved(world: World) -> None:
    teller = AuditTeller(world.house.database)
    with structlog.testing.capture_logs() as lines:
        await teller.tell_due(now_ms())
        await teller.tell_due(now_ms())
        await world.suspend("parkco")
        await teller.tell_due(now_ms())
    told = [line["head"] for line in lines if line["event"] == "audit_head"]
    rows = await world.sql("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 2")
    assert told == [f"{row['seq']}:{row['hash'].hex()}" for row in reversed(rows)]


def test_a_noted_head_is_given_to_the_command(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARASOL_DATABASE_URL", world.url)
    at_home = ["--home", str(world.home)]
    head = CliRunner().invoke(app, ["audit", "head", *at_home]).stdout.strip()
    assert CliRunner().invoke(app, ["audit", "verify", *at_home, "--head", head]).exit_code == 0
    for wrong, status in ((f"9{head}", 1), (head[:-1] + ("0" if head[-1] != "0" else "1"), 1), ("x", 2)):
        assert CliRunner().invoke(app, ["audit", "verify", *at_home, "--head", wrong]).exit_code == status


# --- who, from where, why ----------------------------------------------------------------------------------------
async def entries(world: World) -> list[dict[str, Any]]:
    return list((await world.ops("ops-maker", "GET", "/admin/v1/audit")).json()["Data"]["Entry"])


async def test_the_trail_says_who_from_where_and_why(world: World) -> None:
    await world.suspend("shopco")
    entry = next(entry for entry in await entries(world) if entry["Action"] == "partner.state")
    assert (entry["Actor"], entry["Source"], entry["Reason"]) == ("ops-maker", "127.0.0.1", "test")
    by_the_program = next(entry for entry in await entries(world) if entry["Action"] == "document.apply")
    assert by_the_program["Source"] == "gateway"
    assert by_the_program["Reason"] == "the sandbox starts with this folder"


DECISIONS = {
    "partners/shopco/suspension": {},
    "partners/shopco/reinstatement": {},
    "statements/stm_1/approvals": {"Role": "maker", "Sha256": "x"},
    "statements/stm_1/refusal": {},
    "statements": {"PartnerId": "parkco", "ToDay": "2026-01-01"},
    "days/2026-01-01/closure": {},
    "statements/stm_1/issue": {},
    "jobs/job_1/retry": {},
    "jobs/job_1/withdrawal": {},
}


@pytest.mark.parametrize("path", DECISIONS)
@pytest.mark.parametrize("reason", [None, "", " \n", "x" * 301])
async def test_a_decision_without_its_reason_is_refused(shared_world: World, path: str, reason: str | None) -> None:
    body = DECISIONS[path] | ({} if reason is None else {"Reason": reason})
    answer = await shared_world.ops("ops-maker", "POST", f"/admin/v1/{path}", content=json.dumps(body))
    assert (answer.status_code, answer.json()["code"]) == (400, "body_malformed")


@pytest.mark.parametrize(
    "command",
    [["rotate-statement-key"], ["revoke-key", "a-kid"], ["apply"], ["enrol", "olga", "Olga", "--role", "maker"]],
)
@pytest.mark.parametrize("reason", [[], ["--reason", " "]])
def test_a_command_that_decides_asks_why(command: list[str], reason: list[str]) -> None:
    said = CliRunner().invoke(app, [*command, *reason])
    assert said.exit_code == 2
    assert "reason" in said.output.lower()


async def test_a_decision_is_never_recorded_without_its_reason(world: World) -> None:
    async with world.house.database.transaction() as conn:
        for action in audit.DECISIONS:
            with pytest.raises(AssertionError, match="say why"):
                await audit.record(conn, actor="ops-maker", action=action, subject="x", detail={}, now_ms=now_ms())
