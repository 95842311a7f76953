"""Giving back part of a charge: cash to the customer, the discount to its funders on the original legs; a saga too."""

from functools import partial

import structlog

from gateway.chores import each_alone
from gateway.corebank.port import CoreBankUnavailable
from gateway.database import Database
from gateway.database.idempotency import KeyedRequest, wait_for_key
from gateway.ids import new_id
from gateway.money import Money
from gateway.parking.charge import RefundRunning, next_try_ms, refund_parts
from gateway.parking.model import Charge, Refund, RefundState
from gateway.parking.ports import Collections, Discounts
from gateway.parking.store import charges
from gateway.refusal import Refusal

DUE_BATCH = 32  # refunds that one run of the chore takes up, side by side
SILENT = 500  # refusals from this status on mean that nobody has decided
log = structlog.get_logger(__name__)


class RefundCounter:
    """One instance a worker; a refund is computed from the fee, see `refund_parts`."""

    def __init__(self, database: Database, *, discounts: Discounts, collections: Collections) -> None:
        self._database = database
        self._discounts = discounts
        self._collections = collections

    async def refund(self, charge: Charge, keyed: KeyedRequest, *, amount: Money, now_ms: int) -> Refund:
        """Raises ChargeNotPaid, RefundExceedsCharge, RefundRunning, IdempotencyKeyReused. The same key again is the
        same refund, as it stands."""
        refund = await self._begin(charge, keyed, amount=amount, now_ms=now_ms)
        return await self._drive(refund, now_ms=now_ms)

    async def resume_refunds_due(self, now_ms: int) -> int:
        """Chore: take up unfinished refunds; returns how many it looked at."""
        async with self._database.transaction() as conn:
            due = await charges.due_refunds(conn, now_ms=now_ms, limit=DUE_BATCH)
        return await each_alone(due, partial(self._drive, now_ms=now_ms), named=lambda r: {"key": r.refund_id})

    async def _begin(self, charge: Charge, keyed: KeyedRequest, *, amount: Money, now_ms: int) -> Refund:
        refund_id = new_id("rfd")
        async with self._database.transaction() as conn:
            await wait_for_key(conn, keyed)
            known = await charges.refund_by_key(conn, keyed)
            if known is not None:
                return known
            locked = await charges.lock_charge(conn, charge.charge_id)
            parts = refund_parts(locked, amount.minor)
            refund = Refund(
                refund_id, charge.charge_id, charge.partner_id, RefundState.PENDING, amount_minor=amount.minor,
                cash_minor=parts.cash_minor, discount_minor=parts.discount_minor, reason=None, tries=0,
                next_try_ms=next_try_ms(0, now_ms), created_at_ms=now_ms, changed_at_ms=now_ms,
            )  # fmt: skip
            if not await charges.add_refund(conn, refund, keyed):
                raise RefundRunning
            await charges.add_refunded(conn, charge.charge_id, amount.minor)
        return refund

    async def _drive(self, refund: Refund, *, now_ms: int) -> Refund:
        """The cash first: what the customer does not get back, its funders don't either."""
        if refund.state is not RefundState.PENDING:
            return refund
        async with self._database.connection() as conn:
            charge = await charges.get_charge(conn, refund.charge_id)
        status, reason = await self._give_cash(charge, refund, now_ms=now_ms)
        if status == "RJCT":
            return await self._finish(refund, RefundState.FAILED, reason=reason, now_ms=now_ms)
        if status != "ACSC":
            return refund
        try:
            await self._return_discount(charge, refund, now_ms=now_ms)
        except Refusal as refusal:  # nobody could decide about the discount just now: the chore comes back to it
            log.warning("refund_waits", charge_id=charge.charge_id, error=refusal.code)
            return refund
        return await self._finish(refund, RefundState.SUCCESS, reason=None, now_ms=now_ms)

    async def _return_discount(self, charge: Charge, refund: Refund, *, now_ms: int) -> None:
        if refund.discount_minor and charge.granted_redemption_id is not None:
            await self._discounts.reverse(
                charge.partner_id, charge.granted_redemption_id, amount=Money(refund.discount_minor, charge.currency),
                operation="RefundParkingCharge.reverse", key=refund.refund_id, request_hash=b"", now_ms=now_ms,
                charge_id=charge.charge_id,
            )  # fmt: skip

    async def _give_cash(self, charge: Charge, refund: Refund, *, now_ms: int) -> tuple[str, str | None]:
        if refund.cash_minor == 0:
            return "ACSC", None
        try:
            given = await self._collections.refund(
                partner_id=charge.partner_id, payment_id=charge.payment_id, refund_id=refund.refund_id,
                amount=Money(refund.cash_minor, charge.currency), now_ms=now_ms,
            )  # fmt: skip
        except CoreBankUnavailable:
            return "", None
        except Refusal as refusal:
            return ("RJCT", refusal.code) if refusal.status < SILENT else ("", None)
        return given.status, None

    async def _finish(self, refund: Refund, to: RefundState, *, reason: str | None, now_ms: int) -> Refund:
        async with self._database.transaction() as conn:
            await charges.lock_charge(conn, refund.charge_id)
            finished = await charges.finish_refund(conn, refund, to=to, reason=reason, now_ms=now_ms)
            if finished is None:
                return await charges.get_refund(conn, refund.refund_id)
            if to is RefundState.FAILED:
                await charges.add_refunded(conn, refund.charge_id, -refund.amount_minor)
        return finished
