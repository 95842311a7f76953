"""Several statements together: each for itself, then as the chain that they claim to be; and whose keys signed them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from .canonical import Refused, canonical, shown
from .found import Found
from .proof import Key, read_key
from .sealed import check_following
from .statement import read_statement

FILE_LIMIT = 1 << 30  # bytes; 200,000 events make some 150 MB


class Unusable(Exception):
    """Arguments that nothing can be checked with."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A key that signed the statement or a head; `thumbprint` (RFC 7638) is what people compare."""

    kid: str
    thumbprint: str
    pinned: bool


@dataclass(frozen=True, slots=True)
class FileReport:
    """One file. What could not be read is empty; `signers[0]` signed the statement itself."""

    path: str
    sha256: str
    statement_id: str
    partner: str
    currency: str
    number: int
    period: tuple[str, str]
    events: int
    lines: int
    totals: Mapping[str, int]
    signers: tuple[Signer, ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        return not self.faults

    @property
    def thumbprint(self) -> str:
        return self.signers[0].thumbprint if self.signers else ""

    @property
    def pinned(self) -> bool:
        """Every key that signed is one the partner had before."""
        return bool(self.signers) and all(signer.pinned for signer in self.signers)


@dataclass(frozen=True, slots=True)
class Report:
    """All files, in the order given."""

    files: tuple[FileReport, ...]

    @property
    def accepted(self) -> bool:
        return all(file.accepted for file in self.files)


def verify_files(paths: Sequence[str | Path], *, jwks: Mapping[str, Any] | None = None) -> Report:
    """Raises Unusable for a path that is no readable file and for a JWKS that holds no P-256 key."""
    pinned = None if jwks is None else _pinned(jwks)
    event_ids: set[str] = set()
    found = [_read(Path(path), event_ids) for path in paths]
    _check_chains(found)
    return Report(tuple(_report(each, pinned) for each in found))


def _read(path: Path, event_ids: set[str]) -> Found:
    try:
        if not path.is_file():
            raise Unusable(f"{path} is not a file")
        size = path.stat().st_size
        if not 0 < size <= FILE_LIMIT:
            limit = f"it has {size} bytes, a statement has 1 to {FILE_LIMIT}"
            return Found(str(path), "", faults=[limit])
        raw = path.read_bytes()
    except (OSError, ValueError) as error:
        raise Unusable(f"{path} cannot be read: {error}") from None
    return read_statement(raw, name=str(path), event_ids=event_ids)


def _pinned(jwks: Mapping[str, Any]) -> dict[str, Key]:
    """Keys of other kinds are the bank's other business."""
    keys: dict[str, Key] = {}
    documents = jwks.get("keys") if isinstance(jwks, Mapping) else None
    for jwk in documents if isinstance(documents, list) else ():
        if isinstance(jwk, dict) and (jwk.get("kty"), jwk.get("crv")) == ("EC", "P-256"):
            try:
                key = read_key(jwk)
            except Refused as refusal:
                raise Unusable(f"JWKS: {refusal}") from None
            keys[key.kid] = key
    if not keys:
        raise Unusable("the JWKS holds no P-256 key")
    return keys


# --- chains ---------------------------------------------------------------------------------------------------------
def _check_chains(found: Sequence[Found]) -> None:
    """§9, §10: statements of the same bank, partner and currency, by number."""
    read = sorted((each for each in found if each.header), key=_place)
    for _, group in groupby(read, key=lambda each: _place(each)[:3]):
        chain = list(group)
        if chain[0].header["previous"] is not None:
            chain[0].notes.append(f"{_before(chain[0])} was not given, so that the opening rests on the bank's word")
        for before, after in pairwise(chain):
            with after.telling(f"after {before.name}"):
                _check_pair(before, after)


def _place(found: Found) -> tuple[str, str, str, int, str]:
    header = found.header
    return header["bank"], header["partner"], header["currency"], header["number"], found.name


def _before(found: Found) -> str:
    previous = found.header["previous"]
    return f"statement {shown(previous['statement_id'])} (number {previous['number']})"


def _check_pair(before: Found, after: Found) -> None:
    earlier, later = before.header, after.header
    previous = later["previous"]
    if earlier["number"] == later["number"]:
        raise Refused(f"number {later['number']} is there twice")
    if later["from_day"] <= earlier["to_day"]:
        raise Refused(f"from_day {later['from_day']} is not after the to_day {earlier['to_day']} of the one before")
    if previous is None or previous["number"] < earlier["number"]:
        told = "none" if previous is None else _before(after)
        raise Refused(f"the statement before is {told}, but number {earlier['number']} was given")
    if previous["number"] > earlier["number"]:
        after.notes.append(f"{_before(after)} was not given, so that the opening rests on the bank's word")
        return
    expected = {"number": earlier["number"], "sha256": before.sha256, "statement_id": earlier["statement_id"]}
    for name, value in expected.items():
        if previous[name] != value:
            raise Refused(f"previous.{name} is {shown(previous[name])}, the file given has {shown(value)}")
    closed = before.closing if isinstance(before.closing, dict) else {}
    for name, opened in after.opening.items():
        if canonical(opened) != canonical(closed.get(name)):
            raise Refused(f"opening: {name} is {shown(opened)}, the closing before has {shown(closed.get(name))}")
    if before.heads and after.heads:
        check_following(before.heads[-1], after.heads[0])


# --- the report ---------------------------------------------------------------------------------------------------
def _report(found: Found, pinned: Mapping[str, Key] | None) -> FileReport:
    header, closed = found.header, dict[str, int]()
    signers = tuple(_signer(key, pinned, found) for key in found.signers)
    if signers and pinned is None:
        found.notes.append("keys are not pinned: compare the thumbprint with the bank's, or give --jwks")
    empty = sum(1 for head in found.heads if head["event_count"]) - found.days_with_events
    if empty:
        found.notes.append(f"that {empty} of its days hold nothing of this partner rests on the bank's signed word")
    totals = found.totals if isinstance(found.totals, dict) else closed
    return FileReport(
        found.name, found.sha256, header.get("statement_id", ""), header.get("partner", ""),
        header.get("currency", ""), header.get("number", 0), (header.get("from_day", ""), header.get("to_day", "")),
        found.event_count, found.line_count, {n: t for n, t in totals.items() if type(t) is int}, signers,
        tuple(found.faults), tuple(found.notes),
    )  # fmt: skip


def _signer(key: Key, pinned: Mapping[str, Key] | None, found: Found) -> Signer:
    known = None if pinned is None else pinned.get(key.kid)
    if pinned is not None and known is None:
        found.tell(f"key {shown(key.kid)} is not among the pinned keys")
    elif known is not None and known.thumbprint != key.thumbprint:
        found.tell(f"key {shown(key.kid)} has thumbprint {key.thumbprint}, the pinned one has {known.thumbprint}")
        known = None
    return Signer(key.kid, key.thumbprint, known is not None)
