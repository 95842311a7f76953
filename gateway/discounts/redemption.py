"""The life of a redemption: HELD → CONFIRMED → PART_REVERSED → REVERSED, or RELEASED, or EXPIRED. Pure.

Each step takes the redemption as it is locked and returns everything that changes with it, to be written together.
A redemption that pays for a charge is moved by that charge only, and waits for it whatever the time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from gateway.discounts.conditions import check_conditions
from gateway.discounts.limits import MONEY, fund_counter, limit_of
from gateway.discounts.model import CounterChange, Funding, Redemption, RedemptionState
from gateway.discounts.sealed import confirmed_event, reversed_event
from gateway.events.outbox import Event
from gateway.ledger.book import Entry, redemption_confirmed, redemption_reversed
from gateway.money import CurrencyDiffers, Money
from gateway.partners.contract import Contract, Discount
from gateway.partners.funding import reversal_legs, split
from gateway.partners.occasion import Occasion
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


class RedemptionBound(StateConflict):
    """It pays for a charge, and goes where the charge goes."""

    code, ob_code = "redemption_bound", "D02F"
    title = "The redemption belongs to a charge; the charge confirms or releases it, and its refund reverses it"


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
class Terms:
    """What a step is judged by: the hold's version, and what funders' counters have used where caps are asked.

    `changed_at_ms` is the batch's moment, which is stored: what is told of a step now is told again later.
    A hold can be given back by a program that cannot read its version: only what asks for `contract` needs it.
    """

    read: Callable[[], Contract]
    changed_at_ms: int
    funded: Mapping[str, int] = field(default_factory=dict)

    @property
    def contract(self) -> Contract:
        """Raises TermsUnreadable."""
        return self.read()


@dataclass(frozen=True, slots=True)
class FinalOrder:
    """The order as it was in the end; what is None is as held. `mcc_of` a site raises UnknownSite."""

    order: Money | None = None
    site_id: str | None = None
    mcc_of: Callable[[str], str] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A step that was taken: the redemption now, and what is written with it."""

    redemption: Redemption
    counters: Mapping[str, CounterChange] = field(default_factory=dict)
    entry: Entry | None = None
    event: Event | None = None


def confirm(
    held: Redemption, terms: Terms, *, final: FinalOrder, charge_id: str | None, event_id: str, key: str, now_ms: int
) -> Outcome:
    """The final order's discount, at most the held one, is granted and funded; the rest returns to the counters."""
    _check_held(held, charge_id=charge_id, now_ms=now_ms)
    contract = terms.contract
    discount, asked = offer_of(held, contract), _asked(held, final)
    check_conditions(discount.when, asked, contract.zone)
    off_minor = min(discount_minor(discount, asked.order.minor), held.held_minor)
    if off_minor == 0:
        raise OrderBelowOffer(path="$.Data.OrderAmount")
    cap_left = _cap_left(held, discount, terms.funded)
    legs = split(off_minor, discount.fund, seed=held.seed, cap_left_minor=cap_left)
    confirmed = replace(
        held, state=RedemptionState.CONFIRMED, order_minor=asked.order.minor, discount_minor=off_minor,
        site_id=asked.site_id, mcc=asked.mcc, changed_at_ms=terms.changed_at_ms,
        funding=Funding(event_id, legs=legs, reversed_legs=dict.fromkeys(legs, 0), cap_left=cap_left),
    )  # fmt: skip
    return Outcome(
        confirmed,
        _used(confirmed, off_minor=off_minor),
        redemption_confirmed(held.redemption_id, partner_id=held.partner_id, currency=held.currency, legs=legs),
        confirmed_event(confirmed, key=key),
    )


def release(held: Redemption, terms: Terms, *, now_ms: int) -> Outcome:
    """Everything that was held returns to the counters, at the partner's word."""
    _check_held(held, charge_id=None, now_ms=now_ms)
    return _given_back(held, RedemptionState.RELEASED, terms)


def give_way(held: Redemption, terms: Terms) -> Outcome:
    """The same for a hold that was left behind, to make room for a new one of its order."""
    _check_bound(held, None)
    if held.state is not RedemptionState.HELD:
        raise StateConflict("Not a hold any more")
    return _given_back(held, RedemptionState.RELEASED, terms)


def expire(held: Redemption, terms: Terms, *, now_ms: int) -> Outcome:
    """The same when the time is over. Called under the lock: a step that was faster is seen."""
    if held.state is not RedemptionState.HELD or held.bound_to is not None or held.expires_ms > now_ms:
        raise StateConflict("Not an expired hold")
    return _given_back(held, RedemptionState.EXPIRED, terms)


def undo(redemption: Redemption, terms: Terms, *, charge_id: str, event_id: str, key: str) -> Outcome:
    """The charge's payment has failed: a hold returns, and what was granted by then is reversed whole."""
    _check_bound(redemption, charge_id)
    if redemption.state is RedemptionState.HELD:
        return _given_back(redemption, RedemptionState.RELEASED, terms)
    if redemption.left_minor == 0:
        return Outcome(replace(redemption, changed_at_ms=terms.changed_at_ms))
    left = Money(redemption.left_minor, redemption.currency)
    return reverse(redemption, terms, amount=left, charge_id=charge_id, event_id=event_id, key=key)


def reverse(
    confirmed: Redemption, terms: Terms, *, amount: Money, charge_id: str | None, event_id: str, key: str
) -> Outcome:
    """Part of the discount, or what is left of it, goes back to those who funded it, on the original terms.

    Caps are not opened again: a budget says how much may ever be granted.
    """
    _check_bound(confirmed, charge_id)
    funding = confirmed.funding
    if funding is None:
        raise RedemptionNotConfirmed(f"The redemption is {confirmed.state}")
    if amount.currency != confirmed.currency:
        raise CurrencyDiffers(f"The hold is in {confirmed.currency}", path="$.Data.Amount.Currency")
    if amount.minor > confirmed.left_minor:
        raise ReversalExceedsRedemption(f"{_text(confirmed, confirmed.left_minor)} is left", path="$.Data.Amount")
    legs = reversal_legs(
        confirmed.discount_minor, offer_of(confirmed, terms.contract).fund, seed=confirmed.seed,
        cap_left_minor=funding.cap_left, reversed_before_minor=confirmed.reversed_minor, reversed_minor=amount.minor,
    )  # fmt: skip
    state = RedemptionState.REVERSED if amount.minor == confirmed.left_minor else RedemptionState.PART_REVERSED
    returned = {party: funding.reversed_legs[party] - minor for party, minor in legs.items()}
    after = replace(
        confirmed, state=state, reversed_minor=confirmed.reversed_minor + amount.minor,
        changed_at_ms=terms.changed_at_ms, funding=replace(funding, reversed_legs=returned),
    )  # fmt: skip
    return Outcome(
        after,
        _returned(confirmed, amount_minor=amount.minor, legs=legs),
        redemption_reversed(event_id, partner_id=confirmed.partner_id, currency=confirmed.currency, legs=legs),
        reversed_event(confirmed, amount_minor=amount.minor, legs=legs, event_id=event_id, key=key),
    )


def _check_held(redemption: Redemption, *, charge_id: str | None, now_ms: int) -> None:
    _check_bound(redemption, charge_id)
    match redemption.state:
        case RedemptionState.HELD:
            if redemption.bound_to is None and redemption.expires_ms <= now_ms:
                raise HoldExpired
        case RedemptionState.EXPIRED:
            raise HoldExpired
        case RedemptionState.RELEASED:
            raise HoldAlreadyReleased
        case _:
            raise RedemptionAlreadyConfirmed


def _check_bound(redemption: Redemption, charge_id: str | None) -> None:
    if redemption.bound_to != charge_id:
        raise RedemptionBound


def _asked(held: Redemption, final: FinalOrder) -> Occasion:
    """What the conditions are asked about: the final order, at the moment of the hold."""
    order = final.order or Money(held.order_minor, held.currency)
    if order.currency != held.currency:
        raise CurrencyDiffers(f"The hold is in {held.currency}", path="$.Data.OrderAmount.Currency")
    if order.minor > held.order_minor:
        raise OrderAboveHold(f"The hold is for {_text(held, held.order_minor)}", path="$.Data.OrderAmount")
    site_id, mcc = final.site_id or held.site_id, held.mcc
    if site_id is not None and final.mcc_of is not None:
        mcc = final.mcc_of(site_id)
    return Occasion(order, held.occurred_at_ms, held.subject_token, None, site_id, mcc)


def offer_of(redemption: Redemption, contract: Contract) -> Discount:
    """The discount of the redemption's own version."""
    discount = contract.find_discount(redemption.discount_id)
    assert discount is not None, "a version of a contract is never edited"
    return discount


def _cap_left(held: Redemption, discount: Discount, funded: Mapping[str, int]) -> dict[str, int]:
    """What each capped party has left for this discount, by all versions that cap it."""
    return {
        share.party: max(share.cap_minor - funded[fund_counter(held, share.party, capped=True)], 0)
        for share in discount.fund
        if share.cap_minor is not None
    }


def _given_back(held: Redemption, state: RedemptionState, terms: Terms) -> Outcome:
    changes = {name: CounterChange(taken=-taken) for name, taken in held.takes.items()}
    return Outcome(replace(held, state=state, changed_at_ms=terms.changed_at_ms), changes)


def _used(confirmed: Redemption, *, off_minor: int) -> dict[str, CounterChange]:
    """Money counters learn what was granted and get the rest back; times stay taken; funders' room is taken now."""
    funding = confirmed.funding
    assert funding is not None, "a confirmed redemption is funded"
    changes = {
        name: CounterChange(taken=off_minor - taken, used=off_minor)
        for name, taken in confirmed.takes.items()
        if limit_of(name) in MONEY
    }
    for party, leg in funding.legs.items():
        name = fund_counter(confirmed, party, capped=party in funding.cap_left)
        changes[name] = CounterChange(taken=leg, used=leg)
    return changes


def _returned(confirmed: Redemption, *, amount_minor: int, legs: Mapping[str, int]) -> dict[str, CounterChange]:
    funding = confirmed.funding
    assert funding is not None, "only what is funded is reversed"
    changes = {name: CounterChange(reversed=amount_minor) for name in confirmed.takes if limit_of(name) in MONEY}
    for party, leg in legs.items():
        changes[fund_counter(confirmed, party, capped=party in funding.cap_left)] = CounterChange(reversed=-leg)
    return changes


def _text(redemption: Redemption, minor: int) -> str:
    return f"{Money(minor, redemption.currency).text} {redemption.currency}"
