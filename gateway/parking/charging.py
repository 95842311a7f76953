"""Charging a car that leaves: hold the discount, collect, confirm; a saga that any worker can take up where it stopped.

HELD → PAYING is written before the bank is asked, so no answer is lost; every call outside carries an id of the
charge, so a step that is taken twice has one effect. No transaction is open while the bank or the desk is asked.
The hold is bound to the charge when the charge is written: it lives until the payment's outcome is known, whatever the
time, and is granted or undone by that outcome alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from gateway import metrics
from gateway.chores import each_alone
from gateway.corebank.port import CoreBankUnavailable
from gateway.database import Connection, Database
from gateway.database.idempotency import KeyedRequest, wait_for_key
from gateway.events import outbox
from gateway.events.outbox import Event
from gateway.ids import new_id
from gateway.ledger import store as ledger
from gateway.ledger.book import Entry, discount_lapsed
from gateway.money import Money
from gateway.parking.charge import check_chargeable, next_try_ms
from gateway.parking.model import DISCOUNT_LAPSED, Agreement, Charge, ChargeState, Session, SessionStatus
from gateway.parking.ports import Collections, Discounts, Granted, Offer
from gateway.parking.store import charges, stays
from gateway.partners.occasion import Occasion
from gateway.refusal import Refusal, StateConflict

DUE_BATCH = 32  # charges that one run of the chore takes up, side by side: a silent bank costs one wait
SILENT = 500  # refusals from this status on mean that nobody has decided
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Exit:
    """A car at the barrier: what it owes, who pays, and the partner's request for it. `offer_id` None: the best one."""

    session: Session
    agreement: Agreement
    fee: Money
    left_at_ms: int
    mcc: str
    offer_id: str | None
    creditor_account: str
    keyed: KeyedRequest

    @property
    def occasion(self) -> Occasion:
        return Occasion(
            self.fee, self.left_at_ms, self.agreement.subject_token, self.session.plate_digest, self.session.site_id,
            self.mcc,
        )  # fmt: skip


class Barrier:
    """One instance a worker. The barrier may open on ACCEPTED and SUCCESS only."""

    def __init__(self, database: Database, *, discounts: Discounts, collections: Collections) -> None:
        self._database = database
        self._discounts = discounts
        self._collections = collections

    def offers(self, partner_id: str, *, occasion: Occasion, now_ms: int) -> Sequence[Offer]:
        """What would come off, the best first; a stay that costs nothing needs none."""
        if occasion.order.minor == 0:
            return ()
        return self._discounts.offers(partner_id, occasion=occasion, now_ms=now_ms)

    async def charge(self, leaving: Exit, *, now_ms: int) -> Charge:
        """Charge the stay once; the same key again finds the charge. Raises SessionNotOpen, ChargeRunning, a limit."""
        known = await self._known(leaving)
        if known is not None:
            return known
        check_chargeable(leaving.session)
        held = await self._hold(leaving, now_ms=now_ms)
        try:
            charge = await self._begin(leaving, held, now_ms=now_ms)
        except Refusal:
            if held is not None:
                await self._release(leaving.session.partner_id, held.redemption_id, now_ms=now_ms)
            raise
        return await self._drive(charge, now_ms=now_ms)

    async def resume_charges_due(self, now_ms: int) -> int:
        """Chore: take up what a crash or a silent bank has left unfinished; returns how many it looked at."""
        async with self._database.transaction() as conn:
            due = await charges.due_charges(conn, now_ms=now_ms, limit=DUE_BATCH)
        return await each_alone(due, partial(self._drive, now_ms=now_ms), named=lambda c: {"charge_id": c.charge_id})

    # --- the discount ------------------------------------------------------------------------------------------------
    async def _hold(self, leaving: Exit, *, now_ms: int) -> Granted | None:
        """The offer that was asked for, or the best one that still has something left; None: full price."""
        partner_id = leaving.session.partner_id
        if leaving.offer_id is not None:
            return await self._hold_offer(leaving, leaving.offer_id, now_ms=now_ms)
        for offer in self.offers(partner_id, occasion=leaving.occasion, now_ms=now_ms):
            try:
                return await self._hold_offer(leaving, offer.discount_id, now_ms=now_ms)
            except Refusal as refusal:
                if refusal.status >= SILENT:
                    raise
        return None

    async def _hold_offer(self, leaving: Exit, offer_id: str, *, now_ms: int) -> Granted:
        """A retry finds the hold of its first try; one that has run out since is replaced."""
        partner_id = leaving.session.partner_id
        held: Granted | None = None
        keyed = leaving.keyed
        for key in (keyed.key, new_id("try")):
            held = await self._discounts.hold_offer(
                partner_id, offer_id, occasion=leaving.occasion, operation=f"{keyed.operation}.hold", key=key,
                request_hash=keyed.request_hash, order_reference=leaving.session.session_id, now_ms=now_ms,
            )  # fmt: skip
            if held.granted_minor > 0:
                break
        assert held is not None
        return held

    async def _release(self, partner_id: str, redemption_id: str, *, now_ms: int) -> None:
        """Give a hold back; one that is over already needs nothing."""
        try:
            await self._discounts.release(
                partner_id, redemption_id, operation="ChargeParking.release", key=redemption_id, request_hash=b"",
                now_ms=now_ms,
            )  # fmt: skip
        except StateConflict:
            log.info("hold_was_over", redemption_id=redemption_id)

    async def _known(self, leaving: Exit) -> Charge | None:
        """The charge that this key has made already."""
        async with self._database.connection() as conn:
            return await charges.charge_by_key(conn, leaving.keyed)

    # --- the saga ----------------------------------------------------------------------------------------------------
    async def _begin(self, leaving: Exit, held: Granted | None, *, now_ms: int) -> Charge:
        """The charge, the car's leaving, and the key, in one transaction."""
        session = leaving.session
        charge = _new_charge(leaving, held, now_ms=now_ms)
        async with self._database.transaction() as conn:
            await wait_for_key(conn, leaving.keyed)
            first = await charges.charge_by_key(conn, leaving.keyed)
            if first is not None:  # the same request on another worker was faster; its hold is ours too
                return first
            current = await stays.lock_session(conn, session.session_id)
            check_chargeable(current)
            if charge.redemption_id is not None:
                await self._discounts.bind(conn, charge.redemption_id, charge_id=charge.charge_id, now_ms=now_ms)
            await charges.add_charge(conn, charge, leaving.keyed)
            await stays.move_session(
                conn, session.session_id, to=SessionStatus.CHARGING, left_at_ms=leaving.left_at_ms, now_ms=now_ms
            )
            if current.status is SessionStatus.PARKED:
                await stays.free_space(conn, session)
                await outbox.append(conn, [_left(leaving)], now_ms=now_ms)
        return charge

    async def _drive(self, charge: Charge, *, now_ms: int) -> Charge:
        """From wherever the charge stands to where it can get now. Safe to call twice, also at the same time."""
        if charge.state is ChargeState.HELD:
            charge = await self._move(charge, ChargeState.PAYING, reason=None, now_ms=now_ms)
        if charge.state not in (ChargeState.PAYING, ChargeState.ACCEPTED):
            return charge
        status, reason = await self._collect(charge, now_ms=now_ms)
        try:
            return await self._follow(charge, status, reason=reason, now_ms=now_ms)
        except Refusal as refusal:  # nobody could decide about the discount just now: the chore comes back to it
            log.warning("charge_waits", charge_id=charge.charge_id, error=refusal.code)
            return charge

    async def _follow(self, charge: Charge, status: str, *, reason: str | None, now_ms: int) -> Charge:
        """What the payment's outcome means for the discount, and then for the charge; "" leaves both as they are."""
        match status:
            case "ACSC":
                lapse = await self._grant(charge, now_ms=now_ms)
                return await self._move(charge, ChargeState.SUCCESS, reason=lapse, now_ms=now_ms)
            case "PDNG":
                return await self._move(charge, ChargeState.ACCEPTED, reason=reason, now_ms=now_ms)
            case "RJCT":
                await self._undo(charge, now_ms=now_ms)
                return await self._move(charge, ChargeState.PAY_FAIL, reason=reason, now_ms=now_ms)
        return charge

    async def _collect(self, charge: Charge, *, now_ms: int) -> tuple[str, str | None]:
        """Ask for the money, or how it stands; "" when nobody could say. The payment's id makes it one payment."""
        if charge.payable_minor == 0:
            return "ACSC", None
        try:
            collected = await self._collections.collect(
                partner_id=charge.partner_id, mandate_id=charge.mandate_id, payment_id=charge.payment_id,
                amount=Money(charge.payable_minor, charge.currency), reference=charge.session_id,
                creditor_account=charge.creditor_account, now_ms=now_ms,
            )  # fmt: skip
        except CoreBankUnavailable:
            log.warning("charge_waits", charge_id=charge.charge_id, error="core_bank_unavailable")
            return "", None
        except Refusal as refusal:
            if refusal.status < SILENT:
                return "RJCT", refusal.code
            log.warning("charge_waits", charge_id=charge.charge_id, error=refusal.code)
            return "", None
        return collected.status, collected.reason

    async def _grant(self, charge: Charge, *, now_ms: int) -> str | None:
        """Confirm the discount that the price was made with; a word where that is not possible any more.

        The hold waits for the charge, so only a bank that first says no and then yes can bring us there.
        """
        if charge.redemption_id is None:
            return None
        try:
            granted = await self._discounts.grant(
                charge.partner_id, charge.redemption_id, charge_id=charge.charge_id, now_ms=now_ms
            )
        except StateConflict as conflict:
            log.error("discount_lapsed", charge_id=charge.charge_id, error=conflict.code)
            return DISCOUNT_LAPSED
        return None if granted.left_minor == charge.discount_minor else DISCOUNT_LAPSED

    async def _undo(self, charge: Charge, *, now_ms: int) -> None:
        """The money will not come: the hold returns, or, where it has been granted by then, the discount does."""
        if charge.redemption_id is not None:
            await self._discounts.undo(
                charge.partner_id, charge.redemption_id, charge_id=charge.charge_id, now_ms=now_ms
            )

    async def _move(self, charge: Charge, to: ChargeState, *, reason: str | None, now_ms: int) -> Charge:
        """Write the next state, and what it means for the car; the charge as it is when another driver was faster."""
        if charge.state is to:
            return charge
        async with self._database.transaction() as conn:
            next_ms = next_try_ms(charge.tries, now_ms)
            moved = await charges.move_charge(conn, charge, to=to, reason=reason, next_try_ms=next_ms, now_ms=now_ms)
            if moved is None:
                return await charges.get_charge(conn, charge.charge_id)
            await _move_car(conn, moved, now_ms=now_ms)
            if moved.lapsed_minor:
                day = await outbox.append(conn, [_lapsed(moved, now_ms=now_ms)], now_ms=now_ms)
                await ledger.post(conn, [_lapse_entry(moved)], day=day, now_ms=now_ms)
        if moved.lapsed_minor:
            metrics.count("parasol_discounts_lapsed_total", partner=moved.partner_id)
        return moved


_CAR_AFTER = {
    ChargeState.ACCEPTED: SessionStatus.LEFT,
    ChargeState.SUCCESS: SessionStatus.LEFT,
    ChargeState.PAY_FAIL: SessionStatus.OWING,
}


async def _move_car(conn: Connection, charge: Charge, *, now_ms: int) -> None:
    status = _CAR_AFTER.get(charge.state)
    if status is None:
        return
    session = await stays.lock_session(conn, charge.session_id)
    assert session.left_at_ms is not None, "a car that is charged has left"
    await stays.move_session(conn, session.session_id, to=status, left_at_ms=session.left_at_ms, now_ms=now_ms)


def _new_charge(leaving: Exit, held: Granted | None, *, now_ms: int) -> Charge:
    return Charge(
        charge_id=new_id("chg"), session_id=leaving.session.session_id, partner_id=leaving.session.partner_id,
        state=ChargeState.HELD, currency=leaving.fee.currency, fee_minor=leaving.fee.minor,
        discount_minor=held.granted_minor if held else 0, offer_id=held.discount_id if held else None,
        redemption_id=held.redemption_id if held else None, payment_id=new_id("pay"),
        mandate_id=leaving.agreement.consent_id, creditor_account=leaving.creditor_account, reason=None,
        refunded_minor=0, tries=0, next_try_ms=next_try_ms(0, now_ms), created_at_ms=now_ms, changed_at_ms=now_ms,
    )  # fmt: skip


def _left(leaving: Exit) -> Event:
    session = leaving.session
    return Event(
        "session.left", leaving.left_at_ms, {"session_id": session.session_id, "site_id": session.site_id},
        partner=session.partner_id, subject_token=leaving.agreement.subject_token,
    )  # fmt: skip


def _lapsed(charge: Charge, *, now_ms: int) -> Event:
    """Sealed, without a line: nobody has agreed to fund this, so people have to look at it."""
    data = {"charge_id": charge.charge_id, "session_id": charge.session_id, "redemption_id": charge.redemption_id,
            "discount": charge.offer_id, "discount_minor": charge.lapsed_minor}  # fmt: skip
    return Event("discount.lapsed", now_ms, data, partner=charge.partner_id, currency=charge.currency)


def _lapse_entry(charge: Charge) -> Entry:
    return discount_lapsed(
        charge.charge_id, partner_id=charge.partner_id, currency=charge.currency, amount_minor=charge.lapsed_minor
    )
