"""Several statements together: each for itself, then as the chain that they claim to be; and whose keys signed them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from .canonical import Refused, compare, shown
from .days import check_following
from .found import EnoughFaults, Found
from .joins import across
from .pins import Expected, Unusable, expected_of, given, remember
from .proof import Key
from .statement import read_statement
from .workers import WorkerLost, workers_of

Note = tuple[str, str]  # what kind, and its fact; see words


@dataclass(frozen=True, slots=True)
class Signer:
    """A key that signed the statement or a head; `thumbprint` (RFC 7638) is what people compare."""

    kid: str
    thumbprint: str
    pinned: bool


@dataclass(frozen=True, slots=True)
class FileReport:
    """One file. What could not be read is empty; `signers[0]` signed the statement itself.

    `drift`: by party Σ (leg − exact part) in 10⁻⁴ and Σ f(1 − f) in 10⁻⁸ of a minor unit (§6).
    """

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
    drift: Mapping[str, tuple[int, int]]
    signers: tuple[Signer, ...]
    faults: tuple[str, ...]
    notes: tuple[Note, ...]

    @property
    def accepted(self) -> bool:
        """All of it is true; who signed it is another question: see `pinned`."""
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

    @property
    def pinned(self) -> bool:
        return all(file.pinned for file in self.files)


def verify_files(
    paths: Sequence[str | Path], *, jwks: Mapping[str, Any] | None = None, thumbprints: Sequence[str] = (),
    partner: str | None = None, keep: bool = False, workers: int | None = None,
) -> Report:  # fmt: skip
    """`keep`: what was pinned is remembered in the files' folders. Raises Unusable for a path that is no readable
    file, pins that are none, and a process that was lost."""
    command = given(jwks, thumbprints, partner=partner)
    files = [Path(path) for path in paths]
    expected = [expected_of(path, command) for path in files]
    if keep and any(each.thumbprints is None for each in expected):
        raise Unusable("only what was accepted with pinned keys is remembered: give --jwks or --key as well")
    found = [_read(path, workers_of(workers)) for path in files]
    _check_chains(found)
    _check_partners(found, expected)
    report = Report(tuple(_report(each, told) for each, told in zip(found, expected, strict=True)))
    if keep and report.accepted and report.pinned:
        for each, told in zip(found, expected, strict=True):
            remember([each], told)
    return report


def _read(path: Path, workers: int) -> Found:
    try:
        if not path.is_file():
            raise Unusable(f"{path} is not a file")
        before = _state(path)
        found = read_statement(path, workers=workers)
        if _state(path) != before:  # it was read in pieces, and hashed beside: of several files nothing is said
            raise Unusable(f"{path} was changed while it was read: check it again")
        return found
    except (OSError, ValueError) as error:
        raise Unusable(f"{path} cannot be read: {error}") from None
    except WorkerLost as lost:
        raise Unusable(f"{path}: {lost}") from None


def _state(path: Path) -> tuple[int, int, int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


# --- whose they are ---------------------------------------------------------------------------------------------------
def _check_partners(found: Sequence[Found], expected: Sequence[Expected]) -> None:
    """Where nobody says whose statements are expected, those of one call are one partner's of one bank."""
    first: Found | None = None
    for each, told in zip(found, expected, strict=True):
        if not each.header:
            continue
        with suppress(EnoughFaults):
            _check_partner(each, told, beside=first)
        first = first or (each if told.partner is None else None)


def _check_partner(each: Found, told: Expected, *, beside: Found | None) -> None:
    partner, bank = each.header["partner"], each.header["bank"]
    if told.partner is not None and partner != told.partner:
        each.tell(
            f"partner is {shown(partner)}; {shown(told.said_by, limit=300)} expects statements of {shown(told.partner)}"
        )
    if told.bank is not None and bank != told.bank:
        each.tell(f"bank is {shown(bank)}; {shown(told.said_by, limit=300)} expects statements by {shown(told.bank)}")
    if told.partner is None and beside is not None:
        for name, value in (("partner", partner), ("bank", bank)):
            if value != beside.header[name]:
                other = f"{shown(beside.name)} is of {shown(beside.header[name])}"
                each.tell(f"{name} is {shown(value)}, but {other}: check them in two calls")


# --- chains ---------------------------------------------------------------------------------------------------------
def _check_chains(found: Sequence[Found]) -> None:
    """§10, §12: statements of the same bank, partner and currency, by number."""
    read = sorted((each for each in found if each.header), key=_place)
    for _, group in groupby(read, key=lambda each: _place(each)[:3]):
        chain = list(group)
        if chain[0].header["previous"] is not None:
            chain[0].notes.append(("rests", _before(chain[0])))
        runs = [[chain[0]]]
        for before, after in pairwise(chain):
            with suppress(EnoughFaults), after.telling(f"after {before.name}"):
                if _check_pair(before, after):
                    runs[-1].append(after)
                    continue
            runs.append([after])
        for run in runs:
            _check_run(run)


def _check_run(run: Sequence[Found]) -> None:
    """Statements without one missing between them: no event twice, and reversals go on where they stopped."""
    joins = [each.joins for each in run if each.joins is not None]
    if len(joins) < len(run) or len(run) == 1:
        return
    for place, number, sentence in across(joins):
        with suppress(EnoughFaults):
            run[place].tell(f"event number {number}: {sentence}")


def _place(found: Found) -> tuple[str, str, str, int, str]:
    header = found.header
    return header["bank"], header["partner"], header["currency"], header["number"], found.name


def _before(found: Found) -> str:
    previous = found.header["previous"]
    return f"{shown(previous['statement_id'])} ({previous['number']})"


def _check_pair(before: Found, after: Found) -> bool:
    """Whether the one is that directly before the other. Raises Refused."""
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
        after.notes.append(("rests", _before(after)))
        return False
    expected = {"number": earlier["number"], "sha256": before.sha256, "statement_id": earlier["statement_id"]}
    for name, value in expected.items():
        if previous[name] != value:
            raise Refused(f"previous.{name} is {shown(previous[name])}, the file given has {shown(value)}")
    assert before.manifest is not None, "it has a header"
    assert after.manifest is not None, "it has a header"
    for fault in compare("opening (after the closing before)", after.manifest.opening, before.manifest.closing):
        after.tell(fault)
    if before.manifest.days and after.manifest.days:
        check_following(before.manifest.days[-1], after.manifest.days[0])
    return True


# --- the report ---------------------------------------------------------------------------------------------------
def _report(found: Found, expected: Expected) -> FileReport:
    header, manifest = found.header, found.manifest
    signers = tuple(_signer(key, expected, found=found) for key in found.signers)
    if expected.thumbprints is not None and not signers and not found.faults:
        found.faults.append("nobody signed it")
    days = manifest.days if manifest is not None else ()
    if empty := sum(1 for day in days if day.head["event_count"] and not day.size):
        found.notes.append(("empty", str(empty)))
    if expected.pinned_by:  # it may have come with the file: then it is the file's own word
        found.notes.append(("pinned_by", expected.pinned_by))
    totals = manifest.totals if manifest is not None and isinstance(manifest.totals, dict) else {}
    return FileReport(
        found.name, found.sha256, header.get("statement_id", ""), header.get("partner", ""),
        header.get("currency", ""), header.get("number", 0), (header.get("from_day", ""), header.get("to_day", "")),
        found.event_count, found.line_count, {n: t for n, t in totals.items() if type(t) is int}, found.drift,
        signers, tuple(found.faults), tuple(found.notes),
    )  # fmt: skip


def _signer(key: Key, expected: Expected, *, found: Found) -> Signer:
    pinned = expected.thumbprints is not None and key.thumbprint in expected.thumbprints
    if expected.thumbprints is not None and not pinned:
        with suppress(EnoughFaults):
            found.tell(f"key {shown(key.kid)} with thumbprint {key.thumbprint} is not among the pinned keys")
    return Signer(key.kid, key.thumbprint, pinned)
