"""What an issued statement books: its commissions, in steps (discounts were booked when they happened)."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.database import Connection, Database
from gateway.events.outbox import append
from gateway.jobs.model import Job, JobKind, Wish
from gateway.ledger.book import Entry, commission_accrued
from gateway.ledger.store import booked_causes, post
from gateway.settlement.model import StatementRow
from gateway.settlement.store import results, statements

KIND = "commission_booking"
LIMIT_S = 3600.0


def booking_of(row: StatementRow) -> Wish:
    return Wish(
        KIND, row.statement_id, lane=f"booking {row.statement_id}", statement_id=row.statement_id,
        partner_id=row.partner_id,
    )  # fmt: skip


def commission_entries(row: StatementRow, commissions: Sequence[tuple[int, str, int]]) -> list[Entry]:
    """One entry for each (place, event, minor units); the goal's event is the cause, so it is booked once."""
    return [
        commission_accrued(event_id, partner_id=row.partner_id, currency=row.currency, amount_minor=minor)
        for _, event_id, minor in commissions
    ]


@dataclass(frozen=True, slots=True)
class CommissionBooking:
    """The work of a `commission_booking` job. A step is a transaction, and moves the statement's progress with it."""

    database: Database

    def kind(self) -> JobKind:
        return JobKind(KIND, "book commissions", self, slots=1, limit_s=LIMIT_S, withdrawable=False)

    async def carry_out(self, job: Job, now_ms: int) -> None:
        async with self.database.connection() as conn:
            row = await statements.find_statement(conn, job.subject, lock=False)
        assert row is not None, "a job's statement is there, and statements are kept"
        assert row.state == "ISSUED", "what is not issued is not booked"
        while await self._step(row, now_ms=now_ms):
            pass

    async def _step(self, row: StatementRow, *, now_ms: int) -> int:
        """Books at most BOOKED_A_STEP commissions; how many."""
        async with self.database.transaction() as conn:
            done = await results.booked_through(conn, row.statement_id)
            commissions = await results.commissions_after(conn, row.statement_id, done)
            if not commissions:
                return 0
            entries = commission_entries(row, commissions)
            known = await booked_causes(conn, [entry.cause for entry in entries])
            day = await append(conn, [], now_ms=now_ms)
            await post(conn, [entry for entry in entries if entry.cause not in known], day=day, now_ms=now_ms)
            await results.save_booked_through(conn, row.statement_id, commissions[-1][0])
        return len(commissions)

    async def give_up(self, conn: Connection, job: Job, *, failure: str) -> None:
        """What is booked stays booked; a retry goes on from there."""

    async def take_up(self, conn: Connection, job: Job) -> None:
        """It goes on where it was."""
