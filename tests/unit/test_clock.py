"""The one reader of callers' moments: bounded whatever comes, exact, and no shape of a body goes around it."""

import importlib
import pkgutil
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import gateway
from gateway.clock import (
    CLOCK_SKEW_MS,
    EARLIEST_MS,
    END_MS,
    Day,
    Moment,
    MomentBeyond,
    MomentInFuture,
    MomentMalformed,
    MomentOutOfRange,
    MomentTooLate,
    MomentUnreadable,
    asked_ms,
    local_day,
    moment_ms,
    read_day,
    read_moment,
    rfc3339,
    to_ms,
)
from gateway.jsonio import decode, encode, plain
from gateway.refusal import BodyMalformed

# What people write into agreed files, never a caller: read by gateway/document.py, checked when it is applied.
AGREED = {"gateway.partners.contract.Head"}
ZONES = tuple(map(ZoneInfo, ("Asia/Shanghai", "Pacific/Kiritimati", "Etc/GMT+12", "UTC")))
STORED = st.integers(EARLIEST_MS, END_MS - 1)


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """A body with both kinds of time in it."""

    at: list[Moment] = []
    on: Day | None = None


# --- bounded ---------------------------------------------------------------------------------------------------------
@given(text=st.one_of(
    st.text(max_size=40),
    st.datetimes().map(datetime.isoformat),
    st.builds(lambda at, zone: at.replace(tzinfo=timezone(timedelta(minutes=zone))).isoformat(),
              st.datetimes(), st.integers(-1439, 1439)),
    st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,12})?(Z|[+-][0-9]{2}:[0-9]{2})"),
))  # fmt: skip
@example("0001-01-01T00:00:00+14:00")
@example("9999-12-31T23:59:59-14:00")
@example("9999-12-31T24:00:00Z")
def test_whatever_is_read_can_be_stored_and_answered(text: str) -> None:
    try:
        at_ms = to_ms(read_moment(text))
    except (MomentUnreadable, MomentBeyond):
        return
    assert EARLIEST_MS <= at_ms < END_MS
    assert to_ms(read_moment(rfc3339(at_ms))) == at_ms
    for zone in ZONES:
        assert local_day(at_ms, zone).year in range(1999, 10_000)


@given(text=st.text(max_size=30))
@example("2026-11-23T08:00:00 08:00")
@example("")
def test_whatever_a_query_says_is_read_or_refused(text: str) -> None:
    try:
        assert EARLIEST_MS <= asked_ms(text, path="$query.from") < END_MS
    except (MomentMalformed, MomentOutOfRange):
        return


@given(at_ms=STORED)
def test_every_stored_moment_has_one_exact_spelling(at_ms: int) -> None:
    text = rfc3339(at_ms)
    assert len(text) == len("2026-11-23T08:00:00.000Z")
    assert to_ms(datetime.fromisoformat(text)) == at_ms


@given(text=st.one_of(st.text(max_size=12), st.dates().map(date.isoformat)))
@example("2026-W01-1")
@example("20200102")
@example("9999-12-31")
def test_a_day_is_read_in_one_spelling_and_has_a_day_after_it(text: str) -> None:
    try:
        day = read_day(text)
    except (MomentUnreadable, MomentBeyond):
        return
    assert day.isoformat() == text
    assert (day + timedelta(days=1)).year <= 9999


# --- the two ends ----------------------------------------------------------------------------------------------------
def test_the_bounds_are_the_years_2000_to_9998_in_utc() -> None:
    assert to_ms(read_moment("2000-01-01T00:00:00Z")) == EARLIEST_MS
    assert to_ms(read_moment("9998-12-31T23:59:59.999Z")) == END_MS - 1
    for beyond in ("1999-12-31T23:59:59.999Z", "9999-01-01T00:00:00Z", "2000-01-01T00:00:00+00:01"):
        with pytest.raises(MomentBeyond):
            read_moment(beyond)
    assert to_ms(read_moment("1999-12-31T23:59:00-00:01")) == EARLIEST_MS


def test_a_partner_tells_from_the_last_moment_that_is_not_too_late_to_the_last_that_a_fast_clock_shows() -> None:
    now_ms = to_ms(read_moment("2026-11-23T08:00:00Z"))

    def told(text: str) -> int:
        return moment_ms(read_moment(text), now_ms=now_ms, path="$", late_ms=900_000)

    assert told("2026-11-23T07:45:00Z") == now_ms - 900_000
    assert told("2026-11-23T08:01:00Z") == now_ms + CLOCK_SKEW_MS
    with pytest.raises(MomentTooLate, match="15 minutes"):
        told("2026-11-23T07:44:59.999Z")
    with pytest.raises(MomentInFuture):
        told("2026-11-23T08:01:00.001Z")


def test_a_query_may_leave_time_and_zone_out() -> None:
    whole = asked_ms("2026-11-23T00:00:00Z", path="$")
    assert {
        asked_ms(text, path="$") for text in ("2026-11-23", "2026-11-23T00:00:00", "2026-11-23T08:00:00 08:00")
    } == {whole}


# --- bodies ----------------------------------------------------------------------------------------------------------
def test_a_body_says_which_of_its_moments_cannot_be_read() -> None:
    with pytest.raises(MomentOutOfRange) as beyond:
        decode(b'{"at":["2026-01-01T00:00:00Z","0001-01-01T00:00:00+14:00"]}', Body)
    assert beyond.value.path == "$.at[1]"
    with pytest.raises(BodyMalformed) as unread:
        decode(b'{"on":"20260101"}', Body)
    assert (unread.value.path, unread.value.ob_code) == ("$.on", "U003")
    with pytest.raises(BodyMalformed) as other:
        decode(b'{"off":1}', Body)
    assert other.value.ob_code == "U002"


def test_a_body_is_shown_again_with_the_times_that_it_said() -> None:
    said = b'{"at":["2026-01-01T08:00:00+08:00","2026-01-01T00:00:00.120000Z"],"on":"2026-01-01"}'
    assert encode(decode(said, Body)) == said
    assert plain(decode(said, Body))["on"] == "2026-01-01"


# --- no shape goes around it -----------------------------------------------------------------------------------------
def shapes() -> Iterator[type[msgspec.Struct]]:
    """Every msgspec shape of the program."""
    for module in pkgutil.walk_packages(gateway.__path__, "gateway."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = [msgspec.Struct]
    while found:
        for deeper in found.pop().__subclasses__():
            found.append(deeper)
            if deeper.__module__.startswith("gateway."):
                yield deeper


def times_in(kind: Any) -> Iterator[Any]:
    """The plain dates and times that msgspec would read by itself, without our bounds."""
    if isinstance(kind, msgspec.inspect.DateTimeType | msgspec.inspect.DateType | msgspec.inspect.TimeType):
        yield kind
    parts = [getattr(kind, name, None) for name in ("item_type", "key_type", "value_type", "type")]
    for part in (*parts, *getattr(kind, "types", ()), *(getattr(kind, "item_types", ()))):
        if isinstance(part, msgspec.inspect.Type):
            yield from times_in(part)


def test_every_shape_reads_its_times_by_the_clock() -> None:
    names = {f"{shape.__module__}.{shape.__qualname__}": shape for shape in shapes()}
    assert len(names) > 60, "the walk finds what is there"
    plain_ones = {
        f"{name}.{field.name}"
        for name, shape in names.items()
        for field in msgspec.inspect.type_info(shape).fields  # type: ignore[attr-defined]
        if list(times_in(field.type)) and name not in AGREED
    }
    assert not plain_ones, "declare them as gateway.clock.Moment or Day"


def test_a_shape_with_a_plain_time_would_be_noticed() -> None:
    class Careless(msgspec.Struct):
        at: dict[str, list[datetime | None]]

    [field] = msgspec.inspect.type_info(Careless).fields  # type: ignore[attr-defined]
    assert list(times_in(field.type))
