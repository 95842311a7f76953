"""What runs through a statement's events: known versions, ranks, caps and sums, from opening to closing (§4–§10)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from .canonical import Refused, shown
from .facts import TermsOfFile
from .joins import Joins
from .part import PartFound
from .terms import settling

START_AFTER_MS = 60_000  # a later version starts so long after it was recorded: pictures may be so old
Named = Callable[[int], str]  # the id of an event by its number


@dataclass(slots=True)
class Reckoning:
    """Parts go in, in their order; sums and the closing come out. `tell` takes sentences."""

    terms: TermsOfFile
    opening: dict[str, Any]
    tell: Callable[[str], None]
    named: Named
    ranks: dict[str, int] = field(default_factory=dict)
    funded: dict[str, int] = field(default_factory=dict)
    known: dict[int, int] = field(default_factory=dict)
    first_recorded_ms: int | None = None
    bank_owes_minor: int = 0
    partner_owes_minor: int = 0
    drift: list[int] = field(default_factory=lambda: [0, 0])
    other_currencies: dict[str, int] = field(default_factory=dict)
    joins: Joins = field(default_factory=Joins)

    def __post_init__(self) -> None:
        self.ranks, self.funded = dict(self.opening["ranks"]), dict(self.opening["funded"])
        numbers = [known["version"] for known in self.opening["versions"]]
        if numbers != sorted(set(numbers)):
            self.tell(f"opening: versions are not ascending: {shown(numbers)}")
        for known in self.opening["versions"]:
            version = self.terms.by_number.get(known["version"])
            if version is None or (version.contract, version.sha256) != (known["contract"], known["sha256"]):
                self.tell(f"opening: version {known['version']} of {shown(known['contract'])} is not in the contracts")
            self.known[known["version"]] = 0

    def take(self, found: PartFound) -> None:
        self.bank_owes_minor += found.bank_owes_minor
        self.partner_owes_minor += found.partner_owes_minor
        self.drift = [mine + more for mine, more in zip(self.drift, found.drift, strict=True)]
        for currency, count in found.other_currencies.items():
            self.other_currencies[currency] = self.other_currencies.get(currency, 0) + count
        self._learn(found)
        self._rank(found)
        self._fund(found)
        self.joins.take(found)

    # --- versions (§4) --------------------------------------------------------------------------------------------
    def _learn(self, found: PartFound) -> None:
        for number, event_id, version, recorded_ms, day in found.effective:
            try:
                self._version_known(version, recorded_ms=recorded_ms, day=day)
            except Refused as refusal:
                self.tell(f"event {shown(event_id)}: {refusal}")
            self.known.setdefault(version, number)
        for version, (number, event_id) in found.named.items():
            since = self.known.get(version)
            if since is None or since >= number:
                self.tell(f"event {shown(event_id)}: version {version} of the contract was not known before it")
        for (higher, named), (number, event_id) in found.passed_over.items():
            since = self.known.get(higher)
            if since is not None and since < number:
                self.tell(f"event {shown(event_id)}: it names version {named}, but version {higher} was in force")

    def _version_known(self, number: int, *, recorded_ms: int, day: str) -> None:
        version = self.terms.by_number[number]
        if number in self.known:
            raise Refused(f"version {number} of the contract is recorded a second time")
        if self.known and number < max(self.known):
            raise Refused(f"version {number} of the contract is recorded after version {max(self.known)}")
        if not self.known:
            self.first_recorded_ms = recorded_ms
        if recorded_ms == self.first_recorded_ms:
            return
        if version.start_ms < recorded_ms + START_AFTER_MS:
            raise Refused(
                f"version {number} of the contract starts at {version.start_ms}, which is not {START_AFTER_MS} ms "
                f"after it was recorded at {recorded_ms}"
            )
        if version.first <= date.fromisoformat(day):
            raise Refused(f"version {number} of the contract is valid from {version.first}, recorded on {day}")

    # --- commission by rank (§7), caps (§6) -------------------------------------------------------------------------
    def _rank(self, found: PartFound) -> None:
        by_number = self.terms.by_number
        for (goal, month), goals in found.ranked.items():
            key = f"{goal} {month}"
            rank = self.ranks.get(key, 0)
            for number, version, told in goals:
                worth = by_number[version].commissions[goal].of_rank(rank)
                if told != worth:
                    self.fault(number, f"commission of {shown(goal)} is {told}, rank {rank} of {month} gives {worth}")
                rank += 1
            self.ranks[key] = rank

    def _fund(self, found: PartFound) -> None:
        by_number = self.terms.by_number
        for (discount, party), legs in found.capped.items():
            caps = {v: _cap(by_number[v].discounts[discount].capped, party) for v in {leg[1] for leg in legs}}
            key = f"{self.terms.versions[0].contract} {discount} {party}"
            funded = self.funded.get(key, 0)
            for number, version, told, leg in legs:
                left = caps[version] - funded
                if told != (left if left > 0 else 0):
                    self.fault(number, f"cap_left_minor of {party} is {told}, expected {max(left, 0)}")
                funded += leg
            if funded:
                self.funded[key] = funded

    def fault(self, number: int, sentence: str) -> None:
        """A sentence about an event that is known by its number."""
        self.tell(f"event {self.named(number)} (number {number}): {sentence}")

    # --- the end ----------------------------------------------------------------------------------------------------
    def finish(self) -> None:
        """Every version of the file was known at the closing, and what events say of others is true."""
        for version in self.terms.versions:
            if version.number not in self.known:
                self.tell(f"contracts: version {version.number} is not known at the closing")
        for number, sentence in self.joins.faults():
            self.fault(number, sentence)

    def totals(self, to_day: date) -> dict[str, int]:
        """§9, from what was derived, never from what the file says."""
        net = self.bank_owes_minor - self.partner_owes_minor
        due = net + int(self.opening["carried_minor"])
        least = settling(list(self.terms.versions), currency=self.terms.currency, to_day=to_day)
        payable = due if due > 0 and due >= least else 0
        return {
            "bank_owes_minor": self.bank_owes_minor, "partner_owes_minor": self.partner_owes_minor, "net_minor": net,
            "carried_in_minor": self.opening["carried_minor"], "payable_minor": payable,
            "carried_out_minor": due - payable,
        }  # fmt: skip

    def closing(self, carried_out: int, *, accrued: dict[str, Any]) -> dict[str, Any]:
        """§10."""
        return {
            "accrued": accrued, "carried_minor": carried_out, "funded": self.funded, "ranks": self.ranks,
            "versions": [
                {"contract": each.contract, "sha256": each.sha256, "version": each.number}
                for each in self.terms.versions
            ],
        }  # fmt: skip


def _cap(capped: tuple[Any, ...], party: str) -> int:
    return next(int(share.cap_minor) for share in capped if share.party == party)
