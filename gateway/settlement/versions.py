"""Which contract versions are known when, from `contract.effective` (docs/settlement-rules.md §4), and their order."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from itertools import pairwise

from gateway.clock import rfc3339, to_ms
from gateway.partners.contract import Contract, Settle, fingerprint, term_ms
from gateway.settlement.opening import FactsDisagree, KnownVersion

LEAD_MS = 60_000  # a later version starts at least this long after it was recorded: every worker has it by then
BEFORE_ALL = -1  # the place of what was known at the opening
_HEX, _CURRENCY = re.compile(r"[0-9a-f]{64}", re.ASCII), re.compile(r"[A-Z]{3}", re.ASCII)


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
    """A version, and the place of the event from which on it is known.

    `terms` is None where this program cannot read them, or where nothing may depend on them yet (`within`).
    """

    told: KnownVersion
    seq: int
    terms: Contract | None


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
    """Every version known at the closing, ascending; `contracts` are the documents that this program can read.
    Raises FactsDisagree naming the version or the event."""
    documents = {(each.contract_id, each.version): each for each in contracts}
    known: list[Known] = []
    for before in opening:
        terms = documents.get((before.contract, before.version))
        if terms is not None and before != _as_told(terms):
            raise FactsDisagree(f"no document fits {before.contract} version {before.version}, which the opening knows")
        known.append(Known(before, BEFORE_ALL, terms))
    first_ms = None if known else next((each.recorded_at_ms for each in recorded), None)
    for each in recorded:
        terms = documents.get((each.contract or "", each.version or 0))
        told = _told(each)
        if told is None or (terms is not None and not _tells(each, terms)):
            raise FactsDisagree(
                f"event {each.event}: it does not tell the document of {each.contract} version {each.version}"
            )
        after, first = known[-1].told if known else None, each.recorded_at_ms == first_ms
        if fault := _fault(each, told, terms=terms, after=after, first=first):
            raise FactsDisagree(f"event {each.event}: {fault}")
        known.append(Known(told, each.seq, terms))
    return tuple(known)


def _told(each: Effective) -> KnownVersion | None:
    """What the event says of the version; None where it does not say what every one does."""
    if not each.contract or each.version is None or each.sha256 is None or each.currency is None:
        return None
    if each.start_ms is None or each.end_ms is None or not 0 <= each.start_ms < each.end_ms:
        return None
    if each.version < 1 or not _HEX.fullmatch(each.sha256) or not _CURRENCY.fullmatch(each.currency):
        return None
    return KnownVersion(each.contract, each.version, each.sha256, each.start_ms) if each.amount_minor == 0 else None


def _tells(each: Effective, terms: Contract) -> bool:
    told = (each.sha256, each.currency, each.start_ms, each.end_ms)
    return told == (digest(terms), terms.currency, *term_ms(terms))


def _as_told(terms: Contract) -> KnownVersion:
    return KnownVersion(terms.contract_id, terms.version, digest(terms), term_ms(terms)[0])


def _fault(
    each: Effective, told: KnownVersion, *, terms: Contract | None, after: KnownVersion | None, first: bool
) -> str | None:
    """§4: what is wrong with the recording of a version."""
    if after is not None and after.contract != told.contract:
        return f"the partner's contract is {after.contract}"
    if after is not None and after.version >= told.version:
        return f"version {told.version} does not come after version {after.version}"
    if not first and told.start_ms < each.recorded_at_ms + LEAD_MS:
        return f"version {told.version} starts less than {LEAD_MS} ms after it was recorded"
    # Without terms it starts after noon of the statement's last day (`within`), and so after any business day of it.
    if not first and terms is not None and terms.contract.valid_from <= date.fromisoformat(each.business_day):
        return f"version {told.version} does not start after the business day it was recorded in"
    return None


def reach_ms(to_day: date, latest_ms: int | None) -> int:
    """§12: what a statement through `to_day` depends on starts by then; `latest_ms` is when its last fact occurred.

    Whatever a contract's time zone, a version that is valid from `to_day` or before starts by 12:00 UTC of that day.
    """
    noon_ms = to_ms(datetime.combine(to_day, time(12), UTC))
    return noon_ms if latest_ms is None else max(noon_ms, latest_ms)


def within(known: Sequence[Known], *, reach_ms: int) -> tuple[Known, ...]:
    """The same, with the terms of those only that start by then. Raises FactsDisagree when they cannot be read."""
    for each in known:
        if each.terms is None and each.told.start_ms <= reach_ms:
            raise FactsDisagree(
                f"version {each.told.version} of contract {each.told.contract} starts at "
                f"{rfc3339(each.told.start_ms)} and has no document that this program can read: upgrade it, then try "
                "again"
            )
    return tuple(each if each.told.start_ms <= reach_ms else replace(each, terms=None) for each in known)


def spans(known: Sequence[Known], *, events: int) -> list[Span]:
    """Disjoint spans of place and moment, each with the version in force there: the highest of those that hold it."""
    found = []
    places = sorted({each.seq + 1 for each in known} | {events})
    for from_seq, until_seq in pairwise(places):
        there = [each.terms for each in known if each.seq < from_seq and each.terms is not None]
        found += [Span(terms, from_seq, until_seq, start, end) for terms, start, end in _in_force(there)]
    return found


def _in_force(there: Sequence[Contract]) -> Iterator[tuple[Contract, int, int]]:
    edges = sorted({edge for terms in there for edge in term_ms(terms)})
    for start, end in pairwise(edges):
        holding = [terms for terms in there if term_ms(terms)[0] <= start and end <= term_ms(terms)[1]]
        if holding:
            yield max(holding, key=lambda terms: terms.version), start, end


def settle_terms(known: Sequence[Known], *, currency: str, to_day: date) -> Settle:
    """§9: of the version in force on the statement's last day, else of the last one before, else none."""
    mine = [each.terms for each in known if each.terms is not None and each.terms.currency == currency]
    begun = [terms for terms in mine if terms.contract.valid_from <= to_day]
    holding = [terms for terms in begun if terms.contract.valid_to is None or to_day <= terms.contract.valid_to]
    if holding:
        return max(holding, key=lambda terms: terms.version).settle
    latest = max(begun, key=lambda terms: (terms.contract.valid_from, terms.version), default=None)
    return latest.settle if latest is not None else Settle()


def digest(terms: Contract) -> str:
    """SHA-256 (hex) of the canonical document."""
    return fingerprint(terms).hex()
