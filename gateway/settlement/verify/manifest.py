"""What a statement says of itself (§12): the members of its manifest, each of its shape."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from .canonical import HEX, Refused, day_of, integer, listed, members, shown, string, whole_value, written
from .documents import read_contracts
from .download import PART_LIMIT
from .terms import Version

FORMAT = "parasol-statement-2"
HEAD_FORMAT = "parasol-day-2"
PART_EVENTS = 8192  # all parts of a day but its last hold so many (§12)
NOTHING = "0" * 64
_MEMBERS = "closing contracts days format keys opening parts signature statement totals"


@dataclass(frozen=True, slots=True)
class PartEntry:
    """What the manifest says of a part."""

    number: int
    kind: str
    count: int
    lines: int
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Day:
    """A sealed day: its head, and the partner's place in its tree."""

    name: str
    head: Mapping[str, Any]
    head_bytes: bytes
    head_jws: Any
    index: int
    path: list[str]
    root: str
    size: int
    tree_size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """Read, and each member for itself of the right shape."""

    header: dict[str, Any]
    to_day: date
    versions: list[Version]
    days: tuple[Day, ...]
    opening: dict[str, Any]
    closing: Any
    totals: Any
    parts: tuple[PartEntry, ...]
    keys: list[Any]
    signature: Any
    signed: bytes


def read_manifest(raw: bytes) -> Manifest:
    document = whole_value(raw)
    if isinstance(document, dict) and document.get("format") != FORMAT:
        raise Refused(f"its format is {shown(document.get('format'))}, this program reads {FORMAT}")
    closing, contracts, days, _, keys, opening, parts, signature, statement, totals = members(
        document, _MEMBERS, of="the manifest"
    )
    header = read_header(statement)
    del document["signature"]
    return Manifest(
        header, day_of(header["to_day"], "to_day"), read_contracts(contracts),
        tuple(_day(day) for day in listed(days, "days")),
        read_opening(opening, first=header["previous"] is None), closing, totals,
        tuple(_part(part, number) for number, part in enumerate(listed(parts, "parts"), 1)), listed(keys, "keys"),
        signature, written(document),
    )  # fmt: skip


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
    """§10. The first statement opens with nothing."""
    accrued, carried, funded, ranks, versions = members(
        value, "accrued carried_minor funded ranks versions", of="opening"
    )
    root, size = members(accrued, "root size", of="opening: accrued")
    string(root, "opening: root of accrued", pattern=HEX)
    integer(size, "opening: size of accrued", low=0)
    integer(carried, "opening: carried_minor")
    for name, counts in {"funded": funded, "ranks": ranks}.items():
        if not isinstance(counts, dict):
            raise Refused(f"opening: {name} is {shown(counts)}, expected is an object")
        for key, count in counts.items():
            integer(count, f"opening: {name} of {shown(key)}", low=1)
    for known in listed(versions, "opening: versions"):
        contract, digest, start, number = members(known, "contract sha256 start_ms version", of="opening: a version")
        string(contract, "opening: contract of a version")
        string(digest, "opening: sha256 of a version", pattern=HEX)
        integer(start, "opening: start_ms of a version", low=0)
        integer(number, "opening: number of a version", low=1)
    if first and (carried or ranks or funded or versions or size or root != NOTHING):
        raise Refused(f"the first statement opens with 0 and nothing else, found {shown(value)}")
    return dict(value)


def _day(value: Any) -> Day:
    head, head_jws, index, path, root, size, tree_size = members(
        value, "head head_jws index path root size tree_size", of="a day"
    )
    name = _head(head)
    return Day(
        name, head, written(head), head_jws,
        integer(index, f"day {name}: index", low=-1),
        [string(node, f"day {name}: a hash of the path", pattern=HEX) for node in listed(path, "path")],
        string(root, f"day {name}: root", pattern=HEX),
        integer(size, f"day {name}: size", low=0),
        integer(tree_size, f"day {name}: tree_size", low=0),
    )  # fmt: skip


def _head(value: Any) -> str:
    """§3; the head's day."""
    names = "audit_head bank business_day event_count format previous_head_hash root_hash tree_size"
    audit, bank, day, count, shape, previous, root, tree_size = members(value, names, of="a head")
    of = f"head of {day_of(day, 'business_day of a head')}"
    if shape != HEAD_FORMAT:
        raise Refused(f"{of}: format is {shown(shape)}, expected {HEAD_FORMAT}")
    string(bank, f"{of}: bank")
    for name, digest in {"previous_head_hash": previous, "root_hash": root, "audit_head": audit or NOTHING}.items():
        string(digest, f"{of}: {name}", pattern=HEX)
    if audit is not None:
        string(audit, f"{of}: audit_head", pattern=HEX)
    integer(count, f"{of}: event_count", low=0)
    integer(tree_size, f"{of}: tree_size", low=0)
    return str(day)


def _part(value: Any, number: int) -> PartEntry:
    count, kind, lines, digest, size = members(value, "count kind lines sha256 size", of=f"part {number}")
    string(kind, f"part {number}: kind", pattern="accrued|events")
    bounds = {"low": 1, "high": PART_EVENTS} if kind == "events" else {"low": 0}
    return PartEntry(
        number, kind,
        integer(count, f"part {number}: count", **bounds),
        integer(lines, f"part {number}: lines", low=0, high=0 if kind == "accrued" else 2 * PART_EVENTS),
        string(digest, f"part {number}: sha256", pattern=HEX),
        integer(size, f"part {number}: size", low=1, high=PART_LIMIT),
    )  # fmt: skip
