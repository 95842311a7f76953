"""Control parameters of a mandate (VRP): how much at once, how much a period, from when to when. Pure rules.

UK Open Banking 4.0.1, OBDomesticVRPControlParameters. A period begins on a day, at midnight of the bank's zone: on the
calendar's Monday, 1st, January or July, or counted from the day on which the consent was made. Where a month is too
short for the consent's day, its last day counts (31 August, 30 September, 31 October). A mandate that begins within a
calendar's period has that period's limit in proportion to the days that are left, the first one counted.
"""

from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from gateway.clock import local_day, rfc3339, to_ms
from gateway.events.outbox import BANK_ZONE
from gateway.money import Money, parse_amount
from gateway.refusal import Refusal

PERIODS_LIMIT = 12  # PeriodicLimits of one mandate: each type in both alignments
_WHERE = "$.Data.ControlParameters"
_DAYS = {"Day": 1, "Week": 7, "Fortnight": 14}
_MONTHS = {"Month": 1, "Half-year": 6, "Year": 12}


class ControlParametersInvalid(Refusal):
    """Limits that cannot be kept."""

    code, ob_code, outcome = "control_parameters_invalid", "U002", "schema"
    title = "The control parameters cannot be kept"


class ControlParameterBreached(Refusal):
    """The payment is outside what the customer allowed; `path` names the parameter."""

    code, ob_code, outcome = "control_parameter_breached", "U014", "consent"
    title = "The payment is outside the limits that the customer allowed"


@dataclass(frozen=True, slots=True)
class PeriodLimit:
    """At most `amount` in each period; `number` is its place in PeriodicLimits."""

    number: int
    period_type: str  # Day, Week, Fortnight, Month, Half-year, Year
    alignment: str  # Consent, Calendar
    amount: Money


@dataclass(frozen=True, slots=True)
class ControlParameters:
    """What the customer allowed. `valid_to_ms` is the first moment at which it is over."""

    maximum: Money
    periods: tuple[PeriodLimit, ...]
    valid_from_ms: int | None
    valid_to_ms: int | None


@dataclass(frozen=True, slots=True)
class Use:
    """One period that a payment falls into, and what the period allows this mandate in all."""

    limit_no: int
    starts_on: date
    limit_minor: int


def read_parameters(body: Mapping[str, Any]) -> ControlParameters:
    """From a consent's Data. Raises ControlParametersInvalid, AmountMalformed."""
    given = body["ControlParameters"]
    maximum = _amount(given["MaximumIndividualAmount"], f"{_WHERE}.MaximumIndividualAmount")
    periods = tuple(_period(number, each) for number, each in enumerate(given["PeriodicLimits"]))
    if not 1 <= len(periods) <= PERIODS_LIMIT:
        raise ControlParametersInvalid(f"Give 1 to {PERIODS_LIMIT} limits", path=f"{_WHERE}.PeriodicLimits")
    if any(period.amount.currency != maximum.currency for period in periods):
        raise ControlParametersInvalid("All limits are in one currency", path=f"{_WHERE}.PeriodicLimits")
    valid_from, valid_to = _moment(given, "ValidFromDateTime"), _moment(given, "ValidToDateTime")
    if valid_from is not None and valid_to is not None and valid_to <= valid_from:
        raise ControlParametersInvalid("It ends before it begins", path=f"{_WHERE}.ValidToDateTime")
    return ControlParameters(maximum, periods, valid_from, valid_to)


def check_payment(parameters: ControlParameters, amount: Money, *, consent_made_ms: int, at_ms: int) -> None:
    """All that can be said without knowing earlier payments. Raises ControlParameterBreached."""
    if parameters.valid_from_ms is not None and at_ms < parameters.valid_from_ms:
        raise ControlParameterBreached(
            f"The mandate begins at {rfc3339(parameters.valid_from_ms)}", path=f"{_WHERE}.ValidFromDateTime"
        )
    if parameters.valid_to_ms is not None and at_ms >= parameters.valid_to_ms:
        raise ControlParameterBreached(
            f"The mandate ended at {rfc3339(parameters.valid_to_ms)}", path=f"{_WHERE}.ValidToDateTime"
        )
    where = f"{_WHERE}.MaximumIndividualAmount"
    if amount.currency != parameters.maximum.currency:
        raise ControlParameterBreached(f"The mandate is in {parameters.maximum.currency}", path=where)
    if amount.minor > parameters.maximum.minor:
        raise ControlParameterBreached(f"One payment is at most {parameters.maximum.text}", path=where)
    for use in uses(parameters, consent_made_ms=consent_made_ms, at_ms=at_ms):
        if amount.minor > use.limit_minor:
            raise period_breached(parameters, use)


def period_breached(parameters: ControlParameters, use: Use) -> ControlParameterBreached:
    """The refusal that says which period has too little left."""
    period = parameters.periods[use.limit_no]
    limit = Money(use.limit_minor, period.amount.currency)
    return ControlParameterBreached(
        f"With this payment the {period.period_type.lower()} from {use.starts_on} would be above {limit.text}",
        path=f"{_WHERE}.PeriodicLimits[{use.limit_no}].Amount",
    )


def uses(parameters: ControlParameters, *, consent_made_ms: int, at_ms: int) -> tuple[Use, ...]:
    """The period of each limit that a payment of that moment falls into."""
    made, day = local_day(consent_made_ms, BANK_ZONE), local_day(at_ms, BANK_ZONE)
    return tuple(_use(period, consent_day=made, day=day) for period in parameters.periods)


def _use(period: PeriodLimit, *, consent_day: date, day: date) -> Use:
    """A calendar's period in which the consent was made is not whole: its limit is rounded down, for the customer."""
    starts_on, whole = period_start(period, consent_day=consent_day, day=day), period.amount.minor
    if starts_on >= consent_day:
        return Use(period.number, starts_on, whole)
    ends_on = _next_start(period, starts_on)
    limit_minor = whole * (ends_on - consent_day).days // (ends_on - starts_on).days
    return Use(period.number, starts_on, limit_minor)


def period_start(period: PeriodLimit, *, consent_day: date, day: date) -> date:
    """The first day of the period that `day` lies in."""
    days = _DAYS.get(period.period_type)
    if period.alignment == "Calendar":
        consent_day = date(2001, 1, 1)  # a Monday, and the first day of a year, half-year and month
    if days is not None:
        return day - timedelta(days=(day - consent_day).days % days)
    step = _MONTHS[period.period_type]
    months = (day.year - consent_day.year) * 12 + day.month - consent_day.month
    start = _months_later(consent_day, months // step * step)
    return start if start <= day else _months_later(consent_day, (months // step - 1) * step)


def _next_start(period: PeriodLimit, starts_on: date) -> date:
    """Of a calendar's period."""
    days = _DAYS.get(period.period_type)
    return starts_on + timedelta(days) if days else _months_later(starts_on, _MONTHS[period.period_type])


def _months_later(day: date, months: int) -> date:
    """Counted from the first day, so a short month does not shorten those after it."""
    years, month = divmod(day.month - 1 + months, 12)
    year = day.year + years
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def _period(number: int, given: Mapping[str, str]) -> PeriodLimit:
    where = f"{_WHERE}.PeriodicLimits[{number}]"
    if given["PeriodType"] == "Fortnight" and given["PeriodAlignment"] == "Calendar":
        raise ControlParametersInvalid("No calendar says when a fortnight begins", path=f"{where}.PeriodAlignment")
    return PeriodLimit(number, given["PeriodType"], given["PeriodAlignment"], _amount(given, where))


def _amount(given: Mapping[str, str], where: str) -> Money:
    money = parse_amount(given["Amount"], given["Currency"], path=f"{where}.Amount")
    if money.minor == 0:
        raise ControlParametersInvalid("A limit of nothing allows nothing", path=f"{where}.Amount")
    return money


def _moment(given: Mapping[str, str], name: str) -> int | None:
    return to_ms(datetime.fromisoformat(given[name])) if name in given else None
