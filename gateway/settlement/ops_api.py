"""Statements for bank operations: calculate, approve by two people or refuse, issue."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import msgspec

from gateway import metrics
from gateway.call import Answer, OpsCall, Reason
from gateway.clock import Day, local_day
from gateway.database import Connection, Database
from gateway.events.outbox import BANK_ZONE, Event, append, business_date
from gateway.ids import new_id
from gateway.jobs.store import wish
from gateway.partners.snapshot import SnapshotKeeper
from gateway.refusal import StateConflict, UnknownResource
from gateway.settlement.api import statement_members
from gateway.settlement.life import (
    Approval,
    DayNotOver,
    DayNotSealed,
    check_approval,
    check_issue,
    check_refusable,
    state_after,
    statement_currency,
)
from gateway.settlement.model import StatementRow
from gateway.settlement.posting import booking_of
from gateway.settlement.statement_work import calculation_of
from gateway.settlement.store import days, statements

ALL_STATES = ("CALCULATING", "CALCULATED", "APPROVED", "ISSUED", "FAILED", "REFUSED")
LIST_LIMIT = 200


class CalculateStatement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """Everything that is not on a statement yet, through `to_day`, and why; `currency` where the facts have several."""

    partner_id: str
    to_day: Day
    reason: Reason
    currency: str | None = None


class ApproveStatement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """The approver names what was looked at, the SHA-256 (hex) of the file, and says why it is right."""

    role: Literal["maker", "checker"]
    sha256: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class SettlementOps:
    """Every step is audited with who, and every money step needs two of them."""

    database: Database
    snapshots: SnapshotKeeper

    async def calculate(self, call: OpsCall) -> Answer:
        """202: a job calculates; one statement per partner and currency is in the making at a time."""
        wanted: CalculateStatement = call.body
        contracts = self.snapshots.current.contracts.get(wanted.partner_id, ())
        if not contracts:
            raise UnknownResource(f"There is no partner {wanted.partner_id} with a contract")
        to_day = wanted.to_day
        async with self.database.transaction() as conn:
            present = await business_date(conn, local_day(call.now_ms, BANK_ZONE))
            if to_day > present:
                raise DayNotOver(f"{to_day.isoformat()} is after {present.isoformat()}, the business date")
            currency = statement_currency(
                wanted.currency, of_facts=await days.currencies_of(conn, wanted.partner_id, through=to_day),
                of_contracts=[contract.currency for contract in contracts],
            )  # fmt: skip
            row = await _next_statement(conn, call, to_day=to_day, currency=currency)
            await statements.insert_statement(conn, row)
            await wish(conn, calculation_of(row), operator_id=row.requested_by, now_ms=call.now_ms)
            await call.record(
                conn, action="statement.requested", subject=row.statement_id,
                detail={"partner": row.partner_id, "from_day": row.from_day.isoformat(),
                        "to_day": row.to_day.isoformat(), "reason": wanted.reason},
            )  # fmt: skip
        return Answer(202, {"Data": statement_members(row)})

    async def list_statements(self, call: OpsCall) -> Answer:
        async with self.database.connection() as conn:
            rows = await statements.statements(
                conn, partner_id=call.query.get("PartnerId"), states=ALL_STATES, limit=LIST_LIMIT
            )
        return Answer(200, {"Data": {"Statement": [statement_members(row) for row in rows]}})

    async def get_statement(self, call: OpsCall) -> Answer:
        async with self.database.connection() as conn:
            row = await _statement(conn, call, lock=False)
            given = await statements.approvals(conn, row.statement_id)
        members = statement_members(row)
        members["Approval"] = [{"Role": a.role, "OperatorId": a.operator_id} for a in given]
        return Answer(200, {"Data": members})

    async def approve(self, call: OpsCall) -> Answer:
        """The maker, then another person as checker, each naming the file they looked at."""
        wanted: ApproveStatement = call.body
        async with self.database.transaction() as conn:
            row = await _statement(conn, call, lock=True)
            given = await statements.approvals(conn, row.statement_id)
            check_approval(
                row.state, given, role=wanted.role, operator_id=call.operator.operator_id,
                operator_role=call.operator.role,
            )  # fmt: skip
            assert row.sha256 is not None, "a calculated statement has its file"
            if wanted.sha256 != row.sha256.hex():
                raise StateConflict("The SHA-256 is not that of this statement's file; look at it again")
            approval = Approval(wanted.role, call.operator.operator_id, row.sha256)
            await statements.save_approval(conn, row.statement_id, approval, now_ms=call.now_ms)
            state = state_after([*given, approval])
            await statements.save_state(conn, row.statement_id, state=state, issued_at_ms=None)
            await call.record(
                conn, action="statement.approved", subject=row.statement_id,
                detail={"role": wanted.role, "sha256": wanted.sha256, "reason": wanted.reason},
            )  # fmt: skip
        return Answer(200, {"Data": {"StatementId": row.statement_id, "Status": state}})

    async def refuse(self, call: OpsCall) -> Answer:
        """Maker or checker: it is not issued. The next calculation covers the same days under the next number."""
        reason = call.body.reason
        async with self.database.transaction() as conn:
            row = await _statement(conn, call, lock=True)
            check_refusable(row.state)
            by = f"refused by {call.operator.operator_id}: {reason}"
            await statements.save_refused(conn, row.statement_id, reason=by)
            await call.record(conn, action="statement.refused", subject=row.statement_id, detail={"reason": reason})
        metrics.count("parasol_statements_total", state="REFUSED")
        return Answer(200, {"Data": {"StatementId": row.statement_id, "Status": "REFUSED"}})

    async def issue(self, call: OpsCall) -> Answer:
        """From here on it is the partner's, and immutable; a job books the commissions, in steps."""
        async with self.database.transaction() as conn:
            row = await _statement(conn, call, lock=True)
            check_issue(row.state)
            await statements.save_state(conn, row.statement_id, state="ISSUED", issued_at_ms=call.now_ms)
            assert row.totals is not None, "an approved statement has its totals"
            await append(conn, [_issued(row, now_ms=call.now_ms)], now_ms=call.now_ms)
            await wish(conn, booking_of(row), operator_id=call.operator.operator_id, now_ms=call.now_ms)
            detail = {**row.totals, "reason": call.body.reason}
            await call.record(conn, action="statement.issued", subject=row.statement_id, detail=detail)
        metrics.count("parasol_statements_total", state="ISSUED")
        metrics.gauge("parasol_settlement_accrued_minor", row.totals["net_minor"], partner=row.partner_id)
        return Answer(200, {"Data": {"StatementId": row.statement_id, "Status": "ISSUED"}})


async def _next_statement(conn: Connection, call: OpsCall, *, to_day: date, currency: str) -> StatementRow:
    """It follows the last issued one, under a number that was never used. Raises StateConflict, DayNotSealed,
    UnknownResource."""
    partner_id = call.body.partner_id
    await statements.take_turn(conn, partner_id, currency)
    open_one = await statements.in_the_making(conn, partner_id, currency)
    if open_one is not None:
        raise StateConflict(f"Statement {open_one.statement_id} is {open_one.state}: issue or refuse it first")
    previous = await statements.last_issued(conn, partner_id, currency)
    if previous is not None and to_day <= previous.to_day:
        raise StateConflict(f"Everything through {to_day.isoformat()} is on a statement already")
    head = await days.last_head(conn)  # facts of a day after it may still come, and no later statement would have them
    if head is None or to_day > head[0]:  # every day up to it is sealed: closing shuts them all
        raise DayNotSealed(f"Close the days through {to_day.isoformat()} first")
    first = await days.first_sealed_day_of(conn, partner_id)
    if first is None:
        raise UnknownResource(f"{partner_id} has no sealed events yet")
    from_day = previous.to_day + timedelta(days=1) if previous is not None else first
    if to_day < from_day or not await days.sealed_days(conn, from_day, to_day):
        raise DayNotSealed(f"No day from {from_day.isoformat()} to {to_day.isoformat()} is sealed")
    return StatementRow(
        new_id("stm"), partner_id, await statements.last_number(conn, partner_id, currency) + 1, currency, from_day,
        to_day, "CALCULATING", call.operator.operator_id, call.now_ms,
        previous_id=previous.statement_id if previous is not None else None,
    )  # fmt: skip


def _issued(row: StatementRow, *, now_ms: int) -> Event:
    assert row.totals is not None
    assert row.sha256 is not None
    return Event(
        "statement.issued", now_ms, {"statement_id": row.statement_id, "number": row.number,
                                     "sha256": row.sha256.hex(), "net_minor": row.totals["net_minor"]},
        partner=row.partner_id, currency=row.currency,
    )  # fmt: skip


async def _statement(conn: Connection, call: OpsCall, *, lock: bool) -> StatementRow:
    row = await statements.find_statement(conn, call.path["StatementId"], lock=lock)
    if row is None:
        raise UnknownResource("There is no such statement; see GET /admin/v1/statements")
    return row
