"""The one place that reads the time. Rules take `now_ms`; only admission, chores and the command line ask."""

import time
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from gateway.refusal import Refusal

CLOCK_SKEW_MS = 10_000  # how far ahead of ours a partner's clock may run


class MomentInFuture(Refusal):
    """A partner reports what has happened, not what will."""

    code, ob_code, outcome = "moment_in_future", "D010", "schema"
    title = "The moment lies in the future"


def now_ms() -> int:
    """UTC epoch in milliseconds."""
    return time.time_ns() // 1_000_000


def rfc3339(ms: int) -> str:
    """`2026-11-23T08:00:00.000Z`, the spelling of every time that leaves the house."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_ms(moment: datetime) -> int:
    """Epoch milliseconds of an aware datetime; exact, as no float is involved."""
    assert moment.tzinfo is not None, "a time without its zone is a bug"
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return delta.days * 86_400_000 + delta.seconds * 1000 + delta.microseconds // 1000


def past_moment(moment: datetime, *, now_ms: int, path: str) -> int:
    """When the partner says that it happened. Raises MomentInFuture."""
    at_ms = to_ms(moment)
    if at_ms > now_ms + CLOCK_SKEW_MS:
        raise MomentInFuture(f"It is {rfc3339(now_ms)} here", path=path)
    return at_ms


def local_time(ms: int, zone: ZoneInfo) -> datetime:
    """That instant on the zone's clocks."""
    return datetime.fromtimestamp(ms / 1000, zone)


def local_day(ms: int, zone: ZoneInfo) -> date:
    """The calendar day of that instant in the zone."""
    return local_time(ms, zone).date()
