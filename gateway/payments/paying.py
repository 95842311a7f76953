"""The life of a payment: stored as pending, sent to the core bank once, settled or rejected for good.

The bank is asked outside any transaction, between two of ours. What it does not answer stays pending, and a chore asks
how it stands; an order is never sent a second time. The first transaction takes the mandate's usage and the idempotency
key; the second writes the outcome, the entry of the book and the event, or gives the usage back.
"""

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from gateway import metrics
from gateway.chores import each_alone
from gateway.consents import store as consents
from gateway.consents.consent import Consent, ConsentKind
from gateway.corebank.port import CoreBank, CoreBankUnavailable, OrderOutcome, OrderStatus, PaymentOrder
from gateway.database import Connection, Database
from gateway.database.idempotency import claim
from gateway.events import outbox
from gateway.events.outbox import Event
from gateway.ledger import store as ledger
from gateway.ledger.book import payment_collected
from gateway.payments import store
from gateway.payments.limits import check_payment, period_breached, read_parameters, uses
from gateway.payments.mandate import check_creditor
from gateway.payments.model import Order, Payment
from gateway.refusal import ForeignResource, StateConflict, UnknownResource

ANSWER_WAIT_S = 20.0  # for the core bank, on the customer's time
ORDER_LIFE_MS = 30_000  # an order that reaches the bank later is not carried out any more
ASKED_IN_VAIN = 6  # after 64 s; 32 s at least if our clock has jumped: the bank will not carry it out any more
FIRST_TRY_MS = 2_000  # after which a silent order is asked for; then twice as long, and so on …
LONGEST_WAIT_MS = 300_000  # … up to this
DUE_BATCH = 32  # pending orders that one run of the chore asks for, side by side: a silent bank costs one wait, not 32
NEVER_ARRIVED = "NOOR"  # ISO 20022 external status reason: no original transaction received
log = structlog.get_logger(__name__)


class Till:
    """Takes payments. One instance a worker; `on_moved` is told the account whose balance has changed."""

    def __init__(self, database: Database, bank: CoreBank, *, on_moved: Callable[[str], None]) -> None:
        self._database = database
        self._bank = bank
        self._on_moved = on_moved

    async def pay(self, order: Order, *, now_ms: int) -> Payment:
        """Once per payment id and idempotency key; a repeated order gets the payment as it stands now.

        Raises ConsentNotInForce, ControlParameterBreached, IdempotencyKeyReused, and refusals of foreign ids.
        """
        async with self._database.transaction() as conn:
            payment, fresh = await self._place(conn, order, now_ms=now_ms)
        return await self._send(payment, now_ms=now_ms) if fresh else await self.ask(payment, now_ms=now_ms)

    async def find(self, payment_id: str, *, partner_id: str) -> Payment:
        """The partner's own. Raises UnknownResource, ForeignResource."""
        async with self._database.connection() as conn:
            return check_owner(await store.find_payment(conn, payment_id), payment_id, partner_id=partner_id)

    async def ask(self, payment: Payment, *, now_ms: int) -> Payment:
        """Where a pending payment stands at the bank; a silent bank leaves it pending."""
        if payment.status is not OrderStatus.PENDING:
            return payment
        outcome = await asked(self._bank, payment.payment_id, tries=payment.tries)
        return await self._conclude(payment, outcome, now_ms=now_ms)

    async def settle_pending_due(self, now_ms: int) -> int:
        """Chore: ask for payments that nobody has answered; returns how many."""
        async with self._database.transaction() as conn:
            due = await store.take_due_payments(
                conn, now_ms=now_ms, first_wait_ms=FIRST_TRY_MS, longest_wait_ms=LONGEST_WAIT_MS, limit=DUE_BATCH
            )
        return await each_alone(due, partial(self.ask, now_ms=now_ms), named=lambda p: {"payment_id": p.payment_id})

    # --- the first transaction ---------------------------------------------------------------------------------------
    async def _place(self, conn: Connection, order: Order, *, now_ms: int) -> tuple[Payment, bool]:
        """The pending payment, and whether it is this call that has to send it."""
        if order.keyed is not None:
            known = await claim(conn, order.keyed, resource_id=order.payment_id)
            if known is not None:
                found = await store.find_payment(conn, known)
                return check_owner(found, known, partner_id=order.partner_id), False
        consent = await mandate(conn, order.consent_id, partner_id=order.partner_id)
        payment = await self._add(conn, order, consent, now_ms=now_ms)
        if payment is None:
            return await _same_order(conn, order), False
        consent.check_in_force(now_ms)
        check_creditor(consent, order.creditor_account)
        parameters = read_parameters(consent.body)
        check_payment(parameters, order.amount, consent_made_ms=consent.created_ms, at_ms=now_ms)
        wanted = uses(parameters, consent_made_ms=consent.created_ms, at_ms=now_ms)
        short = await store.take_usage(conn, consent.consent_id, wanted, amount_minor=order.amount.minor)
        if short is not None:
            raise period_breached(parameters, wanted[short])
        return payment, True

    async def _add(self, conn: Connection, order: Order, consent: Consent, *, now_ms: int) -> Payment | None:
        if not consent.account_ids:  # nobody has given it yet
            consent.check_in_force(now_ms)
        return await store.add_payment(
            conn, order, debtor_account_id=consent.account_ids[0], next_try_ms=now_ms + FIRST_TRY_MS, now_ms=now_ms
        )

    # --- the bank, and the second transaction ------------------------------------------------------------------------
    async def _send(self, payment: Payment, *, now_ms: int) -> Payment:
        order = PaymentOrder(
            payment.payment_id, payment.debtor_account_id, payment.creditor_account, payment.amount,
            payment.reference, payment.mcc, payment.created_ms + ORDER_LIFE_MS,
        )  # fmt: skip
        try:
            async with asyncio.timeout(ANSWER_WAIT_S):
                outcome = await self._bank.post_payment(order)
        except (CoreBankUnavailable, TimeoutError):
            log.warning("payment_unanswered", payment_id=payment.payment_id)
            return payment
        return await self._conclude(payment, outcome, now_ms=now_ms)

    async def _conclude(self, payment: Payment, outcome: OrderOutcome | None, *, now_ms: int) -> Payment:
        """Write what the bank has said, once; whoever comes second gets what the first has written."""
        if outcome is None or outcome.status is OrderStatus.PENDING:
            return payment
        async with self._database.transaction() as conn:
            done = await store.finish_payment(conn, outcome, now_ms=now_ms)
            if done is None:
                return await _agreed(conn, payment, outcome)
            if done.status is OrderStatus.SETTLED:
                await _book(conn, done, now_ms=now_ms)
            else:
                await _give_back(conn, done)
        metrics.count("parasol_payments_total", state=done.status.name.lower(), partner=done.partner_id)
        if done.status is OrderStatus.SETTLED:
            self._on_moved(done.debtor_account_id)
        return done


def check_owner(found: Payment | None, payment_id: str, *, partner_id: str) -> Payment:
    if found is None:
        raise UnknownResource(f"There is no payment {payment_id}")
    if found.partner_id != partner_id:
        raise ForeignResource(f"Payment {payment_id} was made by another partner")
    return found


async def mandate(conn: Connection, consent_id: str, *, partner_id: str) -> Consent:
    """The partner's own consent to collect. Raises UnknownResource, ForeignResource."""
    consent = await consents.load(conn, consent_id, partner_id=partner_id)
    if consent.kind is not ConsentKind.DOMESTIC_VRP:
        raise UnknownResource(f"There is no domestic VRP consent {consent_id}")
    return consent


async def asked(bank: CoreBank, order_id: str, *, tries: int) -> OrderOutcome | None:
    """How an order stands; None while nobody knows. One that never arrived is rejected when it was asked for in vain
    so often that its life is over, whatever our clock has done meanwhile."""
    try:
        async with asyncio.timeout(ANSWER_WAIT_S):
            outcome = await bank.order_status(order_id)
    except (CoreBankUnavailable, TimeoutError):
        return None
    if outcome is None and tries >= ASKED_IN_VAIN:
        return OrderOutcome(order_id, OrderStatus.REJECTED, NEVER_ARRIVED)
    return outcome


async def _same_order(conn: Connection, order: Order) -> Payment:
    """The payment of that id, if it is what was asked for again."""
    found = await store.find_payment(conn, order.payment_id)
    known = check_owner(found, order.payment_id, partner_id=order.partner_id)
    same = (known.consent_id, known.amount, known.creditor_account)
    if same != (order.consent_id, order.amount, order.creditor_account):
        raise StateConflict(f"Payment {order.payment_id} was another order")
    return known


async def _agreed(conn: Connection, payment: Payment, outcome: OrderOutcome) -> Payment:
    found = await store.find_payment(conn, payment.payment_id)
    known = check_owner(found, payment.payment_id, partner_id=payment.partner_id)
    if known.status is not outcome.status:  # people have to look: one of the two has been told wrong
        log.error("payment_outcomes_differ", payment_id=known.payment_id, status=known.status, outcome=outcome.status)
    return known


async def _book(conn: Connection, payment: Payment, *, now_ms: int) -> None:
    event = Event(
        "payment.completed", payment.changed_ms, {"payment_id": payment.payment_id, "mandate_id": payment.consent_id},
        partner=payment.partner_id, currency=payment.amount.currency, amount_minor=payment.amount.minor,
    )  # fmt: skip
    day = await outbox.append(conn, [event], now_ms=now_ms)
    entry = payment_collected(
        payment.payment_id, partner_id=payment.partner_id, currency=payment.amount.currency,
        amount_minor=payment.amount.minor,
    )  # fmt: skip
    await ledger.post(conn, [entry], day=day, now_ms=now_ms)


async def _give_back(conn: Connection, payment: Payment) -> None:
    """What a rejected payment took out of its mandate's periods."""
    consent = await mandate(conn, payment.consent_id, partner_id=payment.partner_id)
    taken = uses(read_parameters(consent.body), consent_made_ms=consent.created_ms, at_ms=payment.created_ms)
    await store.give_usage_back(conn, consent.consent_id, taken, amount_minor=payment.amount.minor)
