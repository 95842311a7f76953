"""An own reckoning of what bank and partner owe each other, in the plainest Python, from what was done.

It shares no code with the gateway, the engine or the verifier (the split is that of reference.py, in fractions):
docs/settlement-rules.md read once more, over the facts that a test itself brought about, in the order of recording.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from tests.unit.settlement.reference import split


@dataclass(frozen=True, slots=True)
class Recorded:
    """A contract version, recorded."""

    day: date
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Redeemed:
    """A discount granted on an order; `minor` is what came off."""

    day: date
    redemption_id: str
    version: int
    discount: str
    minor: int
    seed: str


@dataclass(frozen=True, slots=True)
class Returned:
    """Part of a discount taken back."""

    day: date
    redemption_id: str
    minor: int


@dataclass(frozen=True, slots=True)
class Reached:
    """A goal of a brought customer."""

    day: date
    goal: str
    version: int
    at_ms: int
    anchor_ms: int
    spend: int
    customer: str


Fact = Recorded | Redeemed | Returned | Reached


@dataclass(slots=True)
class Sums:
    """What the lines of one statement come to."""

    discounts: int = 0
    funded: int = 0
    commission: int = 0
    bank_owes: int = 0
    partner_owes: int = 0

    @property
    def net(self) -> int:
        return self.discounts - self.funded + self.commission

    def line(self, minor: int) -> None:
        if minor > 0:
            self.bank_owes += minor
        else:
            self.partner_owes -= minor


@dataclass(slots=True)
class Reckoner:
    """Facts of one partner in order go in; `sums` come out by business day, for one currency."""

    currency: str
    versions: dict[int, dict[str, Any]] = field(default_factory=dict)
    sums: dict[date, Sums] = field(default_factory=lambda: defaultdict(Sums))
    taken: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    ranks: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    accrued: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    given: dict[str, tuple[Redeemed, dict[str, int], int]] = field(default_factory=dict)

    def take(self, facts: Sequence[Fact]) -> "Reckoner":
        for fact in facts:
            match fact:
                case Recorded():
                    self.versions[fact.document["contract"]["version"]] = fact.document
                case Redeemed() if self._mine(fact.version):
                    self._redeemed(fact)
                case Returned() if fact.redemption_id in self.given:
                    self._returned(fact)
                case Reached() if self._mine(fact.version):
                    self._reached(fact)
        return self

    def _mine(self, version: int) -> bool:
        return bool(self.versions[version]["contract"]["currency"] == self.currency)

    def _redeemed(self, fact: Redeemed) -> None:
        fund = self._discount(fact)["fund"]
        left = {
            share["party"]: max(share["cap_minor"] - self.taken[fact.discount, share["party"]], 0)
            for share in fund
            if "cap_minor" in share
        }
        legs = split(fact.minor, fund, seed=fact.seed, left=left)
        for party in left:
            self.taken[fact.discount, party] += legs[party]
        self.given[fact.redemption_id] = (fact, left, 0)
        self._discount_lines(fact.day, paid=fact.minor, funded=legs.get("partner", 0))

    def _returned(self, fact: Returned) -> None:
        given, left, before = self.given[fact.redemption_id]
        fund = self._discount(given)["fund"]
        held = split(given.minor - before, fund, seed=given.seed, left=left)
        kept = split(given.minor - before - fact.minor, fund, seed=given.seed, left=left)
        self.given[fact.redemption_id] = (given, left, before + fact.minor)
        self._discount_lines(fact.day, paid=-fact.minor, funded=kept.get("partner", 0) - held.get("partner", 0))

    def _reached(self, fact: Reached) -> None:
        document = self.versions[fact.version]
        term = next((t for t in document.get("commission", ()) if t["goal"] == fact.goal), None)
        if term is None:
            return
        worth = self._by_rank(fact, term) if term["kind"] == "CPA" else self._by_spend(fact, term)
        sums = self.sums[fact.day]
        sums.commission += worth
        sums.line(worth)

    def _by_rank(self, fact: Reached, term: dict[str, Any]) -> int:
        zone = ZoneInfo(self.versions[fact.version]["contract"].get("timezone", "Asia/Shanghai"))
        month = datetime.fromtimestamp(fact.at_ms / 1000, zone).strftime("%Y-%m")
        rank = self.ranks[fact.goal, month]
        self.ranks[fact.goal, month] += 1
        return int([step["minor"] for step in term["steps"] if step["from"] <= rank][-1])

    def _by_spend(self, fact: Reached, term: dict[str, Any]) -> int:
        worth = (fact.spend * term["bps"] + 5000) // 10_000
        if "window" in term and fact.at_ms > fact.anchor_ms + int(term["window"][:-1]) * 86_400_000:
            worth = 0
        if "cap_per_customer_minor" in term:
            before = self.accrued[fact.goal, fact.customer]
            worth = min(worth, max(term["cap_per_customer_minor"] - before, 0))
            self.accrued[fact.goal, fact.customer] += worth
        return worth

    def _discount(self, fact: Redeemed) -> dict[str, Any]:
        found: dict[str, Any] = next(d for d in self.versions[fact.version]["discount"] if d["id"] == fact.discount)
        return found

    def _discount_lines(self, day: date, *, paid: int, funded: int) -> None:
        sums = self.sums[day]
        sums.discounts += paid
        sums.funded += funded
        sums.line(paid)
        sums.line(-funded)

    def period(self, first: date, last: date) -> Sums:
        """The sums of these days together."""
        whole = Sums()
        for day, sums in self.sums.items():
            if first <= day <= last:
                for name in Sums.__slots__:
                    setattr(whole, name, getattr(whole, name) + getattr(sums, name))
        return whole

    def least_pay(self, last: date) -> int:
        """`min_pay_minor` of the terms of that day, or of those before."""
        mine = [d for d in self.versions.values() if d["contract"]["currency"] == self.currency]
        begun = [d for d in mine if date.fromisoformat(d["contract"]["valid_from"]) <= last]
        ends = [d for d in begun if last <= date.fromisoformat(d["contract"].get("valid_to", "9999-12-31"))]
        if ends:
            chosen = max(ends, key=lambda d: d["contract"]["version"])
        elif begun:
            chosen = max(begun, key=lambda d: (d["contract"]["valid_from"], d["contract"]["version"]))
        else:
            return 0
        return int(chosen.get("settle", {}).get("min_pay_minor", 0))
