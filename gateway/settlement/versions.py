"""Which contract versions are known when, from `contract.effective` (docs/settlement-rules.md §4), and their order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

from gateway.partners.contract import Contract, Settle, fingerprint, term_ms
from gateway.settlement.opening import FactsDisagree, KnownVersion

LEAD_MS = 60_000  # a later version starts at least this long after it was recorded: every worker has it by then
BEFORE_ALL = -1  # the place of what was known at the opening


@dataclass(frozen=True, slots=True)
class Effective:
    """A `contract.effective` as recorded; `seq` its place among the statement's events."""

    seq: int
    event: str
    contract: str | None
    version: int | None
    currency: str | None
    sha256: str | None
    start_ms: int | None
    end_ms: int | None
    recorded_at_ms: int
    business_day: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Known:
    """A version, and the place of the event from which on it is known."""

    terms: Contract
    sha256: str
    seq: int

    @property
    def as_told(self) -> KnownVersion:
        return KnownVersion(self.terms.contract_id, self.terms.version, self.sha256)


@dataclass(frozen=True, slots=True)
class Span:
    """For events at places [from_seq, until_seq) that occurred in [start_ms, end_ms) these terms are in force."""

    terms: Contract
    from_seq: int
    until_seq: int
    start_ms: int
    end_ms: int


def known_versions(
    opening: Sequence[KnownVersion], recorded: Sequence[Effective], contracts: Sequence[Contract]
) -> tuple[Known, ...]:
    """Every version known at the closing, ascending. Raises FactsDisagree naming the version or the event."""
    documents = {(each.contract_id, each.version): each for each in contracts}
    known: list[Known] = []
    for told in opening:
        terms = documents.get((told.contract, told.version))
        if terms is None or digest(terms) != told.sha256:
            raise FactsDisagree(f"no document fits {told.contract} version {told.version}, which the opening knows")
        known.append(Known(terms, told.sha256, BEFORE_ALL))
    first_ms = None if known else next((each.recorded_at_ms for each in recorded), None)
    for each in recorded:
        terms = documents.get((each.contract or "", each.version or 0))
        fault = _fault(each, terms, after=known[-1] if known else None, first=each.recorded_at_ms == first_ms)
        if fault or terms is None or each.sha256 is None:
            raise FactsDisagree(f"event {each.event}: {fault}")
        known.append(Known(terms, each.sha256, each.seq))
    return tuple(known)


def _fault(each: Effective, terms: Contract | None, *, after: Known | None, first: bool) -> str | None:
    """§4: what is wrong with the recording of a version."""
    if terms is None:
        return f"there is no document of {each.contract} version {each.version}"
    told = (each.sha256, each.currency, each.start_ms, each.end_ms, each.amount_minor)
    if told != (digest(terms), terms.currency, *term_ms(terms), 0):
        return f"it does not tell the document of {each.contract} version {each.version}"
    if after is not None and after.terms.contract_id != terms.contract_id:
        return f"the partner's contract is {after.terms.contract_id}"
    if after is not None and after.terms.version >= terms.version:
        return f"version {terms.version} does not come after version {after.terms.version}"
    if not first and term_ms(terms)[0] < each.recorded_at_ms + LEAD_MS:
        return f"version {terms.version} starts less than {LEAD_MS} ms after it was recorded"
    if not first and terms.contract.valid_from <= date.fromisoformat(each.business_day):
        return f"version {terms.version} does not start after the business day it was recorded in"
    return None


def spans(known: Sequence[Known], *, events: int) -> list[Span]:
    """Disjoint spans of place and moment, each with the version in force there: the highest of those that hold it."""
    found = []
    places = sorted({each.seq + 1 for each in known} | {events})
    for from_seq, until_seq in pairwise(places):
        there = [each for each in known if each.seq < from_seq]
        found += [Span(terms, from_seq, until_seq, start, end) for terms, start, end in _in_force(there)]
    return found


def _in_force(there: Sequence[Known]) -> Iterator[tuple[Contract, int, int]]:
    edges = sorted({edge for each in there for edge in term_ms(each.terms)})
    for start, end in pairwise(edges):
        holding = [each.terms for each in there if term_ms(each.terms)[0] <= start and end <= term_ms(each.terms)[1]]
        if holding:
            yield max(holding, key=lambda terms: terms.version), start, end


def settle_terms(known: Sequence[Known], *, currency: str, to_day: date) -> Settle:
    """§9: of the version in force on the statement's last day, else of the last one before, else none."""
    begun = [each.terms for each in known if each.terms.currency == currency]
    begun = [terms for terms in begun if terms.contract.valid_from <= to_day]
    holding = [terms for terms in begun if terms.contract.valid_to is None or to_day <= terms.contract.valid_to]
    if holding:
        return max(holding, key=lambda terms: terms.version).settle
    latest = max(begun, key=lambda terms: (terms.contract.valid_from, terms.version), default=None)
    return latest.settle if latest is not None else Settle()


def digest(terms: Contract) -> str:
    """SHA-256 (hex) of the canonical document."""
    return fingerprint(terms).hex()
