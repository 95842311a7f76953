"""Control parameters: when a period begins, what it allows, and what is no limit at all."""

from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import to_ms
from gateway.money import AmountMalformed, Money
from gateway.payments.limits import (
    ControlParameterBreached,
    ControlParametersInvalid,
    PeriodLimit,
    Use,
    check_payment,
    period_start,
    read_parameters,
    uses,
)
from tests.tills import vrp_body

SHANGHAI = ZoneInfo("Asia/Shanghai")
KINDS = ("Day", "Week", "Fortnight", "Month", "Half-year", "Year")
DAYS = st.dates(date(2020, 1, 1), date(2040, 12, 31))
LIMITS = st.builds(
    PeriodLimit, st.just(0), st.sampled_from(KINDS), st.sampled_from(("Consent", "Calendar")),
    st.builds(Money, st.integers(1, 10**12), st.just("CNY")),
).filter(lambda limit: (limit.period_type, limit.alignment) != ("Fortnight", "Calendar"))  # fmt: skip


def noon(day: date) -> int:
    return to_ms(datetime(day.year, day.month, day.day, 12, tzinfo=SHANGHAI))


def use_of(limit: PeriodLimit, *, made: date, day: date) -> Use:
    parameters = read_parameters(vrp_body((limit.period_type, limit.alignment, limit.amount.text), maximum="1.00"))
    [use] = uses(parameters, consent_made_ms=noon(made), at_ms=noon(day))
    return use


def limit_of(kind: str, alignment: str, amount: str = "300.00") -> PeriodLimit:
    return read_parameters(vrp_body((kind, alignment, amount))).periods[0]


@pytest.mark.parametrize(
    ("kind", "alignment", "made", "day", "starts_on"),
    [
        ("Day", "Calendar", "2026-02-10", "2026-03-04", "2026-03-04"),
        ("Week", "Calendar", "2026-02-10", "2026-03-04", "2026-03-02"),  # a Wednesday's Monday
        ("Month", "Calendar", "2026-02-10", "2026-03-04", "2026-03-01"),
        ("Half-year", "Calendar", "2026-02-10", "2026-06-30", "2026-01-01"),
        ("Half-year", "Calendar", "2026-02-10", "2026-07-01", "2026-07-01"),
        ("Year", "Calendar", "2026-02-10", "2027-12-31", "2027-01-01"),
        ("Week", "Consent", "2026-02-10", "2026-03-04", "2026-03-03"),  # a Tuesday
        ("Fortnight", "Consent", "2026-02-10", "2026-03-09", "2026-02-24"),
        ("Month", "Consent", "2026-02-10", "2026-03-09", "2026-02-10"),
        ("Month", "Consent", "2026-02-10", "2026-03-10", "2026-03-10"),
        ("Month", "Consent", "2025-08-31", "2025-09-29", "2025-08-31"),
        ("Month", "Consent", "2025-08-31", "2025-09-30", "2025-09-30"),  # too short a month: its last day
        ("Month", "Consent", "2025-08-31", "2025-10-30", "2025-09-30"),
        ("Month", "Consent", "2025-08-31", "2025-10-31", "2025-10-31"),  # and not shortened for ever
        ("Half-year", "Consent", "2025-08-31", "2026-02-28", "2026-02-28"),
        ("Year", "Consent", "2024-02-29", "2025-02-27", "2024-02-29"),
        ("Year", "Consent", "2024-02-29", "2025-02-28", "2025-02-28"),
    ],
)
def test_a_period_begins_where_its_alignment_says(
    kind: str, alignment: str, made: str, day: str, starts_on: str
) -> None:
    limit = limit_of(kind, alignment)
    start = period_start(limit, consent_day=date.fromisoformat(made), day=date.fromisoformat(day))
    assert start == date.fromisoformat(starts_on)


@pytest.mark.parametrize(
    ("kind", "amount", "made", "expected"),
    [
        ("Month", "300.00", date(2021, 6, 6), 25_000),  # the two examples of the standard
        ("Year", "500.00", date(2021, 6, 6), 28_630),
        ("Month", "300.00", date(2021, 6, 1), 30_000),
        ("Month", "300.00", date(2021, 6, 30), 1_000),
        ("Week", "70.00", date(2026, 3, 4), 5_000),
        ("Day", "50.00", date(2026, 3, 4), 5_000),
    ],
)
def test_a_calendars_first_period_is_in_proportion(kind: str, amount: str, made: date, expected: int) -> None:
    limit = limit_of(kind, "Calendar", amount)
    assert use_of(limit, made=made, day=made).limit_minor == expected
    assert use_of(limit, made=made, day=made + timedelta(366)).limit_minor == limit.amount.minor


def test_a_consents_first_period_is_whole() -> None:
    assert use_of(limit_of("Month", "Consent"), made=date(2021, 6, 6), day=date(2021, 6, 6)).limit_minor == 30_000


def test_a_day_begins_at_midnight_of_the_banks_zone() -> None:
    parameters = read_parameters(vrp_body(("Day", "Calendar", "50.00")))
    before = datetime(2026, 3, 4, 15, 59, 59, tzinfo=ZoneInfo("UTC"))
    days = [
        uses(parameters, consent_made_ms=0, at_ms=to_ms(before) + more_ms)[0].starts_on for more_ms in (0, 999, 1_000)
    ]
    assert days == [date(2026, 3, 4), date(2026, 3, 4), date(2026, 3, 5)]


@given(LIMITS, DAYS, st.integers(0, 4_000))
def test_every_day_lies_in_the_period_that_it_is_counted_to(limit: PeriodLimit, made: date, after: int) -> None:
    day = made + timedelta(after)
    start = period_start(limit, consent_day=made, day=day)
    longest = {"Day": 1, "Week": 7, "Fortnight": 14, "Month": 31, "Half-year": 184, "Year": 366}[limit.period_type]
    assert start <= day < start + timedelta(longest)
    assert period_start(limit, consent_day=made, day=start) == start


@given(LIMITS, DAYS, st.integers(0, 2_000))
def test_periods_follow_each_other_without_a_gap(limit: PeriodLimit, made: date, after: int) -> None:
    day = made + timedelta(after)
    today = period_start(limit, consent_day=made, day=day)
    tomorrow = period_start(limit, consent_day=made, day=day + timedelta(1))
    assert tomorrow in (today, day + timedelta(1))


@given(LIMITS, DAYS, st.integers(0, 1_000))
def test_no_period_allows_more_than_the_customer_did(limit: PeriodLimit, made: date, after: int) -> None:
    use = use_of(limit, made=made, day=made + timedelta(after))
    assert 0 <= use.limit_minor <= limit.amount.minor
    assert use.limit_minor == limit.amount.minor or use.starts_on < made


def test_more_than_the_first_period_allows_is_refused_though_the_whole_one_would_do() -> None:
    parameters = read_parameters(vrp_body(("Month", "Calendar", "300.00"), maximum="300.00"))
    made = noon(date(2021, 6, 6))
    check_payment(parameters, Money(25_000, "CNY"), consent_made_ms=made, at_ms=made)
    with pytest.raises(ControlParameterBreached, match=r"from 2021-06-01 would be above 250\.00"):
        check_payment(parameters, Money(25_001, "CNY"), consent_made_ms=made, at_ms=made)
    check_payment(parameters, Money(30_000, "CNY"), consent_made_ms=made, at_ms=noon(date(2021, 7, 1)))


@pytest.mark.parametrize(
    "body",
    [
        vrp_body(("Fortnight", "Calendar", "1.00")),
        vrp_body(("Day", "Calendar", "0.00")),
        vrp_body(("Day", "Calendar", "1.00"), maximum="0"),
        vrp_body(*[("Day", "Calendar", "1.00")] * 13),
        vrp_body(ValidFromDateTime="2026-01-02T00:00:00Z", ValidToDateTime="2026-01-02T00:00:00Z"),
        vrp_body(MaximumIndividualAmount={"Amount": "1.00", "Currency": "EUR"}),
    ],
    ids=["calendar fortnight", "zero limit", "zero maximum", "too many", "over at once", "two currencies"],
)
def test_limits_that_cannot_be_kept_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ControlParametersInvalid) as refused:
        read_parameters(body)
    assert refused.value.path.startswith("$.Data.ControlParameters")


@pytest.mark.parametrize("amount", ["-1.00", "1.001", "1e3", "", "1.", "12345678901234"])
def test_an_amount_that_is_no_decimal_is_refused(amount: str) -> None:
    with pytest.raises(AmountMalformed):
        read_parameters(vrp_body(maximum=amount))
