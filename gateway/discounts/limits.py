"""Limits as counters: which counters a hold takes from, and which limit broke when one is full.

A counter's name is kind, contract, discount, and what the kind counts by. Counters belong to the campaign: a new
version of the contract changes caps, it does not begin to count anew.
"""

from collections.abc import Mapping
from datetime import date
from enum import StrEnum

from gateway.discounts.model import Take
from gateway.partners.contract import BPS_WHOLE, Contract, Discount, Share
from gateway.partners.occasion import Occasion
from gateway.refusal import Refusal


class Limit(StrEnum):
    """What a counter counts: money (the first three) or times."""

    BUDGET = "budget"
    DAY = "day"
    FUND = "fund"
    CUSTOMER = "customer"
    PLATE_DAY = "plate"


MONEY = frozenset((Limit.BUDGET, Limit.DAY, Limit.FUND))


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


_BROKEN: Mapping[Limit, type[Refusal]] = {
    Limit.BUDGET: OfferExhausted,
    Limit.DAY: DayBudgetExhausted,
    Limit.CUSTOMER: CustomerLimitReached,
    Limit.PLATE_DAY: PlateLimitReached,
}


def counter(limit: Limit, contract: Contract, discount: Discount, *by: str) -> str:
    """`day|parkco-2026|first-park|2026-11-23`."""
    return "|".join((limit, contract.contract_id, discount.id, *by))


def limit_of(name: str) -> Limit:
    return Limit(name.partition("|")[0])


def party_of(name: str) -> str:
    """The funder of a `fund` counter."""
    return name.rpartition("|")[2]


def takes_of(
    contract: Contract, discount: Discount, *, held_minor: int, occasion: Occasion, day: date
) -> tuple[Take, ...]:
    """What a hold of this size takes. Budget and day are counted even where they are not limited: people look at them.

    A capped funder's part is taken softly and at its largest; what the cap does not hold, its overflow party pays.
    """
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
    for share in discount.fund:
        if share.cap_minor is not None:
            by_party = counter(Limit.FUND, contract, discount, share.party)
            takes.append(Take(by_party, largest_leg(share, held_minor), share.cap_minor, soft=True))
    return tuple(takes)


def largest_leg(share: Share, amount_minor: int) -> int:
    """The most that the split can give this party: its exact share, rounded up."""
    return -(-amount_minor * share.bps // BPS_WHOLE)


def refusal_of(broken: Take) -> Refusal:
    """The limit that this counter stands for, in words."""
    return _BROKEN[limit_of(broken.counter)]()
