"""What a statement's file says of itself, and what was found to be wrong with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .canonical import HEX, Refused, day_of, integer, members, shown, string
from .proof import Key

FAULT_LIMIT = 25  # sentences a file; whoever reads more has understood


@dataclass(slots=True)
class Found:
    """What a file says, as far as it could be read, and what is wrong with it."""

    name: str
    sha256: str
    header: dict[str, Any] = field(default_factory=dict)
    opening: dict[str, Any] = field(default_factory=dict)
    closing: dict[str, Any] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)
    event_count: int = 0
    days_with_events: int = 0
    line_count: int = 0
    heads: list[dict[str, Any]] = field(default_factory=list)
    signers: list[Key] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def telling(self, of: str) -> Iterator[None]:
        """What is refused inside is told, and the reading goes on."""
        try:
            yield
        except Refused as refusal:
            self.tell(f"{of}: {refusal}")

    def tell(self, fault: str) -> None:
        if len(self.faults) < FAULT_LIMIT:
            self.faults.append(fault)
        elif len(self.faults) == FAULT_LIMIT:
            self.faults.append("and more: only the first faults are told")


def read_header(value: Any) -> dict[str, Any]:
    """The member `statement`."""
    names = "bank currency from_day issuer number partner previous statement_id to_day"
    bank, currency, first, issuer, number, partner, previous, statement_id, last = members(value, names, of="statement")
    for name, text in {"bank": bank, "issuer": issuer, "partner": partner, "statement_id": statement_id}.items():
        string(text, name)
    string(currency, "currency", pattern="[A-Z]{3}")
    integer(number, "number", low=1)
    if day_of(first, "from_day") > day_of(last, "to_day"):
        raise Refused(f"from_day {first} is after to_day {last}")
    if previous is not None:
        before, digest, name = members(previous, "number sha256 statement_id", of="previous")
        integer(before, "number of previous", low=1, high=number - 1)
        string(digest, "sha256 of previous", pattern=HEX)
        string(name, "statement_id of previous")
    return dict(value)


def read_opening(value: Any, *, first: bool) -> dict[str, Any]:
    """§9. The first statement opens with nothing."""
    accrued, carried, ranks = members(value, "accrued carried_minor ranks", of="opening")
    integer(carried, "opening: carried_minor")
    for name, counts in {"accrued": accrued, "ranks": ranks}.items():
        if not isinstance(counts, dict):
            raise Refused(f"opening: {name} is {shown(counts)}, expected is an object")
        for key, count in counts.items():
            integer(count, f"opening: {name} of {shown(key)}", low=0)
    if first and (carried or ranks or accrued):
        raise Refused(f"the first statement opens with 0 and nothing else, found {shown(value)}")
    return dict(value)
