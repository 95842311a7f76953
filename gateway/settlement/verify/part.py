"""One part of events (§12), checked as far as it can be for itself: spelling, leaves, envelopes, terms, lines.

What depends on the events before it (what was known, ranks, caps, reversals, names that are there twice) is handed over
in few bytes an event, so that parts can be read side by side and memory stays flat. See reckoning.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Any

import msgspec

from .buckets import Buckets, Sorting, sorting
from .canonical import INT_LIMIT, Refused, decoded, decoder, require_spelling, shown, written
from .facts import Recorded, TermsOfFile, goal, redemption, reversal, version_recorded
from .manifest import PartEntry
from .proof import tree_root

Int = Annotated[int, msgspec.Meta(ge=-INT_LIMIT, le=INT_LIMIT - 1)]
EVENT_FORMAT = 2
FAULTS_OF_A_PART = 26  # sentences; one more than a report tells
NEVER = (-1, "")
FAR = ("event_ids", "redemptions", "reversals", "accrued")  # what has to do with events far apart: see joins


class Event(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A leaf (§2)."""

    amount_minor: Int
    business_day: str
    campaign: str | None
    contract: str | None
    contract_version: Int | None
    currency: str | None
    data: dict[str, Any]
    event_id: str
    idempotency_key: str | None
    occurred_at_ms: Int
    partner: str
    recorded_at_ms: Int
    subject_token: str | None
    type: str
    v: Int


class Line(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """§8."""

    amount_minor: Int
    contract: str
    contract_version: Int
    event_id: str
    kind: str
    term: str


class EventsPart(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A part of kind `events`."""

    day: str
    events: list[Event]
    kind: str
    lines: list[Line]


_events_part = decoder(EventsPart)
_spelled = msgspec.json.Encoder(order="deterministic").encode  # the one spelling: members above stand in their order


@dataclass(slots=True)
class PartFound:
    """What a part leads to. Numbers of events and lines count through the whole statement, from 1."""

    number: int
    day: str = ""
    root: bytes = b""
    events: int = 0
    lines: int = 0
    bank_owes_minor: int = 0
    partner_owes_minor: int = 0
    drift: list[int] = field(default_factory=lambda: [0, 0])
    other_currencies: dict[str, int] = field(default_factory=dict)
    effective: list[Recorded] = field(default_factory=list)
    latest: tuple[int, str] = NEVER  # when the last event with a version occurred, and its id
    named: dict[int, tuple[int, str]] = field(default_factory=dict)
    passed_over: dict[tuple[int, int], tuple[int, str]] = field(default_factory=dict)
    ranked: dict[tuple[str, str], list[tuple[int, int, int]]] = field(default_factory=dict)
    capped: dict[tuple[str, str], list[tuple[int, int, int, int]]] = field(default_factory=dict)
    far: dict[str, Buckets] = field(default_factory=dict)  # by FAR
    faults: list[str] = field(default_factory=list)

    def tell(self, fault: str) -> None:
        if len(self.faults) < FAULTS_OF_A_PART:
            self.faults.append(fault)


class LinesLost(Exception):
    """The lines do not follow the events any more: later ones are not compared."""


@dataclass(slots=True)
class PartReading:
    """The events of a part and its lines beside them."""

    terms: TermsOfFile
    found: PartFound
    lines: list[Line]
    first_event: int
    first_line: int
    at: int = 0
    latest: tuple[int, str] = NEVER
    event_ids: Sorting = field(default_factory=sorting)
    redemptions: Sorting = field(default_factory=sorting)
    reversals: Sorting = field(default_factory=sorting)
    accrued: Sorting = field(default_factory=sorting)

    def take(self, events: list[Event], day: str) -> None:
        found, partner, currency = self.found, self.terms.partner, self.terms.currency
        for number, event in enumerate(events, self.first_event):
            try:
                if event.partner != partner or event.business_day != day or event.v != EVENT_FORMAT:
                    _refuse_envelope(event, partner=partner, day=day)
                event_id = event.event_id
                if not event_id or not event.type:
                    raise Refused("event_id and type are texts that are not empty")
                key = sha256(event_id.encode()).digest()
                self.event_ids[key[0]].append(key[:12] + number.to_bytes(4))
                if event.type == "contract.effective":
                    version_recorded(self, event, number=number)
                elif (rule := _RULES.get(event.type)) is not None:
                    if event.currency == currency:
                        rule(self, event, number=number, key=key)
                    else:
                        self._of_another_currency(event)
            except Refused as refusal:
                found.tell(f"event {shown(event.event_id) or f'number {number}'}: {refusal}")
                while self.at < len(self.lines) and self.lines[self.at].event_id == event.event_id:
                    self.at += 1
        if self.at < len(self.lines):
            number = self.first_line + self.at
            found.tell(f"line {number}: no event leads to it, found {_line_shown(self.lines[self.at])}")

    def _of_another_currency(self, event: Event) -> None:
        currency = event.currency
        if currency is None or len(currency) != 3 or not currency.isupper() or not currency.isascii():
            raise Refused(f"its currency is {shown(currency)}, which no statement has")
        self.found.other_currencies[currency] = self.found.other_currencies.get(currency, 0) + 1

    # --- lines --------------------------------------------------------------------------------------------------
    def line(self, event: Event, kind: str, *, term: str, amount: int | None = None) -> int:
        """The amount of the line that must stand here; what it must be where that is known yet. Raises LinesLost."""
        place = self.at
        line = self.lines[place] if place < len(self.lines) else None
        if (
            line is None
            or line.event_id != event.event_id
            or line.kind != kind
            or line.term != term
            or line.contract_version != event.contract_version
            or line.contract != event.contract
        ):
            self._lose(event, kind, line=line)
        assert line is not None
        self.at = place + 1
        told = line.amount_minor
        if told > 0:
            self.found.bank_owes_minor += told
        else:
            self.found.partner_owes_minor -= told
        if amount is not None and told != amount:
            number = self.first_line + place
            self.found.tell(f"line {number} (event {shown(event.event_id)}): amount_minor is {told}, expected {amount}")
        return told

    def _lose(self, event: Event, kind: str, *, line: Line | None) -> None:
        self.found.tell(
            f"line {self.first_line + self.at}: expected is {kind} of event {shown(event.event_id)}, found "
            f"{'the end of its part' if line is None else _line_shown(line)}; later lines of the part are not compared"
        )
        raise LinesLost


def _line_shown(line: Line) -> str:
    return shown(written(line).decode(), limit=300)


def _refuse_envelope(event: Event, *, partner: str, day: str) -> None:
    if event.v != EVENT_FORMAT:
        raise Refused(f"its version v is {shown(event.v)}, this program reads {EVENT_FORMAT}")
    if event.partner != partner:
        raise Refused(f"its partner is {shown(event.partner)}, expected {shown(partner)}")
    raise Refused(f"its business_day is {shown(event.business_day)}, expected {shown(day)}")


_RULES: dict[str, Callable[..., None]] = {
    "redemption.confirmed": redemption, "redemption.reversed": reversal, "goal.reached": goal,
}  # fmt: skip


def check_part(raw: bytes, entry: PartEntry, *, terms: TermsOfFile, first_event: int, first_line: int) -> PartFound:
    """Never raises what a stranger's bytes lead to: every fault is told."""
    found = PartFound(entry.number)
    try:
        _check(raw, entry, found=found, terms=terms, first_event=first_event, first_line=first_line)
    except Refused as refusal:
        found.tell(f"part {entry.number}: {refusal}")
    except LinesLost:
        pass
    except MemoryError:
        found.tell(f"part {entry.number}: this computer's memory is too small for it")
    return found


def _check(
    raw: bytes, entry: PartEntry, *, found: PartFound, terms: TermsOfFile, first_event: int, first_line: int
) -> None:
    require_bytes(raw, entry)
    part = decoded(raw, _events_part)
    leaves = list(map(_spelled, part.events))
    if not _spelled_so(raw, part, leaves):
        require_spelling(raw, written(part))
    if part.kind != "events" or len(part.events) != entry.count or len(part.lines) != entry.lines:
        raise Refused(
            f"it holds {len(part.events)} {shown(part.kind)} and {len(part.lines)} lines, the manifest says "
            f"{entry.count} {entry.kind} and {entry.lines}"
        )
    found.day, found.events, found.lines = part.day, len(part.events), len(part.lines)
    found.root = tree_root([sha256(b"\0" + leaf).digest() for leaf in leaves])
    del leaves
    reading = PartReading(terms, found, part.lines, first_event, first_line)
    reading.take(part.events, part.day)
    found.latest = reading.latest
    found.far = {name: Buckets.of(getattr(reading, name)) for name in FAR}


def _spelled_so(raw: bytes, part: EventsPart, leaves: list[bytes]) -> bool:
    """Whether the part is canonical, by its leaves, without another copy of it."""
    opening = b'{"day":%b,"events":[' % written(part.day)
    end = b'],"kind":%b,"lines":%b}' % (written(part.kind), _spelled(part.lines))
    at = len(opening) - 1  # each leaf but the first stands behind a comma
    if not raw.startswith(opening) or not raw.endswith(end):
        return False
    for leaf in leaves:
        if not raw.startswith(leaf, at + 1):
            return False
        at += len(leaf) + 1
        if raw[at] not in b",]":
            return False
    return at + len(end) == len(raw) if leaves else len(opening) + len(end) == len(raw)


def require_bytes(raw: bytes, entry: PartEntry) -> None:
    digest = sha256(raw).hexdigest()
    if len(raw) != entry.size or digest != entry.sha256:
        raise Refused(f"it has {len(raw)} bytes and sha256 {digest}, the manifest says {entry.size} and {entry.sha256}")


def event_named(raw: bytes, index: int) -> str:
    """The id of an event of a part that was read before, for a sentence about it."""
    return shown(decoded(raw, _events_part).events[index].event_id)
