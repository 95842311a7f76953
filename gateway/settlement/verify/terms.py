"""Terms as they act: which version, its price (§5), its split (§6), its commission (§7)."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from .canonical import Refused, shown

WHOLE = 10_000  # basis points
PARTIES = ("bank", "partner")  # in the order of the split; others share when they have accounts
_EPOCH, _DAY_MS = date(1970, 1, 1), 86_400_000
_OFFSET = 1 << 32  # a seed's offset is n / 2³²


@dataclass(frozen=True, slots=True)
class Share:
    """What a party funds; what exceeds a cap goes to `overflow`. `upto`: basis points of it and those before it."""

    party: str
    bps: int
    upto: int
    cap_minor: int | None
    overflow: str


@dataclass(frozen=True, slots=True)
class When:
    """What is asked about the final order (§5); None where a thing is not."""

    mcc: frozenset[str] | None
    site: frozenset[str] | None
    weekday: frozenset[int] | None
    minutes: tuple[int, int] | None
    min_minor: int


@dataclass(frozen=True, slots=True)
class Discount:
    """An offer's price, its conditions and its funders in the order of the split."""

    kind: str
    numbers: Mapping[str, int]
    when: When | None
    fund: tuple[Share, ...]
    capped: tuple[Share, ...]
    mark: bytes  # of its version and id

    def off(self, order: int) -> int:
        """§5."""
        given = self.numbers
        if self.kind == "cap_price":
            off = order - given["pay_minor"]
        elif self.kind == "percent_off":
            off = order * given["bps"] // WHOLE
        elif self.kind == "amount_off" or order >= given["min_minor"]:
            off = given["off_minor"]
        else:
            off = 0
        return max(0, min(off, given.get("max_off_minor", off), order))

    def split(self, amount: int, *, offset: int, cap_left: Mapping[str, int]) -> dict[str, int]:
        """§6: minor units per party, which sum to `amount` ≥ 0."""
        legs, before = {}, 0
        for share in self.fund:
            if share.upto == WHOLE:
                here = amount
            else:
                whole, rest = divmod(amount * share.upto, WHOLE)
                here = whole + (rest * _OFFSET + offset * WHOLE >= WHOLE * _OFFSET)
            legs[share.party] = here - before
            before = here
        for share in self.capped:
            excess = legs[share.party] - cap_left[share.party]
            if excess > 0:
                legs[share.party] -= excess
                legs[share.overflow] += excess
        return legs


@dataclass(frozen=True, slots=True)
class Commission:
    """CPA: steps; CPS: a share of the spend, within `window_ms` and a cap."""

    kind: str
    starts: tuple[int, ...]
    minors: tuple[int, ...]
    bps: int
    cap_minor: int | None
    window_ms: int | None

    def of_rank(self, rank: int) -> int:
        """§7, CPA: the last step that begins at this rank or before."""
        return self.minors[bisect_right(self.starts, rank) - 1]

    def of_spend(self, spend: int) -> int:
        """§7, CPS: half a unit rounds up."""
        return (spend * self.bps + WHOLE // 2) // WHOLE


@dataclass(frozen=True, slots=True)
class Version:
    """One version of the contract; in force from `start_ms` until before `end_ms`, once it is known."""

    contract: str
    number: int
    currency: str
    sha256: str
    zone: ZoneInfo
    first: date
    last: date | None
    start_ms: int
    end_ms: int
    discounts: Mapping[str, Discount]
    commissions: Mapping[str, Commission]
    min_pay_minor: int

    def local(self, instant_ms: int) -> datetime:
        """On the contract's clock, to the second."""
        return datetime.fromtimestamp(instant_ms // 1000, self.zone)

    def month(self, instant_ms: int) -> str:
        """Of the contract's clock."""
        if month := _everywhere(instant_ms // _DAY_MS):
            return month
        local = self.local(instant_ms)
        return f"{local.year:04}-{local.month:02}"


@lru_cache(maxsize=1024)
def _everywhere(day: int) -> str:
    """The month that every clock on earth shows throughout this day of UTC; nothing near a month's ends."""
    there = _EPOCH + timedelta(days=day)
    return f"{there:%Y-%m}" if 3 <= there.day <= 26 else ""


def require_conditions(when: When, data: Mapping[str, Any], *, order: int, version: Version, instant_ms: int) -> None:
    """§5. Raises Refused: the terms gave nothing for this order."""
    if order < when.min_minor:
        raise Refused(f"order_minor is {order}, the discount asks for {when.min_minor} at least")
    for name, wanted in (("mcc", when.mcc), ("site", when.site)):
        found = data.get(name)
        if not (found is None or isinstance(found, str)):
            raise Refused(f"{name} is {shown(found)}, expected is a text or null")
        if wanted is not None and found not in wanted:
            raise Refused(f"{name} is {shown(found)}, the discount asks for one of {', '.join(sorted(wanted))}")
    if when.weekday is None and when.minutes is None:
        return
    local = version.local(instant_ms)
    if when.weekday is not None and local.isoweekday() not in when.weekday:
        raise Refused(f"it occurred on weekday {local.isoweekday()}, on which the discount is not given")
    if when.minutes is not None and not when.minutes[0] <= local.hour * 60 + local.minute < when.minutes[1]:
        raise Refused(f"it occurred at {local:%H:%M} local time, at which the discount is not given")


def settling(versions: list[Version], *, currency: str, to_day: date) -> int:
    """The least that is paid out (§9): by the version of that day, else by the last before it, else 0."""
    begun = [each for each in versions if each.currency == currency and each.first <= to_day]
    current = [each for each in begun if each.last is None or to_day <= each.last]
    if current:
        return max(current, key=lambda each: each.number).min_pay_minor
    return max(begun, key=lambda each: (each.first, each.number)).min_pay_minor if begun else 0
