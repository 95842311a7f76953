"""When an offer applies: its `when` against the occasion on which a customer wants it."""

from datetime import datetime
from zoneinfo import ZoneInfo

from gateway.clock import local_time
from gateway.money import Money
from gateway.partners.contract import Conditions, Contract, Discount, clock_range
from gateway.partners.occasion import Occasion
from gateway.partners.pricing import discount_minor
from gateway.refusal import Refusal

_WEEKDAYS = ("", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class OfferNotApplicable(Refusal):
    """A condition of the offer does not hold; the detail says which."""

    status, code, ob_code = 422, "offer_not_applicable", "D020"
    title = "The offer does not apply here"


def granted_minor(contract: Contract, discount: Discount, occasion: Occasion) -> int:
    """What comes off. Raises OfferNotApplicable, naming the condition that does not hold."""
    if occasion.order.currency != contract.currency:
        raise OfferNotApplicable(f"The offer is in {contract.currency}", path="$.Data.OrderAmount.Currency")
    check_conditions(discount.when, occasion, contract.zone)
    limits = discount.limits
    if limits.per_customer is not None and occasion.subject_token is None:
        raise OfferNotApplicable("The offer is limited per customer: send CustomerToken", path="$.Data.CustomerToken")
    if limits.per_plate_day is not None and occasion.plate_digest is None:
        raise OfferNotApplicable("The offer is limited per plate and day: send Plate", path="$.Data.Plate")
    off_minor = discount_minor(discount, occasion.order.minor)
    if off_minor == 0:
        raise OfferNotApplicable("The offer takes nothing off this amount", path="$.Data.OrderAmount")
    return off_minor


def check_conditions(when: Conditions, occasion: Occasion, zone: ZoneInfo) -> None:
    """Raises OfferNotApplicable, naming the condition; asked for a quote, a hold, and again for the final order."""
    if when.mcc and occasion.mcc not in when.mcc:
        raise OfferNotApplicable(f"mcc: the offer is for sites of category {', '.join(when.mcc)}", path="$.Data.SiteId")
    if when.site and occasion.site_id not in when.site:
        raise OfferNotApplicable(f"site: the offer is for {', '.join(when.site)}", path="$.Data.SiteId")
    if when.weekday or when.time is not None:
        _check_clock(when, local_time(occasion.occurred_at_ms, zone))
    if occasion.order.minor < when.min_minor:
        least = Money(when.min_minor, occasion.order.currency)
        raise OfferNotApplicable(f"min_minor: the offer is for orders from {least.text}", path="$.Data.OrderAmount")


def _check_clock(when: Conditions, local: datetime) -> None:
    if when.weekday and local.isoweekday() not in when.weekday:
        days = ", ".join(_WEEKDAYS[day] for day in when.weekday)
        raise OfferNotApplicable(f"weekday: the offer is for {days}", path="$.Data.OccurredAt")
    if when.time is not None:
        start, end = clock_range(when.time)
        if not start <= local.hour * 60 + local.minute < end:
            raise OfferNotApplicable(f"time: the offer is for {when.time} {local.tzinfo}", path="$.Data.OccurredAt")
