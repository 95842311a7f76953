"""The redemption desk: quote, hold, confirm, release, reverse for the API.

For rooms that pay with a discount (through a Protocol): hold, bind to a charge, grant, undo.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from gateway import metrics
from gateway.clock import local_day
from gateway.database import Connection, Database
from gateway.database.gather import Gatherer
from gateway.database.idempotency import KeyedRequest
from gateway.discounts import redemption as rules
from gateway.discounts import store
from gateway.discounts.batches import Step, hold_batch, raced, step_batch
from gateway.discounts.conditions import OfferNotApplicable, granted_minor
from gateway.discounts.limits import OFFER_LATE_MS, OrderHasOffer, stored_name, takes_of
from gateway.discounts.model import HeldRow, Hold, Redemption, stored_operation
from gateway.discounts.quote import QUOTE_MS, Quote, seal, unseal
from gateway.discounts.redemption import FinalOrder
from gateway.ids import new_id
from gateway.money import Money
from gateway.partners.contract import Contract, Discount
from gateway.partners.occasion import Occasion
from gateway.partners.snapshot import Snapshot
from gateway.refusal import ForeignResource, Refusal, StateConflict, UnknownResource

EXPIRE_BATCH = 500  # holds a run of the chore: some 20 ms of work


class UnknownOffer(UnknownResource):
    """The contract that was in force at that moment has no such offer."""

    code, ob_code = "unknown_offer", "D02B"
    title = "Your contract has no such offer at that moment"


class RedemptionDesk:
    """One instance a worker; its requests are gathered into batches. `secret` proves our own quotes."""

    def __init__(self, database: Database, *, snapshot: Callable[[], Snapshot], secret: bytes) -> None:
        self._database = database
        self._snapshot = snapshot
        self._secret = secret
        self._holds: Gatherer[tuple[Hold, int], Redemption] = Gatherer(self._decide_holds)
        self._steps: Gatherer[Step, Redemption] = Gatherer(self._decide_steps)

    # --- before the customer says yes --------------------------------------------------------------------------------
    def quote(self, partner_id: str, discount_id: str, *, occasion: Occasion, now_ms: int) -> Quote:
        """The price under the terms of the customer's moment. Raises UnknownOffer, OfferNotApplicable."""
        contract, discount = self._terms_at(partner_id, discount_id, occasion.occurred_at_ms)
        return _quote(partner_id, contract, discount, occasion=occasion, now_ms=now_ms)

    def offers(self, partner_id: str, *, occasion: Occasion, now_ms: int) -> tuple[Quote, ...]:
        """A quote for every offer that applies, the largest discount first."""
        contract = self._snapshot().contract_at(partner_id, occasion.occurred_at_ms)
        found = []
        for discount in contract.discount if contract is not None else ():
            assert contract is not None
            try:
                found.append(_quote(partner_id, contract, discount, occasion=occasion, now_ms=now_ms))
            except OfferNotApplicable:
                continue
        return tuple(sorted(found, key=lambda quote: (-quote.discount_minor, quote.discount_id)))

    def sealed(self, quote: Quote) -> str:
        return seal(quote, self._secret)

    def unsealed(self, text: str, *, partner_id: str, now_ms: int) -> Quote:
        """The quote that we gave. Raises QuoteNotOurs, QuoteExpired."""
        return unseal(text, self._secret, partner_id=partner_id, now_ms=now_ms)

    # --- steps -------------------------------------------------------------------------------------------------------
    async def hold(
        self, quote: Quote, *, operation: str, key: str, request_hash: bytes, order_reference: str, now_ms: int
    ) -> Redemption:
        """Reserve money and counts. The same key again is the same redemption.

        Raises CustomerUnknown, OrderHasOffer, the limit that broke.
        """
        contract, discount = self._terms_of(quote)
        occasion = quote.occasion
        day = local_day(occasion.occurred_at_ms, contract.zone)
        takes = takes_of(contract, discount, held_minor=quote.discount_minor, occasion=occasion, day=day)
        row = HeldRow(
            new_id("rdm"), quote.partner_id, stored_operation(operation), key, request_hash,
            contract_id=quote.contract_id, contract_version=quote.contract_version, discount_id=quote.discount_id,
            currency=quote.currency, order_minor=occasion.order.minor, held_minor=quote.discount_minor,
            subject_token=occasion.subject_token,
            vouched_token=occasion.subject_token if contract.contract.unknown_customer == "refuse" else None,
            site_id=occasion.site_id, mcc=occasion.mcc, order_reference=order_reference,
            occurred_at_ms=occasion.occurred_at_ms, expires_ms=now_ms + discount.hold_ms,
            counter_names=tuple(stored_name(take.counter) for take in takes),
            counter_takes=tuple(take.amount for take in takes),
        )  # fmt: skip
        return await self._holds.submit((Hold(row, takes), now_ms))

    async def hold_offer(
        self, partner_id: str, discount_id: str, *, occasion: Occasion, operation: str, key: str, request_hash: bytes,
        order_reference: str, now_ms: int,
    ) -> Redemption:  # fmt: skip
        """Price and hold in one go, for rooms that show no quote of ours and whose order it is.

        A hold of that order which no charge has taken up was left by a request that came to nothing, and gives way.
        """
        quote = self.quote(partner_id, discount_id, occasion=occasion, now_ms=now_ms)
        hold = partial(
            self.hold, quote, operation=operation, key=key, request_hash=request_hash, order_reference=order_reference,
            now_ms=now_ms,
        )  # fmt: skip
        try:
            return await hold()
        except OrderHasOffer:
            await self._release_idle(partner_id, order_reference, now_ms=now_ms)
        return await hold()

    async def _release_idle(self, partner_id: str, order_reference: str, *, now_ms: int) -> None:
        async with self._database.connection() as conn:
            idle = await store.idle_hold(conn, partner_id, order_reference)
        if idle is not None:
            with suppress(StateConflict):  # another request was faster: the hold that follows says how it ended
                await self._steps.submit(Step(partner_id, idle, None, now_ms, rules.give_way))

    async def confirm(
        self, partner_id: str, redemption_id: str, *, final: FinalOrder, operation: str, key: str, request_hash: bytes,
        now_ms: int,
    ) -> Redemption:  # fmt: skip
        """Grant the discount of the final order and book who funds it."""
        rule = partial(
            rules.confirm, final=final, charge_id=None, event_id=new_id("evt"), key=key, now_ms=now_ms
        )  # fmt: skip
        request = KeyedRequest(partner_id, operation, key, request_hash)
        return await self._steps.submit(Step(partner_id, redemption_id, request, now_ms, rule, funds=True))

    async def release(
        self, partner_id: str, redemption_id: str, *, operation: str, key: str, request_hash: bytes, now_ms: int
    ) -> Redemption:
        """Give the whole hold back."""
        request = KeyedRequest(partner_id, operation, key, request_hash)
        rule = partial(rules.release, now_ms=now_ms)
        return await self._steps.submit(Step(partner_id, redemption_id, request, now_ms, rule))

    async def reverse(
        self, partner_id: str, redemption_id: str, *, amount: Money, operation: str, key: str, request_hash: bytes,
        now_ms: int, charge_id: str | None = None,
    ) -> Redemption:  # fmt: skip
        """Return `amount` of the discount to its funders, on the original legs; `charge_id` where it pays for one."""
        rule = partial(rules.reverse, amount=amount, charge_id=charge_id, event_id=new_id("evt"), key=key)
        request = KeyedRequest(partner_id, operation, key, request_hash)
        return await self._steps.submit(Step(partner_id, redemption_id, request, now_ms, rule))

    # --- a charge that is paid with a discount -----------------------------------------------------------------------
    async def bind(self, conn: Connection, redemption_id: str, *, charge_id: str, now_ms: int) -> None:
        """In the transaction of the charge: from now on the hold waits for it, and nobody else moves it.

        Raises HoldExpired.
        """
        if not await store.bind_hold(conn, redemption_id, charge_id=charge_id, now_ms=now_ms):
            raise rules.HoldExpired

    async def grant(self, partner_id: str, redemption_id: str, *, charge_id: str, now_ms: int) -> Redemption:
        """The charge is paid: its discount is granted as held, whatever the time, and once."""
        rule = partial(
            rules.confirm, final=FinalOrder(), charge_id=charge_id, event_id=new_id("evt"), key=charge_id, now_ms=now_ms
        )
        request = KeyedRequest(partner_id, "Charge.grant", charge_id, b"")
        return await self._steps.submit(Step(partner_id, redemption_id, request, now_ms, rule, funds=True))

    async def undo(self, partner_id: str, redemption_id: str, *, charge_id: str, now_ms: int) -> Redemption:
        """The charge is not paid and will not be: the hold returns, or what was granted is reversed."""
        rule = partial(rules.undo, charge_id=charge_id, event_id=new_id("evt"), key=charge_id)
        request = KeyedRequest(partner_id, "Charge.undo", charge_id, b"")
        return await self._steps.submit(Step(partner_id, redemption_id, request, now_ms, rule))

    async def find(self, partner_id: str, redemption_id: str) -> Redemption:
        """Raises UnknownResource, ForeignResource."""
        async with self._database.connection() as conn:
            found = (await store.load_many(conn, [redemption_id])).get(redemption_id)
        if found is None:
            raise UnknownResource(f"There is no redemption {redemption_id}")
        if found.partner_id != partner_id:
            raise ForeignResource
        return found

    async def replayed(self, request: KeyedRequest) -> Redemption | None:
        """What the key stands for already; a promise that has expired since must not break a retry.

        Raises IdempotencyKeyReused.
        """
        async with self._database.connection() as conn:
            return await store.held_by_request(conn, request)

    async def expire_holds_due(self, now_ms: int) -> int:
        """Chore: give back the holds whose time is over; returns how many. A confirmation that was faster wins.

        One that cannot be given back holds up no other; what is wrong with it is raised when they are through.
        """
        async with self._database.connection() as conn:
            due = await store.expired_holds(conn, now_ms=now_ms, limit=EXPIRE_BATCH)
        if not due:
            return 0
        rule = partial(rules.expire, now_ms=now_ms)
        steps = [Step(partner_id, redemption_id, None, now_ms, rule) for redemption_id, partner_id in due]
        answers = await asyncio.gather(*map(self._steps.submit, steps), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, Refusal):
                raise answer
        return sum(isinstance(answer, Redemption) for answer in answers)

    async def report_budgets_due(self, now_ms: int) -> int:
        """Chore: show what each campaign has used. 0: there is never more to do before the next period."""
        async with self._database.connection() as conn:
            used = await store.budgets_used(conn)
        for name, minor in used.items():
            _, contract_id, discount_id, currency = name.split("|")
            metrics.gauge(
                "parasol_budget_used_minor", minor, campaign=f"{contract_id}/{discount_id}", currency=currency
            )  # fmt: skip
        return 0

    # --- terms -------------------------------------------------------------------------------------------------------
    def _terms_at(self, partner_id: str, discount_id: str, occurred_ms: int) -> tuple[Contract, Discount]:
        contract = self._snapshot().contract_at(partner_id, occurred_ms)
        discount = contract.find_discount(discount_id) if contract is not None else None
        if contract is None or discount is None:
            raise UnknownOffer(f"There is no offer {discount_id!r} at that moment", path="$.Data.OfferId")
        return contract, discount

    def _terms_of(self, quote: Quote) -> tuple[Contract, Discount]:
        contract = self._snapshot().contract_version(quote.partner_id, quote.contract_version)
        discount = contract.find_discount(quote.discount_id)
        assert discount is not None, "the quote was made from this version"
        return contract, discount

    def _contract_of(self, redemption: Redemption) -> Contract:
        return self._snapshot().contract_version(redemption.partner_id, redemption.contract_version)

    # --- batches -----------------------------------------------------------------------------------------------------
    async def _decide_holds(self, batch: Sequence[tuple[Hold, int]]) -> Sequence[Redemption | Refusal]:
        return await hold_batch(self._database, [hold for hold, _ in batch], now_ms=max(now for _, now in batch))

    async def _decide_steps(self, batch: Sequence[Step]) -> Sequence[Redemption | Refusal]:
        return await raced(lambda: step_batch(self._database, batch, terms=self._contract_of))


def _quote(partner_id: str, contract: Contract, discount: Discount, *, occasion: Occasion, now_ms: int) -> Quote:
    if occasion.occurred_at_ms < now_ms - OFFER_LATE_MS:
        raise OfferNotApplicable("What that day had of the offer is not counted any more", path="$.Data.OccurredAt")
    return Quote(
        partner_id, contract.contract_id, contract.version, discount.id, discount.title, occasion=occasion,
        discount_minor=granted_minor(contract, discount, occasion), expires_ms=now_ms + QUOTE_MS,
    )  # fmt: skip
