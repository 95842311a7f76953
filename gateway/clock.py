"""The one place that reads the time, and the one bounded reader of every moment and day that a caller names.

Rules take `now_ms`; only admission, chores and the command line ask. What a caller names lies in the years 2000 to
9998, so every zone's clock can show it and nothing is stored that cannot be answered: `Moment` and `Day` are the types
of the members of a body that hold one, and jsonio reads no other (docs/decisions/0019-moments-from-callers.md).
"""

import re
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from gateway.refusal import BodyMalformed, Refusal

T = TypeVar("T")
CLOCK_SKEW_MS = 60_000  # how far ahead of ours a partner's clock may run, and the bank's
EARLIEST_MS = 946_684_800_000  # 2000-01-01T00:00:00Z: no deal of ours is older, and no clock of ours was ever set so
END_MS = 253_370_764_800_000  # 9999-01-01T00:00:00Z, the first moment too late: a year before the calendar's own end
_YEARS = (2000, 9998)
_SPAN = "The years from 2000 to 9998 are read here, in UTC"
_DAY = r"(?:\d{4}-\d\d-\d\d)"
_TIME = r"(?:[Tt](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?)"
_ZONE = r"(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
_MOMENT = re.compile(f"{_DAY}{_TIME}{_ZONE}", re.ASCII)  # RFC 3339
_ASKED = re.compile(f"{_DAY}(?:{_TIME}{_ZONE}?)?", re.ASCII)  # a query's: time and zone may be left out
_WHOLE_DAY = re.compile(_DAY, re.ASCII)


class Moment(datetime):
    """A moment that a caller has named: within the bounds, with the zone that it was written with."""


class Day(date):
    """A calendar day that a caller has named, within the bounds."""


class MomentUnreadable(ValueError):
    """The text is no moment, or no day; what it says is for the caller."""


class MomentBeyond(ValueError):
    """A real moment outside the years that are read."""


class MomentMalformed(BodyMalformed):
    """A time or a day is written in another way than the contract says: `2026-11-23T08:00:00Z`, `2026-11-23`."""

    ob_code = "U003"


class MomentOutOfRange(Refusal):
    """A time or a day before the year 2000 or after 9998. Leave an end out where there is none."""

    code, ob_code, outcome = "moment_out_of_range", "U003", "schema"
    title = "The moment is outside the years that are read"


class MomentInFuture(Refusal):
    """A partner reports what has happened, not what will. Its clock may run a minute ahead of ours."""

    code, ob_code, outcome = "moment_in_future", "D010", "schema"
    title = "The moment lies in the future"


class MomentTooLate(Refusal):
    """What has happened is told within the operation's time: minutes for a hold, `late_days` for a stay."""

    status, code, ob_code, outcome = 422, "too_late", "D011", "schema"
    title = "This was told too late"


def now_ms() -> int:
    """UTC epoch in milliseconds."""
    return time.time_ns() // 1_000_000


def rfc3339(ms: int) -> str:
    """`2026-11-23T08:00:00.000Z`, the spelling of every time that leaves the house; exact, as no float is involved."""
    seconds, rest = divmod(ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{rest:03d}Z"


def to_ms(moment: datetime) -> int:
    """Epoch milliseconds of an aware datetime; exact, as no float is involved."""
    assert moment.tzinfo is not None, "a time without its zone is a bug"
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return delta.days * 86_400_000 + delta.seconds * 1000 + delta.microseconds // 1000


def read_moment(text: object) -> Moment:
    """RFC 3339 with its zone. Raises MomentUnreadable, MomentBeyond."""
    if not isinstance(text, str) or _MOMENT.fullmatch(text) is None:
        raise MomentUnreadable("Write the time with its zone, like 2026-11-23T08:00:00Z or 2026-11-23T16:00:00+08:00")
    return _bounded(text)


def read_day(text: object) -> Day:
    """`2026-11-23` and no other spelling. Raises MomentUnreadable, MomentBeyond."""
    if not isinstance(text, str) or _WHOLE_DAY.fullmatch(text) is None:
        raise MomentUnreadable("Write the day as YYYY-MM-DD")
    try:
        day = Day.fromisoformat(text)
    except ValueError:
        raise MomentUnreadable(f"{text} is no day of the calendar") from None
    if not _YEARS[0] <= day.year <= _YEARS[1]:
        raise MomentBeyond(_SPAN)
    return day


def asked_ms(text: str, *, path: str) -> int:
    """A moment of a query: UTC where it names no zone, midnight where it names no time; a blank is a `+` that was not
    escaped. Raises MomentMalformed, MomentOutOfRange."""
    text = text.replace(" ", "+")
    if _ASKED.fullmatch(text) is None:
        raise MomentMalformed("Write it like 2026-11-23T08:00:00, in UTC", path=path)
    if len(text) == len("2026-11-23"):
        text += "T00:00:00"
    if text[-1] not in "Zz" and text[-6] not in "+-":
        text += "Z"
    return to_ms(_refusing(_bounded, text, path=path))


def asked_day(text: str, *, path: str) -> Day:
    """A day of a path or a query. Raises MomentMalformed, MomentOutOfRange."""
    return _refusing(read_day, text, path=path)


def moment_ms(moment: Moment, *, now_ms: int, path: str, late_ms: int | None = None) -> int:
    """When the partner says that it happened: at most `late_ms` ago, where there is such a bound.

    Raises MomentInFuture, MomentTooLate.
    """
    at_ms = to_ms(moment)
    if at_ms > now_ms + CLOCK_SKEW_MS:
        raise MomentInFuture(f"It is {rfc3339(now_ms)} here", path=path)
    if late_ms is not None and at_ms < now_ms - late_ms:
        raise MomentTooLate(f"Told until {_span(late_ms)} afterwards; it is {rfc3339(now_ms)} here", path=path)
    return at_ms


def reading_hook(kind: type, value: object) -> Any:
    """msgspec's dec_hook: how the members of a body that are moments and days are read."""
    if kind is Moment:
        return read_moment(value)
    if kind is Day:
        return read_day(value)
    raise NotImplementedError(f"no body holds a {kind}")


def spelling_hook(value: object) -> str:
    """msgspec's enc_hook: a moment or a day as it was written, in one spelling of its zone."""
    if isinstance(value, (Moment, Day)):
        return value.isoformat().replace("+00:00", "Z")
    raise NotImplementedError(f"no answer holds a {type(value)}")


def local_time(ms: int, zone: ZoneInfo) -> datetime:
    """That instant on the zone's clocks."""
    return datetime.fromtimestamp(ms / 1000, zone)


def local_day(ms: int, zone: ZoneInfo) -> date:
    """The calendar day of that instant in the zone."""
    return local_time(ms, zone).date()


def _refusing(read: Callable[[str], T], text: str, *, path: str) -> T:
    try:
        return read(text)
    except MomentUnreadable as error:
        raise MomentMalformed(str(error), path=path) from None
    except MomentBeyond as error:
        raise MomentOutOfRange(str(error), path=path) from None


def _bounded(text: str) -> Moment:
    try:
        moment = Moment.fromisoformat(text.upper())
    except ValueError:
        raise MomentUnreadable(f"{text} is no moment of the calendar") from None
    if not EARLIEST_MS <= to_ms(moment) < END_MS:
        raise MomentBeyond(_SPAN)
    return moment


def _span(late_ms: int) -> str:
    minutes = late_ms // 60_000
    number, unit = (minutes, "minute") if minutes < 24 * 60 else (minutes // (24 * 60), "day")
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
