"""Contract documents, read as far as money depends on them, and what they say: price (§4), split (§5), commission (§6).

The vocabulary is closed: a member that is not known here could change an amount, so it is refused and not skipped.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

from .canonical import Refused, day_of, integer, listed, members, shown, string

WHOLE = 10_000  # basis points
FOREVER = 253_402_300_800_000  # ms; the year 10000, the end of a term without valid_to
PARTIES = "bank|partner|merchant|network"
_EPOCH, _MS = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
_UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PRICE = {  # kind: what it needs, what it may have
    "cap_price": ({"pay_minor"}, {"max_off_minor"}),
    "amount_off": ({"off_minor"}, set()),
    "percent_off": ({"bps"}, {"max_off_minor"}),
    "threshold_off": ({"min_minor", "off_minor"}, set()),
}
_NUMBERS = {"pay_minor", "off_minor", "min_minor", "bps", "max_off_minor"}


@dataclass(frozen=True, slots=True)
class Share:
    """What a party funds; what exceeds a cap goes to `overflow`."""

    party: str
    bps: int
    cap_minor: int | None
    overflow: str


@dataclass(frozen=True, slots=True)
class Discount:
    """An offer's price and its funders."""

    kind: str
    numbers: Mapping[str, int]
    fund: tuple[Share, ...]

    def off(self, order: int) -> int:
        """§4."""
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
        """§6, CPA: the last step that begins at this rank or before."""
        return self.minors[bisect_right(self.starts, rank) - 1]

    def of_spend(self, spend: int) -> int:
        """§6, CPS: half a unit rounds up."""
        return (spend * self.bps + WHOLE // 2) // WHOLE


@dataclass(frozen=True, slots=True)
class Version:
    """One version of the contract; in force from `start_ms` until before `end_ms`."""

    contract: str
    version: int
    zone: ZoneInfo
    start_ms: int
    end_ms: int
    discounts: Mapping[str, Discount]
    commissions: Mapping[str, Commission]
    min_pay_minor: int

    def month(self, instant_ms: int) -> str:
        """YYYY-MM on the contract's clock."""
        local = (_EPOCH + instant_ms * _MS).astimezone(self.zone)
        return f"{local.year:04}-{local.month:02}"


def split(amount: int, fund: tuple[Share, ...], *, seed: str, cap_left: Mapping[str, int]) -> dict[str, int]:
    """§5: minor units per party, which sum to `amount`."""
    size = -amount if amount < 0 else amount
    legs, rests, spare = {}, {}, size
    for share in fund:
        leg, rests[share.party] = divmod(size * share.bps, WHOLE)
        legs[share.party] = leg
        spare -= leg
    if spare:
        tie = len(set(rests.values())) < len(rests)  # only then does the digest decide
        order = sorted(rests, key=lambda p: (-rests[p], sha256(f"{seed}|{p}".encode()).digest() if tie else b""))
        for party in order[:spare]:
            legs[party] += 1
    for share in fund:
        if share.cap_minor is not None:
            excess = max(legs[share.party] - cap_left[share.party], 0)
            legs[share.party] -= excess
            legs[share.overflow] += excess
    return {party: -leg for party, leg in legs.items()} if amount < 0 else legs


# --- reading documents ---------------------------------------------------------------------------------------------
def read_contracts(documents: Any, *, currency: str) -> list[Version]:
    """Ascending versions of the partner's contract."""
    versions: list[Version] = []
    for document in listed(documents, "contracts"):
        version = _version(document, currency=currency)
        if versions and version.version <= versions[-1].version:
            raise Refused(f"contracts: version {version.version} stands after version {versions[-1].version}")
        versions.append(version)
    if not versions:
        raise Refused("contracts: there is none")
    return versions


def _known(document: Any, names: str, *, of: str) -> dict[str, Any]:
    """An object with these members at most."""
    if not isinstance(document, dict) or not document.keys() <= set(names.split()):
        found = sorted(document) if isinstance(document, dict) else document
        raise Refused(f"{of} may have the members {', '.join(names.split())}, found {shown(found)}")
    return document


def _version(document: Any, *, currency: str) -> Version:
    parts = _known(document, "contract attribution discount commission settle example", of="a contract")
    head = _known(parts.get("contract"), "id version currency valid_from valid_to timezone", of="a contract's head")
    name, number = string(head.get("id"), "id of a contract"), integer(head.get("version"), "contract version", low=1)
    of = f"contract {shown(name)} version {number}"
    if head.get("currency") != currency:
        raise Refused(f"{of}: currency is {shown(head.get('currency'))}, expected {currency}")
    zone = _zone(head.get("timezone", "Asia/Shanghai"), of)
    start, end = _term(head, zone, of=of)
    settle = _known(parts.get("settle", {}), "cycle min_pay_minor negative", of=f"{of}: settle")
    if settle.get("negative", "carry") != "carry":
        raise Refused(f"{of}: settle.negative is {shown(settle['negative'])}, expected carry")
    return Version(
        name, number, zone, start, end,
        discounts=_named(parts.get("discount", []), _discount, key="id", of=f"{of}: discount"),
        commissions=_named(parts.get("commission", []), _commission, key="goal", of=f"{of}: commission"),
        min_pay_minor=integer(settle.get("min_pay_minor", 0), f"{of}: settle.min_pay_minor", low=0),
    )  # fmt: skip


def _named(documents: Any, read: Any, *, key: str, of: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for document in listed(documents, of):
        name = string(document.get(key) if isinstance(document, dict) else None, f"{of}: {key}")
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


def _term(head: Mapping[str, Any], zone: ZoneInfo, *, of: str) -> tuple[int, int]:
    """Local days, both ends included, as instants [start, end)."""
    first = day_of(head.get("valid_from"), f"{of}: valid_from")
    last = None if head.get("valid_to") is None else day_of(head["valid_to"], f"{of}: valid_to")
    if last is not None and last < first:
        raise Refused(f"{of}: valid_to {last} is before valid_from {first}")
    start = (datetime.combine(first, time(), zone) - _EPOCH) // _MS
    if last is None or last.year == 9999:
        return start, FOREVER
    return start, (datetime.combine(last + timedelta(days=1), time(), zone) - _EPOCH) // _MS


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
    return Discount(kind, numbers, _fund(document.get("fund"), f"{of}: fund"))


def _fund(documents: Any, of: str) -> tuple[Share, ...]:
    fund = []
    for document in listed(documents, of):
        share = _known(document, "party bps cap_minor overflow", of=of)
        party = string(share.get("party"), f"{of}: party", pattern=PARTIES)
        cap, overflow = share.get("cap_minor"), share.get("overflow")
        if (cap is None) != (overflow is None):
            raise Refused(f"{of}: {party} has cap_minor and overflow together, or neither")
        fund.append(
            Share(
                party,
                integer(share.get("bps"), f"{of}: bps of {party}", low=0, high=WHOLE),
                None if cap is None else integer(cap, f"{of}: cap_minor of {party}", low=0),
                "" if overflow is None else string(overflow, f"{of}: overflow of {party}", pattern=PARTIES),
            )
        )
    uncapped = {share.party for share in fund if share.cap_minor is None}
    if len({share.party for share in fund}) < len(fund) or sum(share.bps for share in fund) != WHOLE:
        raise Refused(f"{of} does not share out {WHOLE} basis points among parties that are named once")
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
