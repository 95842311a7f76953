"""Campaigns and redemptions over HTTP."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.call import Answer, Call, enveloped
from gateway.clock import local_day, moment_ms
from gateway.database import Database
from gateway.discounts import store
from gateway.discounts.desk import RedemptionDesk
from gateway.discounts.model import Redemption
from gateway.discounts.quote import Quote
from gateway.discounts.redemption import FinalOrder
from gateway.discounts.shapes import (
    ConfirmOrder,
    HoldOrder,
    QuoteOrder,
    campaign_counters,
    campaign_json,
    quote_json,
    redemption_json,
)
from gateway.partners.occasion import Occasion, site_of
from gateway.partners.plate import PlateReader
from gateway.partners.snapshot import Snapshot
from gateway.refusal import Refusal

BASE = "/partner/v1"
HOLD_LATE_MS = 15 * 60_000  # a price is asked for while the customer waits, or just after


@dataclass(frozen=True, slots=True)
class DiscountsApi:
    """ListCampaigns, QuoteRedemption, HoldRedemption, GetRedemption, Confirm-, Release- and ReverseRedemption."""

    desk: RedemptionDesk
    database: Database
    snapshot: Callable[[], Snapshot]
    plates: PlateReader
    public_url: str

    async def list_campaigns(self, call: Call) -> Answer:
        """The offers of the contract in force today, and how much of each is left."""
        shown = await self.campaigns(call.partner.partner_id, now_ms=call.now_ms)
        return enveloped(200, {"Campaign": shown}, address=f"{self.public_url}{BASE}/campaigns")

    async def campaigns(self, partner_id: str, *, now_ms: int) -> list[dict[str, Any]]:
        """The same figures for the partner and for the bank's console."""
        contract = self.snapshot().contract_at(partner_id, now_ms)
        if contract is None:
            return []
        today = local_day(now_ms, contract.zone)
        names = [name for discount in contract.discount for name in campaign_counters(contract, discount, today)]
        async with self.database.connection() as conn:
            states = await store.counter_states(conn, names)
        return [campaign_json(contract, discount, today=today, states=states) for discount in contract.discount]

    async def quote_redemption(self, call: Call) -> Answer:
        """Nothing is reserved; the text `Quote` promises the price for a few minutes."""
        order: QuoteOrder = call.body.data
        occasion = self._occasion(call, order, unsaid_ms=call.now_ms, late_ms=HOLD_LATE_MS)
        partner_id = call.partner.partner_id
        if order.offer_id is None:
            quotes = self.desk.offers(partner_id, occasion=occasion, now_ms=call.now_ms)
        else:
            quotes = (self.desk.quote(partner_id, order.offer_id, occasion=occasion, now_ms=call.now_ms),)
        shown = [quote_json(quote, self.desk.sealed(quote)) for quote in quotes]
        return enveloped(201, {"Quote": shown}, address=f"{self.public_url}{BASE}/redemption-quotes")

    async def hold_redemption(self, call: Call) -> Answer:
        """201 with the hold; a retry with its key finds it as it is now, even when the offer has ended since."""
        order: HoldOrder = call.body.data
        try:
            quote = self._quoted(call, order)
        except Refusal:
            known = await self.desk.replayed(call.keyed)
            if known is None:
                raise
            return self._shown(201, known)
        held = await self.desk.hold(
            quote, operation=call.operation.id, key=call.keyed.key, request_hash=call.request_hash,
            order_reference=order.order_reference, now_ms=call.now_ms,
        )  # fmt: skip
        return self._shown(201, held)

    async def get_redemption(self, call: Call) -> Answer:
        return self._shown(200, await self.desk.find(call.partner.partner_id, call.path["RedemptionId"]))

    async def confirm_redemption(self, call: Call) -> Answer:
        """The final order is asked again about everything but the clock, which stood still at the hold's OccurredAt."""
        order: ConfirmOrder = call.body.data
        final = FinalOrder(
            order.order_amount.positive(path="$.Data.OrderAmount") if order.order_amount else None, order.site_id,
            mcc_of=lambda site_id: site_of(call.partner, site_id).mcc,
        )  # fmt: skip
        confirmed = await self.desk.confirm(
            call.partner.partner_id, call.path["RedemptionId"], final=final, operation=call.operation.id,
            key=call.keyed.key, request_hash=call.request_hash, now_ms=call.now_ms,
        )  # fmt: skip
        return self._shown(201, confirmed)

    async def release_redemption(self, call: Call) -> Answer:
        released = await self.desk.release(
            call.partner.partner_id, call.path["RedemptionId"], operation=call.operation.id, key=call.keyed.key,
            request_hash=call.request_hash, now_ms=call.now_ms,
        )  # fmt: skip
        return self._shown(201, released)

    async def reverse_redemption(self, call: Call) -> Answer:
        reversed_ = await self.desk.reverse(
            call.partner.partner_id, call.path["RedemptionId"],
            amount=call.body.data.amount.positive(path="$.Data.Amount"), operation=call.operation.id,
            key=call.keyed.key, request_hash=call.request_hash, now_ms=call.now_ms,
        )  # fmt: skip
        return self._shown(201, reversed_)

    def _quoted(self, call: Call, order: HoldOrder) -> Quote:
        """The price: as promised by the quote in the body, or as the terms say now."""
        partner_id = call.partner.partner_id
        if order.quote is None:
            occasion = self._occasion(call, order, unsaid_ms=call.now_ms, late_ms=HOLD_LATE_MS)
            return self.desk.quote(partner_id, order.offer_id, occasion=occasion, now_ms=call.now_ms)
        promised = self.desk.unsealed(order.quote, partner_id=partner_id, now_ms=call.now_ms)
        promised_ms = promised.occasion.occurred_at_ms  # was early enough when it was quoted, and no other is taken
        occasion = self._occasion(call, order, unsaid_ms=promised_ms, late_ms=None)
        promised.check_same(order.offer_id, occasion)
        return promised

    def _occasion(self, call: Call, order: QuoteOrder | HoldOrder, *, unsaid_ms: int, late_ms: int | None) -> Occasion:
        """`unsaid_ms` is the moment where the partner does not say one."""
        money = order.order_amount.positive(path="$.Data.OrderAmount")
        call.policy.check_amount(money, path="$.Data.OrderAmount")
        plate = None
        if order.plate is not None:
            plate = self.plates.read(call.partner.partner_id, order.plate, path="$.Data.Plate").digest
        said = order.occurred_at
        return Occasion(
            money,
            moment_ms(said, now_ms=call.now_ms, path="$.Data.OccurredAt", late_ms=late_ms) if said else unsaid_ms,
            subject_token=order.customer_token,
            plate_digest=plate,
            site_id=order.site_id,
            mcc=site_of(call.partner, order.site_id).mcc if order.site_id is not None else None,
        )

    def _shown(self, status: int, redemption: Redemption) -> Answer:
        address = f"{self.public_url}{BASE}/redemptions/{redemption.redemption_id}"
        return enveloped(status, redemption_json(redemption), address=address)
