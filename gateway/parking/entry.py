"""The entry gate: a car waits, so one transaction answers NORMAL, or BLOCKED with the first reason that holds."""

from dataclasses import dataclass

from gateway.database import Connection, Database
from gateway.database.idempotency import KeyedRequest, wait_for_key
from gateway.events import outbox
from gateway.events.outbox import Event
from gateway.ids import new_id
from gateway.parking.agreements import AgreementDesk
from gateway.parking.model import Agreement, BlockReason, Session, SessionStatus
from gateway.parking.store import stays
from gateway.partners.partner import Site
from gateway.partners.plate import Plate


@dataclass(frozen=True, slots=True)
class EntryGate:
    """One instance a worker."""

    database: Database
    agreements: AgreementDesk

    async def find(self, keyed: KeyedRequest) -> Session | None:
        """The session that this key has made already. Raises IdempotencyKeyReused."""
        async with self.database.connection() as conn:
            return await stays.session_by_key(conn, keyed)

    async def enter(
        self, site: Site, keyed: KeyedRequest, *, plate: Plate, entered_at_ms: int, now_ms: int
    ) -> Session:  # fmt: skip
        """The session; a retry with its key finds it as it is now. Raises IdempotencyKeyReused."""
        partner_id = keyed.partner_id
        async with self.database.connection() as conn:
            agreement = await stays.active_agreement(conn, partner_id, plate.digest)
        pays = agreement is not None and await self.agreements.is_in_force(agreement, now_ms=now_ms)
        session = Session(
            new_id("prk"), partner_id, site.site_id, plate.digest, plate.masked,
            agreement_id=agreement.agreement_id if agreement else None, status=SessionStatus.PARKED,
            block_reason=None, entered_at_ms=entered_at_ms, left_at_ms=None, created_at_ms=now_ms,
            changed_at_ms=now_ms,
        )  # fmt: skip
        async with self.database.transaction() as conn:
            await wait_for_key(conn, keyed)
            known = await stays.session_by_key(conn, keyed)
            if known is not None:
                return known
            if agreement is None:
                return await stays.block(conn, session, keyed, reason=BlockReason.NO_AGREEMENT)
            if not pays:
                return await stays.block(conn, session, keyed, reason=BlockReason.MANDATE_ENDED)
            return await _let_in(conn, session, agreement, keyed, capacity=site.capacity, now_ms=now_ms)


async def _let_in(
    conn: Connection, session: Session, agreement: Agreement, keyed: KeyedRequest, *, capacity: int, now_ms: int
) -> Session:
    if await stays.owes(conn, session.partner_id, session.plate_digest):
        return await stays.block(conn, session, keyed, reason=BlockReason.OVERDUE)
    entered = await stays.park(conn, session, keyed, capacity=capacity)
    if entered.status is SessionStatus.PARKED:
        event = Event(
            "session.entered", session.entered_at_ms, {"session_id": session.session_id, "site_id": session.site_id},
            partner=session.partner_id, subject_token=agreement.subject_token,
        )  # fmt: skip
        await outbox.append(conn, [event], now_ms=now_ms)
    return entered
