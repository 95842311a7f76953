"""Giving back all or part of a settled payment: the same life as a payment's, in the other direction."""

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from gateway import metrics
from gateway.chores import each_alone
from gateway.corebank.port import CoreBank, CoreBankUnavailable, OrderOutcome, OrderStatus, RefundOrder
from gateway.database import Connection, Database
from gateway.events import outbox
from gateway.events.outbox import Event
from gateway.ledger import store as ledger
from gateway.ledger.book import payment_refunded
from gateway.money import Money
from gateway.payments import store
from gateway.payments.model import Payment, Refund
from gateway.payments.paying import (
    ANSWER_WAIT_S,
    DUE_BATCH,
    FIRST_TRY_MS,
    LONGEST_WAIT_MS,
    ORDER_LIFE_MS,
    asked,
    check_owner,
)
from gateway.refusal import Refusal, StateConflict

log = structlog.get_logger(__name__)


class RefundExceedsPayment(Refusal):
    """More than the payment has left, or the payment has not settled."""

    status, code, ob_code, outcome = 409, "refund_exceeds_payment", "U029", "conflict"
    title = "That much of the payment is not there to give back"


class RefundDesk:
    """Gives money back. One instance a worker; `on_moved` is told the account whose balance has changed."""

    def __init__(self, database: Database, bank: CoreBank, *, on_moved: Callable[[str], None]) -> None:
        self._database = database
        self._bank = bank
        self._on_moved = on_moved

    async def refund(self, refund_id: str, *, payment_id: str, partner_id: str, amount: Money, now_ms: int) -> Refund:
        """Once per refund id; a repeated one gets the refund as it stands now. Raises RefundExceedsPayment."""
        async with self._database.transaction() as conn:
            found = await store.find_payment(conn, payment_id)
            payment = check_owner(found, payment_id, partner_id=partner_id)
            fresh = await _place(conn, refund_id, payment=payment, amount=amount, now_ms=now_ms)
            refund = fresh or await _same_refund(conn, refund_id, payment=payment, amount=amount)
        return await self._send(refund, now_ms=now_ms) if fresh else await self.ask(refund, now_ms=now_ms)

    async def ask(self, refund: Refund, *, now_ms: int) -> Refund:
        """Where a pending refund stands at the bank; a silent bank leaves it pending."""
        if refund.status is not OrderStatus.PENDING:
            return refund
        outcome = await asked(self._bank, refund.refund_id, tries=refund.tries)
        return await self._conclude(refund, outcome, now_ms=now_ms)

    async def settle_refunds_due(self, now_ms: int) -> int:
        """Chore: ask for refunds that nobody has answered; returns how many."""
        async with self._database.transaction() as conn:
            due = await store.take_due_refunds(
                conn, now_ms=now_ms, first_wait_ms=FIRST_TRY_MS, longest_wait_ms=LONGEST_WAIT_MS, limit=DUE_BATCH
            )
        return await each_alone(due, partial(self.ask, now_ms=now_ms), named=lambda r: {"key": r.refund_id})

    async def _send(self, refund: Refund, *, now_ms: int) -> Refund:
        valid_until_ms = refund.created_ms + ORDER_LIFE_MS
        order = RefundOrder(refund.refund_id, refund.payment_id, refund.amount, valid_until_ms)
        try:
            async with asyncio.timeout(ANSWER_WAIT_S):
                outcome = await self._bank.refund(order)
        except (CoreBankUnavailable, TimeoutError):
            log.warning("refund_unanswered", payment_id=refund.payment_id, key=refund.refund_id)
            return refund
        return await self._conclude(refund, outcome, now_ms=now_ms)

    async def _conclude(self, refund: Refund, outcome: OrderOutcome | None, *, now_ms: int) -> Refund:
        """Write what the bank has said, once; whoever comes second gets what the first has written."""
        if outcome is None or outcome.status is OrderStatus.PENDING:
            return refund
        async with self._database.transaction() as conn:
            done = await store.finish_refund(conn, outcome, now_ms=now_ms)
            if done is None:
                return _agreed(await _known(conn, refund.refund_id), outcome)
            if done.status is OrderStatus.SETTLED:
                await _book(conn, done, now_ms=now_ms)
            else:
                await store.free_refund(conn, done)
            payment = await store.find_payment(conn, done.payment_id)
        metrics.count("parasol_payment_refunds_total", state=done.status.name.lower(), partner=done.partner_id)
        if payment is not None and done.status is OrderStatus.SETTLED:
            self._on_moved(payment.debtor_account_id)
        return done


async def _place(conn: Connection, refund_id: str, *, payment: Payment, amount: Money, now_ms: int) -> Refund | None:
    """A new refund with its amount reserved; None when there is one of that id already."""
    fresh = await store.add_refund(
        conn, refund_id, payment=payment, amount=amount, next_try_ms=now_ms + FIRST_TRY_MS, now_ms=now_ms
    )
    if fresh is None:
        return None
    same_currency = amount.currency == payment.amount.currency
    if not same_currency or not await store.reserve_refund(conn, payment.payment_id, amount_minor=amount.minor):
        raise RefundExceedsPayment
    return fresh


async def _same_refund(conn: Connection, refund_id: str, *, payment: Payment, amount: Money) -> Refund:
    known = await _known(conn, refund_id)
    if (known.payment_id, known.amount) != (payment.payment_id, amount):
        raise StateConflict(f"Refund {refund_id} was another one")
    return known


async def _known(conn: Connection, refund_id: str) -> Refund:
    found = await store.find_refund(conn, refund_id)
    assert found is not None, "a refund that was there stays there"
    return found


def _agreed(known: Refund, outcome: OrderOutcome) -> Refund:
    if known.status is not outcome.status:  # people have to look: one of the two has been told wrong
        log.error("refund_outcomes_differ", key=known.refund_id, status=known.status, outcome=outcome.status)
    return known


async def _book(conn: Connection, refund: Refund, *, now_ms: int) -> None:
    event = Event(
        "payment.refunded", refund.changed_ms, {"payment_id": refund.payment_id, "refund_id": refund.refund_id},
        partner=refund.partner_id, currency=refund.amount.currency, amount_minor=-refund.amount.minor,
    )  # fmt: skip
    day = await outbox.append(conn, [event], now_ms=now_ms)
    entry = payment_refunded(
        refund.refund_id, partner_id=refund.partner_id, currency=refund.amount.currency,
        amount_minor=refund.amount.minor,
    )  # fmt: skip
    await ledger.post(conn, [entry], day=day, now_ms=now_ms)
