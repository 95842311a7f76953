"""Collecting for another capability: money under a customer's mandate, by ids that the caller gives."""

from dataclasses import dataclass

from gateway.money import Money
from gateway.payments.model import Order, Payment
from gateway.payments.paying import Till
from gateway.payments.refunding import RefundDesk


@dataclass(frozen=True, slots=True)
class Collected:
    """`status`: ACSC settled, PDNG nobody knows yet, RJCT with the bank's reason."""

    payment_id: str
    status: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Refunded:
    """The same for money that goes back."""

    refund_id: str
    status: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class MandateCollections:
    """Safe to repeat with the same id, also at the same time. Never called inside a transaction: the bank is asked."""

    till: Till
    desk: RefundDesk

    async def collect(
        self, *, partner_id: str, mandate_id: str, payment_id: str, amount: Money, reference: str,
        creditor_account: str, now_ms: int,
    ) -> Collected:  # fmt: skip
        """Raises ConsentNotInForce, ControlParameterBreached, PaymentDiffersFromConsent: no money will be taken."""
        order = Order(
            payment_id, partner_id, mandate_id, amount, creditor_account, reference, mcc="", request=None, keyed=None
        )
        return _collected(await self.till.pay(order, now_ms=now_ms))

    async def refund(self, *, partner_id: str, payment_id: str, refund_id: str, amount: Money, now_ms: int) -> Refunded:
        """Raises RefundExceedsPayment."""
        given = await self.desk.refund(
            refund_id, payment_id=payment_id, partner_id=partner_id, amount=amount, now_ms=now_ms
        )
        return Refunded(given.refund_id, given.status.value, given.reason or None)

    async def status(self, *, partner_id: str, payment_id: str, now_ms: int) -> Collected:
        """Where a payment stands, by the bank's word where we do not know. Raises UnknownResource."""
        found = await self.till.find(payment_id, partner_id=partner_id)
        return _collected(await self.till.ask(found, now_ms=now_ms))


def _collected(payment: Payment) -> Collected:
    return Collected(payment.payment_id, payment.status.value, payment.reason or None)
