"""What runs through a statement's events: known versions, ranks, caps and sums, from opening to closing (§4–§10)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from .canonical import Refused, shown
from .facts import Recorded, TermsOfFile
from .joins import Joins
from .part import NEVER, PartFound
from .terms import settling

START_AFTER_MS = 60_000  # a later version starts so long after it was recorded: pictures may be so old
_EPOCH, _HALF_DAY_MS = date(1970, 1, 1), 43_200_000
Named = Callable[[int], str]  # the id of an event by its number


@dataclass(frozen=True, slots=True)
class Known:
    """A version, with or without its document in the file, and the number of the event from which on it is known."""

    contract: str
    number: int
    sha256: str
    start_ms: int
    since: int

    def members(self) -> dict[str, Any]:
        """§10."""
        told = {"contract": self.contract, "sha256": self.sha256, "start_ms": self.start_ms}
        return told | {"version": self.number}


@dataclass(slots=True)
class Reckoning:
    """Parts go in, in their order; sums and the closing come out. `tell` takes sentences."""

    terms: TermsOfFile
    opening: dict[str, Any]
    tell: Callable[[str], None]
    named: Named
    ranks: dict[str, int] = field(default_factory=dict)
    funded: dict[str, int] = field(default_factory=dict)
    known: dict[int, Known] = field(default_factory=dict)
    highest: int = 0
    first_recorded_ms: int | None = None
    latest: tuple[int, str] = NEVER
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
        for told in self.opening["versions"]:
            known = Known(told["contract"], told["version"], told["sha256"], told["start_ms"], since=0)
            version = self.terms.by_number.get(known.number)
            if version is not None and (version.contract, version.sha256, version.start_ms) != (
                known.contract, known.sha256, known.start_ms,
            ):  # fmt: skip
                self.tell(f"opening: version {known.number} of {shown(known.contract)} is not that of the contracts")
            self.known[known.number] = known
            self.highest = max(self.highest, known.number)
        if len(names := {known.contract for known in self.known.values()}) > 1:
            self.tell(f"opening: versions are of several contracts: {', '.join(map(shown, sorted(names)))}")

    def take(self, found: PartFound) -> None:
        self.bank_owes_minor += found.bank_owes_minor
        self.partner_owes_minor += found.partner_owes_minor
        self.drift = [mine + more for mine, more in zip(self.drift, found.drift, strict=True)]
        for currency, count in found.other_currencies.items():
            self.other_currencies[currency] = self.other_currencies.get(currency, 0) + count
        self.latest = max(self.latest, found.latest)
        self._learn(found)
        self._rank(found)
        self._fund(found)
        self.joins.take(found)

    # --- versions (§4) --------------------------------------------------------------------------------------------
    def _learn(self, found: PartFound) -> None:
        for told in found.effective:
            try:
                self._version_known(told)
            except Refused as refusal:
                self.tell(f"event {shown(told.event_id)}: {refusal}")
            known = Known(told.contract, told.version, told.sha256, told.start_ms, since=told.number)
            self.known.setdefault(told.version, known)
            self.highest = max(self.highest, told.version)
        for version, (number, event_id) in found.named.items():
            if not self._known_before(version, number):
                self.tell(f"event {shown(event_id)}: version {version} of the contract was not known before it")
        for (higher, named), (number, event_id) in found.passed_over.items():
            if self._known_before(higher, number):
                self.tell(f"event {shown(event_id)}: it names version {named}, but version {higher} was in force")

    def _known_before(self, version: int, number: int) -> bool:
        return version in self.known and self.known[version].since < number

    def _version_known(self, told: Recorded) -> None:
        """A version without a document starts after noon of the last day (§12): no business day need be asked."""
        number = told.version
        if number in self.known:
            raise Refused(f"version {number} of the contract is recorded a second time")
        if number < self.highest:
            raise Refused(f"version {number} of the contract is recorded after version {self.highest}")
        first = next(iter(self.known.values()), None)  # none is known that was of another contract
        if first is not None and first.contract != told.contract:
            raise Refused(f"contract is {shown(told.contract)}, the partner's is {shown(first.contract)}")
        if not self.known:
            self.first_recorded_ms = told.recorded_ms
        if told.recorded_ms == self.first_recorded_ms:
            return
        if told.start_ms < told.recorded_ms + START_AFTER_MS:
            raise Refused(
                f"version {number} of the contract starts at {told.start_ms}, which is not {START_AFTER_MS} ms "
                f"after it was recorded at {told.recorded_ms}"
            )
        version = self.terms.by_number.get(number)
        if version is not None and version.first <= date.fromisoformat(told.day):
            raise Refused(f"version {number} of the contract is valid from {version.first}, recorded on {told.day}")

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
    def finish(self, to_day: date) -> None:
        """The documents are those that the statement depends on, and what events say of others is true."""
        for version in self.terms.versions:
            if version.number not in self.known:
                self.tell(f"contracts: version {version.number} is not known at the closing")
        self._check_documents(noon_ms=(to_day - _EPOCH).days * 2 * _HALF_DAY_MS + _HALF_DAY_MS)
        for number, sentence in self.joins.faults():
            self.fault(number, sentence)

    def _check_documents(self, *, noon_ms: int) -> None:
        """§12: a known version has its document in the file if, and only if, it starts no later than T."""
        latest_ms, event_id = self.latest
        for known in self.known.values():
            there = known.number in self.terms.by_number
            told = f"version {known.number} of the contract, which starts at {known.start_ms}"
            if there and known.start_ms > max(noon_ms, latest_ms):
                self.tell(f"contracts: nothing depends on {told}, and yet its document is there")
            elif not there and known.start_ms <= latest_ms:
                self.tell(f"event {shown(event_id)}: it occurred at {latest_ms}, and {told}, has no document")
            elif not there and known.start_ms <= noon_ms:
                self.tell(f"contracts: {told}, has no document")

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
            "versions": [known.members() for _, known in sorted(self.known.items())],
        }  # fmt: skip


def _cap(capped: tuple[Any, ...], party: str) -> int:
    return next(int(share.cap_minor) for share in capped if share.party == party)
