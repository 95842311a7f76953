"""Settlement for bank operations: close a day, calculate, approve by two people, issue."""

from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import msgspec

from gateway import audit, metrics
from gateway.call import Answer, OpsCall
from gateway.clock import Day, asked_day, local_day, rfc3339
from gateway.database import Connection, Database
from gateway.events.outbox import BANK_ZONE, Event, append
from gateway.ids import new_id
from gateway.ledger.store import post
from gateway.partners.snapshot import SnapshotKeeper
from gateway.refusal import StateConflict, UnknownResource
from gateway.settlement import store
from gateway.settlement.api import statement_members
from gateway.settlement.life import (
    Approval,
    DayNotSealed,
    check_approval,
    check_closable,
    check_issue,
    state_after,
)
from gateway.settlement.model import StatementRow
from gateway.settlement.posting import commission_entries

ALL_STATES = ("CALCULATING", "CALCULATED", "APPROVED", "ISSUED", "FAILED")
LIST_LIMIT = 200


class CalculateStatement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """Everything that is not on a statement yet, through `to_day`."""

    partner_id: str
    to_day: Day


class ApproveStatement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """The approver names what was looked at: the SHA-256 (hex) of the file."""

    role: Literal["maker", "checker"]
    sha256: str


@dataclass(frozen=True, slots=True)
class SettlementOps:
    """Every step is audited with who, and every money step needs two of them."""

    database: Database
    snapshots: SnapshotKeeper
    sandbox: bool

    async def get_open_day(self, call: OpsCall) -> Answer:
        """The business day that facts are recorded in at present."""
        async with self.database.connection() as conn:
            day = await store.open_day(conn, local_day(call.now_ms, BANK_ZONE))
        return Answer(200, {"Data": {"Day": day.isoformat(), "Status": "OPEN"}})

    async def close_day(self, call: OpsCall) -> Answer:
        """202: a chore seals it; asking twice is asking once. Only a sandbox runs ahead of the calendar."""
        day, today = _day(call), local_day(call.now_ms, BANK_ZONE)
        async with self.database.transaction() as conn:
            check_closable(day, last=await store.open_day(conn, today) if self.sandbox else today)
            fresh = await store.request_closure(conn, day, operator_id=call.operator.operator_id, now_ms=call.now_ms)
            if fresh:
                await _record(conn, call, action="day.closure_requested", subject=day.isoformat(), detail={})
            return Answer(202, await _day_members(conn, day))

    async def get_day(self, call: OpsCall) -> Answer:
        async with self.database.connection() as conn:
            return Answer(200, await _day_members(conn, _day(call)))

    async def calculate(self, call: OpsCall) -> Answer:
        """202: a chore calculates; one statement per partner and currency is in the making at a time."""
        wanted: CalculateStatement = call.body
        contracts = self.snapshots.current.contracts.get(wanted.partner_id, ())
        if not contracts:
            raise UnknownResource(f"There is no partner {wanted.partner_id} with a contract")
        currency = contracts[-1].currency
        async with self.database.transaction() as conn:
            row = await _next_statement(conn, wanted, currency=currency, call=call)
            await store.insert_statement(conn, row)
            await _record(
                conn, call, action="statement.requested", subject=row.statement_id,
                detail={"partner": row.partner_id, "from": row.from_day.isoformat(), "to": row.to_day.isoformat()},
            )  # fmt: skip
        return Answer(202, {"Data": statement_members(row)})

    async def list_statements(self, call: OpsCall) -> Answer:
        async with self.database.connection() as conn:
            rows = await store.statements(
                conn, partner_id=call.query.get("PartnerId"), states=ALL_STATES, limit=LIST_LIMIT
            )
        return Answer(200, {"Data": {"Statement": [statement_members(row) for row in rows]}})

    async def get_statement(self, call: OpsCall) -> Answer:
        async with self.database.connection() as conn:
            row = await _statement(conn, call, lock=False)
            given = await store.approvals(conn, row.statement_id)
        members = statement_members(row)
        members["Approval"] = [{"Role": a.role, "OperatorId": a.operator_id} for a in given]
        return Answer(200, {"Data": members})

    async def approve(self, call: OpsCall) -> Answer:
        """The maker, then another person as checker, each naming the file they looked at."""
        wanted: ApproveStatement = call.body
        async with self.database.transaction() as conn:
            row = await _statement(conn, call, lock=True)
            given = await store.approvals(conn, row.statement_id)
            check_approval(
                row.state, given, role=wanted.role, operator_id=call.operator.operator_id,
                operator_role=call.operator.role,
            )  # fmt: skip
            assert row.sha256 is not None, "a calculated statement has its file"
            if wanted.sha256 != row.sha256.hex():
                raise StateConflict("The SHA-256 is not that of this statement's file; look at it again")
            approval = Approval(wanted.role, call.operator.operator_id, row.sha256)
            await store.save_approval(conn, row.statement_id, approval, now_ms=call.now_ms)
            state = state_after([*given, approval])
            await store.save_state(conn, row.statement_id, state=state, issued_at_ms=None)
            await _record(
                conn, call, action="statement.approved", subject=row.statement_id,
                detail={"role": wanted.role, "sha256": wanted.sha256},
            )  # fmt: skip
        return Answer(200, {"Data": {"StatementId": row.statement_id, "Status": state}})

    async def issue(self, call: OpsCall) -> Answer:
        """From here on it is the partner's, and immutable; commissions are booked, in the same transaction."""
        async with self.database.transaction() as conn:
            row = await _statement(conn, call, lock=True)
            check_issue(row.state)
            await store.save_state(conn, row.statement_id, state="ISSUED", issued_at_ms=call.now_ms)
            assert row.totals is not None, "an approved statement has its totals"
            day = await append(conn, [_issued(row, now_ms=call.now_ms)], now_ms=call.now_ms)
            entries = commission_entries([c async for c in store.chunks(conn, row.statement_id)], row)
            await post(conn, entries, day=day, now_ms=call.now_ms)
            await _record(conn, call, action="statement.issued", subject=row.statement_id, detail=dict(row.totals))
        metrics.count("parasol_statements_total", state="ISSUED")
        metrics.gauge("parasol_settlement_accrued_minor", row.totals["net_minor"], partner=row.partner_id)
        return Answer(200, {"Data": {"StatementId": row.statement_id, "Status": "ISSUED"}})


async def _next_statement(
    conn: Connection, wanted: CalculateStatement, *, currency: str, call: OpsCall
) -> StatementRow:
    """Raises StateConflict, DayNotSealed, UnknownResource."""
    previous = await store.last_statement(conn, wanted.partner_id, currency)
    if previous is not None and previous.state != "ISSUED":
        raise StateConflict(f"Statement {previous.statement_id} is {previous.state}; issue it first")
    first = await store.first_event_day(conn, wanted.partner_id)
    if first is None:
        raise UnknownResource(f"{wanted.partner_id} has no events yet")
    from_day, to_day = store.next_period(previous, first, wanted.to_day)
    if to_day < from_day:
        raise StateConflict(f"Everything through {to_day.isoformat()} is on a statement already")
    if await store.open_days_with_events(conn, date.fromordinal(to_day.toordinal() + 1)):
        raise DayNotSealed(f"Close the days through {to_day.isoformat()} first")
    if not await store.sealed_days(conn, from_day, to_day):
        raise DayNotSealed(f"No day from {from_day.isoformat()} to {to_day.isoformat()} is sealed")
    return StatementRow(
        new_id("stm"), wanted.partner_id, previous.number + 1 if previous else 1, currency, from_day, to_day,
        "CALCULATING", call.operator.operator_id, call.now_ms,
    )  # fmt: skip


def _issued(row: StatementRow, *, now_ms: int) -> Event:
    assert row.totals is not None
    assert row.sha256 is not None
    return Event(
        "statement.issued", now_ms, {"statement_id": row.statement_id, "number": row.number,
                                     "sha256": row.sha256.hex(), "net_minor": row.totals["net_minor"]},
        partner=row.partner_id, currency=row.currency,
    )  # fmt: skip


async def _day_members(conn: Connection, day: date) -> dict[str, Any]:
    sealed, wish = await store.sealed_day(conn, day), await store.closure_state(conn, day)
    members: dict[str, Any] = {"Day": day.isoformat(), "Status": "OPEN"}
    if wish is not None:
        members |= {"Status": "CLOSING", "RequestedBy": wish["requested_by"]}
        members |= {"RequestedDateTime": rfc3339(wish["requested_at_ms"])}
        if wish["failure"]:
            members["Failure"] = wish["failure"]
    if sealed is not None:
        members |= {"Status": "SEALED", "EventCount": sealed.event_count, "RootHash": sealed.root_hash.hex()}
        members |= {"HeadHash": sealed.head_hash.hex(), "Head": sealed.head_jws}
    return {"Data": members}


async def _statement(conn: Connection, call: OpsCall, *, lock: bool) -> StatementRow:
    row = await store.find_statement(conn, call.path["StatementId"], lock=lock)
    if row is None:
        raise UnknownResource("There is no such statement; see GET /admin/v1/statements")
    return row


def _day(call: OpsCall) -> date:
    return asked_day(call.path["Day"], path="$path.Day")


async def _record(conn: Connection, call: OpsCall, *, action: str, subject: str, detail: dict[str, Any]) -> None:
    await audit.record(
        conn, actor=call.operator.operator_id, action=action, subject=subject, detail={**detail, "from": call.source},
        now_ms=call.now_ms,
    )  # fmt: skip
