"""What settlement remembers: sealed days and statements, frozen."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any


@dataclass(frozen=True, slots=True)
class PartnerTree:
    """A partner's own Merkle tree within a day."""

    partner_id: str
    size: int
    root_hash: bytes


@dataclass(frozen=True, slots=True)
class SealedDay:
    """A closed business day: `head` is what was signed, `head_hash` the SHA-256 of its canonical bytes."""

    day: date
    head: Mapping[str, Any]
    head_jws: str
    head_hash: bytes
    root_hash: bytes
    event_count: int
    trees: tuple[PartnerTree, ...]


@dataclass(frozen=True, slots=True)
class StatementRow:
    """A statement as the database has it; `totals` in minor units, `sha256` and `size_bytes` of its file."""

    statement_id: str
    partner_id: str
    number: int
    currency: str
    from_day: date
    to_day: date
    state: str
    requested_by: str
    requested_at_ms: int
    totals: Mapping[str, int] | None = None
    closing: Mapping[str, Any] | None = None
    line_count: int | None = None
    sha256: bytes | None = None
    size_bytes: int | None = None
    issued_at_ms: int | None = None
    failure: str | None = None
    previous_id: str | None = None  # the issued statement that this one opens from
    signature: str | None = None
    event_count: int | None = None
    bank: str | None = None  # the name and the address that it was made under
    issuer: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What a calculation found, and the file that it wrote."""

    line_count: int
    event_count: int
    sha256: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SealedFile:
    """What is known of a sealed day's Parquet file."""

    sha256: bytes
    rows: int
    writer_version: int
