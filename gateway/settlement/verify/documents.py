"""Contract documents, read as far as money depends on them.

The vocabulary is closed: a member that is not known here could change an amount, so it is refused and not skipped.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

from .canonical import Refused, day_of, integer, listed, members, shown, string, written
from .terms import PARTIES, WHOLE, Commission, Discount, Share, Version, When

FOREVER = 253_402_300_800_000  # ms; the year 10000, the end of a term without valid_to
_EPOCH, _MS = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
_UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)", re.ASCII)
_PRICE = {  # kind: what it needs, what it may have
    "cap_price": ({"pay_minor"}, {"max_off_minor"}),
    "amount_off": ({"off_minor"}, set()),
    "percent_off": ({"bps"}, {"max_off_minor"}),
    "threshold_off": ({"min_minor", "off_minor"}, set()),
}
_NUMBERS = {"pay_minor", "off_minor", "min_minor", "bps", "max_off_minor"}


def read_contracts(documents: Any) -> list[Version]:
    """Ascending versions of the partner's one contract (§4): of those that the statement depends on (§12)."""
    versions: list[Version] = []
    for document in listed(documents, "contracts"):
        version = _version(document)
        if versions and version.number <= versions[-1].number:
            raise Refused(f"contracts: version {version.number} stands after version {versions[-1].number}")
        if versions and version.contract != versions[-1].contract:
            raise Refused(f"contracts: {shown(version.contract)} stands beside {shown(versions[-1].contract)}")
        versions.append(version)
    return versions


def _known(document: Any, names: str, *, of: str) -> dict[str, Any]:
    """An object with these members at most."""
    if not isinstance(document, dict) or not document.keys() <= set(names.split()):
        found = sorted(document) if isinstance(document, dict) else document
        raise Refused(f"{of} may have the members {', '.join(names.split())}, found {shown(found)}")
    return document


def _version(document: Any) -> Version:
    parts = _known(document, "contract attribution discount commission settle example", of="a contract")
    name_of = "id version currency valid_from valid_to timezone unknown_customer"
    head = _known(parts.get("contract"), name_of, of="a contract's head")
    name, number = string(head.get("id"), "id of a contract"), integer(head.get("version"), "contract version", low=1)
    of = f"contract {shown(name)} version {number}"
    currency = string(head.get("currency"), f"{of}: currency", pattern="[A-Z]{3}")
    zone = _zone(head.get("timezone", "Asia/Shanghai"), of)
    first, last = _days(head, of=of)
    settle = _known(parts.get("settle", {}), "min_pay_minor negative late_days", of=f"{of}: settle")
    if settle.get("negative", "carry") != "carry":
        raise Refused(f"{of}: settle.negative is {shown(settle['negative'])}, expected carry")
    return Version(
        name, number, currency, sha256(written(document)).hexdigest(), zone, first, last, *_term(first, last, zone),
        discounts=_named(parts.get("discount", []), _discount, key="id", of=f"{of}: discount"),
        commissions=_named(parts.get("commission", []), _commission, key="goal", of=f"{of}: commission"),
        min_pay_minor=integer(settle.get("min_pay_minor", 0), f"{of}: settle.min_pay_minor", low=0),
    )  # fmt: skip


def _named(documents: Any, read: Any, *, key: str, of: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for document in listed(documents, of):
        pattern = "[^ ]+" if key == "goal" else ""  # a goal is a part of keys (§11) that a blank separates
        name = string(document.get(key) if isinstance(document, dict) else None, f"{of}: {key}", pattern=pattern)
        if name in found:
            raise Refused(f"{of} {shown(name)} is there twice")
        found[name] = read(document, f"{of} {shown(name)}")
    return found


def _zone(value: Any, of: str) -> ZoneInfo:
    name = string(value, f"{of}: timezone", pattern=r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,2}")
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise Refused(f"{of}: this computer knows no time zone {name} (`pip install tzdata` brings them)") from None


def _days(head: Mapping[str, Any], *, of: str) -> tuple[date, date | None]:
    first = day_of(head.get("valid_from"), f"{of}: valid_from")
    last = None if head.get("valid_to") is None else day_of(head["valid_to"], f"{of}: valid_to")
    if last is not None and last < first:
        raise Refused(f"{of}: valid_to {last} is before valid_from {first}")
    return first, last


def _term(first: date, last: date | None, zone: ZoneInfo) -> tuple[int, int]:
    """Local days, both ends included, as instants [start, end)."""
    start = _instant(first, zone)
    if last is None or last == date.max:
        return start, FOREVER
    return start, _instant(last + timedelta(days=1), zone)


def _instant(day: date, zone: ZoneInfo) -> int:
    """The beginning of that local day. The calendar's first and last days are beyond every event in some zones."""
    try:
        return (datetime.combine(day, time(), zone) - _EPOCH) // _MS
    except OverflowError:
        return 0 if day.year == 1 else FOREVER


def _discount(document: dict[str, Any], of: str) -> Discount:
    _known(
        document, "id title title_zh kind pay_minor off_minor min_minor bps max_off_minor when limits fund hold", of=of
    )
    kind = string(document.get("kind"), f"{of}: kind", pattern="|".join(_PRICE))
    needed, allowed = _PRICE[kind]
    present = {name for name in _NUMBERS & document.keys() if document[name] is not None}
    if not needed <= present <= needed | allowed:
        raise Refused(f"{of}: {kind} has {', '.join(sorted(needed | allowed))}, found {', '.join(sorted(present))}")
    numbers = {name: integer(document[name], f"{of}: {name}", low=0) for name in present}
    if numbers.get("bps", 0) > WHOLE:
        raise Refused(f"{of}: bps is {numbers['bps']}, expected is {WHOLE} at most")
    fund = _fund(document.get("fund"), f"{of}: fund")
    capped = tuple(share for share in fund if share.cap_minor is not None)
    when = _when(document["when"], f"{of}: when") if document.get("when") else None
    return Discount(kind, numbers, when, fund, capped, sha256(of.encode()).digest()[:16])


def _when(document: Any, of: str) -> When:
    given = _known(document, "mcc site weekday time min_minor", of=of)
    for name in ("mcc", "site", "weekday"):
        listed(given.get(name, []), f"{of}: {name}")
    texts = {
        name: frozenset(string(each, f"{of}: {name}") for each in given[name]) if given.get(name) else None
        for name in ("mcc", "site")
    }
    days = frozenset(integer(day, f"{of}: weekday", low=1, high=7) for day in given.get("weekday", []))
    minutes = None if given.get("time") is None else _minutes(given["time"], of)
    return When(
        texts["mcc"], texts["site"], days or None, minutes,
        integer(given.get("min_minor", 0), f"{of}: min_minor", low=0),
    )  # fmt: skip


def _minutes(value: Any, of: str) -> tuple[int, int]:
    """ "07:00-22:00" → minutes of the local day, [start, end)."""
    match = _CLOCK.fullmatch(string(value, f"{of}: time"))
    start, end = (int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])) if match else (0, 0)
    if not start < end <= 24 * 60:
        raise Refused(f"{of}: time is {shown(value)}, expected is a range like 07:00-22:00")
    return start, end


def _fund(documents: Any, of: str) -> tuple[Share, ...]:
    found = {}
    for document in listed(documents, of):
        given = _known(document, "party bps cap_minor overflow", of=of)
        party = string(given.get("party"), f"{of}: party", pattern="|".join(PARTIES))
        if party in found:
            raise Refused(f"{of}: {party} is there twice")
        if (given.get("cap_minor") is None) != (given.get("overflow") is None):
            raise Refused(f"{of}: {party} has cap_minor and overflow together, or neither")
        found[party] = given
    fund, upto = [], 0
    for party in (each for each in PARTIES if each in found):
        cap, overflow = found[party].get("cap_minor"), found[party].get("overflow")
        bps = integer(found[party].get("bps"), f"{of}: bps of {party}", low=0, high=WHOLE)
        upto += bps
        cap = None if cap is None else integer(cap, f"{of}: cap_minor of {party}", low=0)
        fund.append(Share(party, bps, upto, cap, "" if overflow is None else string(overflow, f"{of}: overflow")))
    if upto != WHOLE:
        raise Refused(f"{of} does not share out {WHOLE} basis points")
    uncapped = {share.party for share in fund if share.cap_minor is None}
    if any(share.cap_minor is not None and share.overflow not in uncapped for share in fund):
        raise Refused(f"{of}: a share overflows to no uncapped party")
    return tuple(fund)


def _commission(document: dict[str, Any], of: str) -> Commission:
    _known(document, "goal kind tiers period steps bps cap_per_customer_minor window", of=of)
    given = {name for name, value in document.items() if value is not None} - {"goal", "kind"}
    if string(document.get("kind"), f"{of}: kind", pattern="CPA|CPS") == "CPA":
        if given != {"tiers", "period", "steps"} or document["tiers"] != "marginal" or document["period"] != "month":
            raise Refused(f"{of}: CPA has tiers = marginal, period = month and steps")
        steps = [members(step, "from minor", of=f"{of}: a step") for step in listed(document["steps"], f"{of}: steps")]
        starts = tuple(integer(start, f"{of}: from", low=0) for start, _ in steps)
        if starts[:1] != (0,) or list(starts) != sorted(set(starts)):
            raise Refused(f"{of}: steps start at 0 and rise, found {shown(list(starts))}")
        return Commission("CPA", starts, tuple(integer(m, f"{of}: minor", low=0) for _, m in steps), 0, None, None)
    if not {"bps"} <= given <= {"bps", "cap_per_customer_minor", "window"}:
        raise Refused(f"{of}: CPS has bps, and may have cap_per_customer_minor and window")
    cap, window = document.get("cap_per_customer_minor"), document.get("window")
    return Commission(
        "CPS", (), (), integer(document["bps"], f"{of}: bps", low=0, high=WHOLE),
        None if cap is None else integer(cap, f"{of}: cap_per_customer_minor", low=0),
        None if window is None else _duration(window, of),
    )  # fmt: skip


def _duration(value: Any, of: str) -> int:
    text = string(value, f"{of}: window", pattern=r"[1-9][0-9]{0,5}[smhd]")
    return int(text[:-1]) * _UNITS[text[-1]]
