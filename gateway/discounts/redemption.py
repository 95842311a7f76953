"""The life of a redemption: HELD → CONFIRMED → PART_REVERSED → REVERSED, or RELEASED, or EXPIRED. Pure.

Each step takes the redemption as it is locked and returns everything that changes with it, to be written together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gateway.discounts.limits import MONEY, Limit, limit_of, party_of
from gateway.discounts.model import CounterChange, Funding, Redemption, RedemptionState
from gateway.events.outbox import Event
from gateway.ledger.book import Entry, redemption_confirmed, redemption_reversed
from gateway.money import Money
from gateway.partners.contract import Contract, Discount
from gateway.partners.funding import reversal_legs, split
from gateway.partners.pricing import discount_minor
from gateway.refusal import Refusal, StateConflict


class HoldExpired(StateConflict):
    """The hold's time was over before the step came."""

    code = "hold_expired"
    title = "The hold has expired; hold the offer again"


class HoldAlreadyReleased(StateConflict):
    """The hold was given back before."""

    code = "hold_already_released"
    title = "The hold was released before"


class RedemptionAlreadyConfirmed(StateConflict):
    """What is confirmed can only be reversed."""

    code = "redemption_already_confirmed"
    title = "The redemption is confirmed; reverse it instead"


class RedemptionNotConfirmed(StateConflict):
    """Only a confirmed redemption can be reversed."""

    code = "redemption_not_confirmed"
    title = "The redemption is not confirmed; release its hold instead"


class OrderAboveHold(Refusal):
    """The final order is larger than the one that the hold was made for."""

    status, code, ob_code = 422, "order_above_hold", "D025"
    title = "The final order is above the held one; release the hold and make a new one"


class OrderBelowOffer(Refusal):
    """The offer takes nothing off the final order any more."""

    status, code, ob_code = 422, "order_below_offer", "D026"
    title = "The offer takes nothing off the final order; release the hold instead"


class ReversalExceedsRedemption(Refusal):
    """More is reversed than is left of the discount."""

    status, code, ob_code = 422, "reversal_exceeds_redemption", "D027"
    title = "The reversal is above what is left of the discount"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A step that was taken: the redemption now, and what is written with it."""

    redemption: Redemption
    counters: Mapping[str, CounterChange] = field(default_factory=dict)
    entry: Entry | None = None
    event: Event | None = None


def confirm(
    held: Redemption, contract: Contract, *, order_minor: int | None, event_id: str, key: str, now_ms: int
) -> Outcome:
    """The final order's discount, at most the held one, is granted and funded; the rest returns to the counters."""
    _check_held(held, now_ms=now_ms)
    final_minor = held.order_minor if order_minor is None else order_minor
    if final_minor > held.order_minor:
        raise OrderAboveHold(f"The hold is for {_text(held, held.order_minor)}", path="$.Data.OrderAmount")
    discount = _discount(held, contract)
    off_minor = discount_minor(discount, final_minor)
    if off_minor == 0:
        raise OrderBelowOffer(path="$.Data.OrderAmount")
    cap_left = {party_of(name): taken for name, taken in held.takes.items() if limit_of(name) is Limit.FUND}
    legs = split(off_minor, discount.fund, seed=event_id, cap_left_minor=cap_left)
    confirmed = replace(
        held, state=RedemptionState.CONFIRMED, order_minor=final_minor, discount_minor=off_minor, changed_at_ms=now_ms,
        funding=Funding(event_id, legs=legs, reversed_legs=dict.fromkeys(legs, 0), cap_left=cap_left),
    )  # fmt: skip
    data = {
        "redemption_id": held.redemption_id, "discount": held.discount_id, "order_minor": final_minor,
        "discount_minor": off_minor, "payable_minor": final_minor - off_minor, "cap_left_minor": cap_left, "legs": legs,
    }  # fmt: skip
    return Outcome(
        confirmed,
        _used(held, contract, discount, off_minor=off_minor, legs=legs),
        redemption_confirmed(held.redemption_id, partner_id=held.partner_id, currency=held.currency, legs=legs),
        _event("redemption.confirmed", confirmed, event_id=event_id, amount_minor=off_minor, key=key, data=data),
    )


def release(held: Redemption, _: Contract, *, now_ms: int) -> Outcome:
    """Everything that was held returns to the counters, at the partner's word."""
    _check_held(held, now_ms=now_ms)
    return _given_back(held, RedemptionState.RELEASED, now_ms=now_ms)


def expire(held: Redemption, _: Contract, *, now_ms: int) -> Outcome:
    """The same when the time is over. Called under the lock: a confirmation that was faster is seen."""
    if held.state is not RedemptionState.HELD or held.expires_ms > now_ms:
        raise StateConflict("Not an expired hold")
    return _given_back(held, RedemptionState.EXPIRED, now_ms=now_ms)


def reverse(
    confirmed: Redemption, contract: Contract, *, amount_minor: int, event_id: str, key: str, now_ms: int
) -> Outcome:
    """Part of the discount, or what is left of it, goes back to those who funded it, on the original terms.

    Caps are not opened again: a budget says how much may ever be granted.
    """
    funding = confirmed.funding
    if funding is None:
        raise RedemptionNotConfirmed(f"The redemption is {confirmed.state}")
    left_minor = confirmed.discount_minor - confirmed.reversed_minor
    if amount_minor > left_minor:
        raise ReversalExceedsRedemption(f"{_text(confirmed, left_minor)} is left", path="$.Data.Amount")
    legs = reversal_legs(
        confirmed.discount_minor, _discount(confirmed, contract).fund, seed=funding.event_id,
        cap_left_minor=funding.cap_left, reversed_before_minor=confirmed.reversed_minor, reversed_minor=amount_minor,
    )  # fmt: skip
    state = RedemptionState.REVERSED if amount_minor == left_minor else RedemptionState.PART_REVERSED
    returned = {party: funding.reversed_legs[party] - minor for party, minor in legs.items()}
    after = replace(
        confirmed, state=state, reversed_minor=confirmed.reversed_minor + amount_minor, changed_at_ms=now_ms,
        funding=replace(funding, reversed_legs=returned),
    )  # fmt: skip
    data = {
        "redemption_id": confirmed.redemption_id, "original_event_id": funding.event_id,
        "discount": confirmed.discount_id, "original_discount_minor": confirmed.discount_minor,
        "reversed_before_minor": confirmed.reversed_minor, "reversed_minor": amount_minor,
        "cap_left_minor": dict(funding.cap_left), "original_legs": dict(funding.legs), "legs": legs,
    }  # fmt: skip
    return Outcome(
        after,
        _returned(confirmed, contract, amount_minor=amount_minor, legs=legs),
        redemption_reversed(event_id, partner_id=confirmed.partner_id, currency=confirmed.currency, legs=legs),
        _event("redemption.reversed", after, event_id=event_id, amount_minor=-amount_minor, key=key, data=data),
    )


def _check_held(redemption: Redemption, *, now_ms: int) -> None:
    match redemption.state:
        case RedemptionState.HELD:
            if redemption.expires_ms <= now_ms:
                raise HoldExpired
        case RedemptionState.EXPIRED:
            raise HoldExpired
        case RedemptionState.RELEASED:
            raise HoldAlreadyReleased
        case _:
            raise RedemptionAlreadyConfirmed


def _discount(redemption: Redemption, contract: Contract) -> Discount:
    discount = contract.find_discount(redemption.discount_id)
    assert discount is not None, "a version of a contract is never edited"
    return discount


def _given_back(held: Redemption, state: RedemptionState, *, now_ms: int) -> Outcome:
    changes = {name: CounterChange(taken=-taken) for name, taken in held.takes.items()}
    return Outcome(replace(held, state=state, changed_at_ms=now_ms), changes)


def _used(
    held: Redemption, contract: Contract, discount: Discount, *, off_minor: int, legs: Mapping[str, int]
) -> dict[str, CounterChange]:
    """Money counters learn what was granted and get the rest back; times stay taken."""
    changes = {
        name: CounterChange(taken=off_minor - taken, used=off_minor)
        for name, taken in held.takes.items()
        if limit_of(name) in MONEY - {Limit.FUND}
    }
    for party, leg in legs.items():
        name = _fund_counter(held, contract, party)
        changes[name] = CounterChange(taken=leg - held.takes.get(name, 0), used=leg)
    return changes


def _returned(
    confirmed: Redemption, contract: Contract, *, amount_minor: int, legs: Mapping[str, int]
) -> dict[str, CounterChange]:
    changes = {
        name: CounterChange(reversed=amount_minor) for name in confirmed.takes if limit_of(name) in MONEY - {Limit.FUND}
    }
    for party, leg in legs.items():
        changes[_fund_counter(confirmed, contract, party)] = CounterChange(reversed=-leg)
    return changes


def _fund_counter(redemption: Redemption, contract: Contract, party: str) -> str:
    return "|".join((Limit.FUND, contract.contract_id, redemption.discount_id, party))


def _event(
    kind: str, redemption: Redemption, *, event_id: str, amount_minor: int, key: str, data: Mapping[str, object]
) -> Event:
    """`occurred_at` is the customer's moment: it picked the terms, and the reversal keeps to them."""
    return Event(
        kind, redemption.occurred_at_ms, data, partner=redemption.partner_id, campaign=redemption.discount_id,
        contract=redemption.contract_id, contract_version=redemption.contract_version, currency=redemption.currency,
        amount_minor=amount_minor, subject_token=redemption.subject_token, idempotency_key=key, event_id=event_id,
    )  # fmt: skip


def _text(redemption: Redemption, minor: int) -> str:
    return f"{Money(minor, redemption.currency).text} {redemption.currency}"
