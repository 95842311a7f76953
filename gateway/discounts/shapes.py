"""The JSON of the discount operations: bodies as they are read, redemptions and campaigns as they are shown."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

from msgspec import Meta, Struct

from gateway.clock import Moment, rfc3339
from gateway.discounts.limits import Limit, counter
from gateway.discounts.model import Redemption
from gateway.discounts.quote import QUOTE_LIMIT, Quote
from gateway.discounts.store import CounterState
from gateway.money import Amount, amount_json
from gateway.partners.contract import Contract, Discount

_Id = Annotated[str, Meta(min_length=1, max_length=100)]
_Plate = Annotated[str, Meta(min_length=4, max_length=20)]


class _Body(Struct, frozen=True, forbid_unknown_fields=True, rename="pascal", kw_only=True):
    """Every body: PascalCase members, an unknown one is refused."""


class QuoteOrder(_Body, frozen=True):
    """Without OfferId: every offer that applies. A quote holds nothing, so it needs no OrderReference yet."""

    order_amount: Amount
    offer_id: _Id | None = None
    customer_token: _Id | None = None
    plate: _Plate | None = None
    site_id: _Id | None = None
    occurred_at: Moment | None = None
    order_reference: _Id | None = None


class QuoteBody(_Body, frozen=True):
    data: QuoteOrder


class HoldOrder(_Body, frozen=True):
    """`Quote` is the text of a quotation that this hold is to keep; one order takes one offer."""

    offer_id: _Id
    order_amount: Amount
    order_reference: _Id
    customer_token: _Id | None = None
    plate: _Plate | None = None
    site_id: _Id | None = None
    occurred_at: Moment | None = None
    quote: Annotated[str, Meta(max_length=QUOTE_LIMIT)] | None = None


class HoldBody(_Body, frozen=True):
    data: HoldOrder


class ConfirmOrder(_Body, frozen=True):
    """The final order, at most the held one; without it the order as held. SiteId: where it was in the end."""

    order_amount: Amount | None = None
    site_id: _Id | None = None


class ConfirmBody(_Body, frozen=True):
    data: ConfirmOrder


class ReversalOrder(_Body, frozen=True):
    """How much of the discount goes back."""

    amount: Amount


class ReversalBody(_Body, frozen=True):
    data: ReversalOrder


def quote_json(quote: Quote, sealed: str) -> dict[str, Any]:
    return {
        "OfferId": quote.discount_id,
        "Title": quote.title,
        "ContractId": quote.contract_id,
        "ContractVersion": quote.contract_version,
        "OrderAmount": amount_json(quote.occasion.order.minor, quote.currency),
        "DiscountAmount": amount_json(quote.discount_minor, quote.currency),
        "PayableAmount": amount_json(quote.payable_minor, quote.currency),
        "OccurredAt": rfc3339(quote.occasion.occurred_at_ms),
        "ExpirationDateTime": rfc3339(quote.expires_ms),
        "Quote": sealed,
    }


def redemption_json(redemption: Redemption) -> dict[str, Any]:
    """Optional members are left out where there is nothing to say."""
    held = redemption.funding is None
    runs_out = redemption.state == "HELD" and redemption.bound_to is None
    optional = {
        "CustomerToken": redemption.subject_token,
        "SiteId": redemption.site_id,
        "Funding": None if held else _funding_json(redemption),
        "ExpirationDateTime": rfc3339(redemption.expires_ms) if runs_out else None,
    }
    return {
        "RedemptionId": redemption.redemption_id,
        "Status": redemption.state.value,
        "OfferId": redemption.discount_id,
        "OrderReference": redemption.order_reference,
        "ContractId": redemption.contract_id,
        "ContractVersion": redemption.contract_version,
        "OrderAmount": amount_json(redemption.order_minor, redemption.currency),
        "DiscountAmount": amount_json(redemption.granted_minor, redemption.currency),
        "PayableAmount": amount_json(redemption.order_minor - redemption.granted_minor, redemption.currency),
        "ReversedAmount": amount_json(redemption.reversed_minor, redemption.currency),
        "OccurredAt": rfc3339(redemption.occurred_at_ms),
        "CreationDateTime": rfc3339(redemption.held_at_ms),
        "StatusUpdateDateTime": rfc3339(redemption.changed_at_ms),
        **{name: value for name, value in optional.items() if value is not None},
    }


def _funding_json(redemption: Redemption) -> list[dict[str, Any]]:
    """Who paid which part; the event is the line of the statement."""
    funding = redemption.funding
    assert funding is not None
    return [
        {
            "Party": party,
            "Amount": amount_json(minor, redemption.currency),
            "ReversedAmount": amount_json(funding.reversed_legs[party], redemption.currency),
        }
        for party, minor in funding.legs.items()
    ]


_FUNDING = (Limit.FUND, Limit.SHARE)
_NOTHING = CounterState(cap=None, taken=0, used=0, reversed=0)


def campaign_counters(contract: Contract, discount: Discount, today: date) -> list[str]:
    """The counters that a campaign's page shows."""
    return [
        counter(Limit.BUDGET, contract, discount),
        counter(Limit.DAY, contract, discount, today.isoformat()),
        *(counter(limit, contract, discount, share.party) for share in discount.fund for limit in _FUNDING),
    ]


def campaign_json(
    contract: Contract, discount: Discount, *, today: date, states: Mapping[str, CounterState]
) -> dict[str, Any]:
    """The campaign's live state, the same figures for both sides."""
    budget, day, *funders = (states.get(name, _NOTHING) for name in campaign_counters(contract, discount, today))
    limits = discount.limits
    customer_limits = {"PerCustomer": limits.per_customer, "PerPlateAndDay": limits.per_plate_day}
    return {
        "OfferId": discount.id,
        "Title": discount.title,
        "TitleZh": discount.title_zh or discount.title,
        "Kind": discount.kind,
        "ContractId": contract.contract_id,
        "ContractVersion": contract.version,
        "Budget": _money_counter(budget, limits.budget_minor, contract.currency),
        "Today": {"Day": today.isoformat(), **_money_counter(day, limits.per_day_minor, contract.currency)},
        "Funding": [
            {"Party": share.party, "ShareBps": share.bps,
             **_funding_counter(room, free, share.cap_minor, contract.currency)}
            for share, room, free in zip(discount.fund, funders[::2], funders[1::2], strict=True)
        ],
        "Limits": {name: value for name, value in customer_limits.items() if value is not None},
    }  # fmt: skip


def _funding_counter(room: CounterState, free: CounterState, cap: int | None, currency: str) -> dict[str, Any]:
    """All that the party has paid, and what is left of its room, where it has one."""
    whole = CounterState(cap, room.taken + free.taken, room.used + free.used, room.reversed + free.reversed)
    shown = _money_counter(whole, None, currency)
    return shown if cap is None else {**shown, **_room(room, cap, currency)}


def _room(state: CounterState, cap: int, currency: str) -> dict[str, Any]:
    return {"Cap": amount_json(cap, currency), "Left": amount_json(max(cap - state.taken, 0), currency)}


def _money_counter(state: CounterState, cap: int | None, currency: str) -> dict[str, Any]:
    shown = {
        "Used": amount_json(state.used, currency),
        "Held": amount_json(state.taken - state.used, currency),
        "Reversed": amount_json(state.reversed, currency),
    }
    return shown if cap is None else {**shown, **_room(state, cap, currency)}
