"""Limits as counters: which counters a hold takes from, and which limit broke when one is full.

A counter's name is kind, contract, discount, the currency where it counts money, and what the kind counts by. Counters
belong to the campaign: a new version of the contract changes caps, it does not begin to count anew. What funders have
paid is counted at confirmation only: a hold that comes to nothing takes no room from anybody's cap.
"""

from collections.abc import Mapping
from datetime import date
from enum import StrEnum

from gateway.discounts.model import Fault, Redemption, Take
from gateway.partners.contract import Contract, Discount
from gateway.partners.occasion import Occasion
from gateway.refusal import Refusal, StateConflict


class Limit(StrEnum):
    """What a counter counts: money (the first four) or times."""

    BUDGET = "budget"
    DAY = "day"
    FUND = "fund"  # of a funder under versions that cap it: its room
    SHARE = "share"  # of a funder under versions that don't
    CUSTOMER = "customer"
    PLATE_DAY = "plate"


MONEY = frozenset((Limit.BUDGET, Limit.DAY, Limit.FUND, Limit.SHARE))

DAY_MS = 86_400_000
COUNTERS_KEPT_MS = 400 * DAY_MS  # those of one day: holds of that day, and reversals that tell what of it came back
OFFER_LATE_MS = 366 * DAY_MS  # no offer for what happened before: its day's counters are, or may soon be, gone


class OfferExhausted(Refusal):
    """The campaign's budget has not enough left for this discount."""

    status, code, ob_code, outcome = 409, "offer_exhausted", "D021", "limit"
    title = "The offer's budget is used up"


class DayBudgetExhausted(Refusal):
    """The day's share of the budget has not enough left."""

    status, code, ob_code, outcome = 409, "day_budget_exhausted", "D022", "limit"
    title = "The offer's budget for this day is used up"


class CustomerLimitReached(Refusal):
    """This customer has had the offer as often as anybody may."""

    status, code, ob_code, outcome = 409, "customer_limit_reached", "D023", "limit"
    title = "This customer has used the offer as often as it allows"


class PlateLimitReached(Refusal):
    """This plate has had the offer today as often as any may."""

    status, code, ob_code, outcome = 409, "plate_limit_reached", "D024", "limit"
    title = "This number plate has used the offer today as often as it allows"


class CustomerUnknown(Refusal):
    """Nobody vouches for this token: no referral, link, consent, vehicle agreement or word of the bank."""

    status, code, ob_code = 422, "customer_unknown", "D02D"
    title = "The customer token is not known; send one of a customer whom you have referred or who gave you a consent"


class OrderHasOffer(StateConflict):
    """One order takes one offer, as long as it is held or granted."""

    code, ob_code = "order_has_offer", "D02E"
    title = "The order has an offer already; release it first, or send another OrderReference"


_BROKEN: Mapping[Limit, type[Refusal]] = {
    Limit.BUDGET: OfferExhausted,
    Limit.DAY: DayBudgetExhausted,
    Limit.CUSTOMER: CustomerLimitReached,
    Limit.PLATE_DAY: PlateLimitReached,
}


def counter(limit: Limit, contract: Contract, discount: Discount, *by: str) -> str:
    """`day|parkco-2026|first-park|CNY|2026-11-23`, `customer|parkco-2026|first-park|idt_1_…`."""
    unit = (contract.currency,) if limit in MONEY else ()
    return "|".join((limit, contract.contract_id, discount.id, *unit, *by))


def fund_counter(redemption: Redemption, party: str, *, capped: bool) -> str:
    """What this party has paid of the redemption's discount, in its currency: under all versions that cap it, which is
    what its room is measured by, or under all that don't."""
    limit = Limit.FUND if capped else Limit.SHARE
    return "|".join((limit, redemption.contract_id, redemption.discount_id, redemption.currency, party))


def stored_name(name: str) -> str:
    """The name as a redemption stores it, without what its row says anyway: `day|2026-11-23`, `customer`."""
    limit, _, _, *by = name.split("|")
    if limit == Limit.CUSTOMER:
        return limit
    return "|".join((limit, *(by[1:] if limit in MONEY else by)))


def full_name(stored: str, *, contract_id: str, discount_id: str, currency: str, subject_token: str | None) -> str:
    """The counter that a redemption of these stores as `stored`."""
    limit, _, by = stored.partition("|")
    parts = [limit, contract_id, discount_id]
    if limit in MONEY:
        parts.append(currency)
    if limit == Limit.CUSTOMER:
        assert subject_token is not None, "a customer's counter is taken for a customer"
        by = subject_token
    return "|".join((*parts, by) if by else parts)


def limit_of(name: str) -> Limit:
    return Limit(name.partition("|")[0])


def takes_of(
    contract: Contract, discount: Discount, *, held_minor: int, occasion: Occasion, day: date
) -> tuple[Take, ...]:
    """What a hold of this size takes. Budget and day are counted even without a limit: people look at them."""
    limits, today = discount.limits, day.isoformat()
    takes = [
        Take(counter(Limit.BUDGET, contract, discount), held_minor, limits.budget_minor),
        Take(counter(Limit.DAY, contract, discount, today), held_minor, limits.per_day_minor),
    ]
    if limits.per_customer is not None and occasion.subject_token is not None:
        by_customer = counter(Limit.CUSTOMER, contract, discount, occasion.subject_token)
        takes.append(Take(by_customer, 1, limits.per_customer))
    if limits.per_plate_day is not None and occasion.plate_digest is not None:
        by_plate = counter(Limit.PLATE_DAY, contract, discount, occasion.plate_digest, today)
        takes.append(Take(by_plate, 1, limits.per_plate_day))
    return tuple(takes)


def refusal_of(broken: Take | Fault) -> Refusal:
    """What turned a hold down, in words."""
    if isinstance(broken, Take):
        return _BROKEN[limit_of(broken.counter)]()
    if broken is Fault.CUSTOMER_UNKNOWN:
        return CustomerUnknown(path="$.Data.CustomerToken")
    return OrderHasOffer(path="$.Data.OrderReference")
