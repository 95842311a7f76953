"""The statement's file (docs/settlement-rules.md §12): parts written as they are made, then the manifest before them.

The same inputs and signature give the same bytes; nothing here reads a clock or a database.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from gateway.jsonio import canonical
from gateway.settlement.facts import sync_folder
from gateway.settlement.merkle import EMPTY_ROOT
from gateway.settlement.model import SealedDay
from gateway.settlement.seal import path_of

FORMAT = "parasol-statement-2"
STATEMENT_TYPE = "parasol-statement"
ONE_JSON_BYTES = 16 * 1024 * 1024  # what the parts have together at most where the download is one JSON
ACCRUED_ENTRIES = 8192  # of an accrued part: it stays as small as one of events
ACCRUED_TOKENS = 65_536
_COPY_BYTES = 1024 * 1024
_BLOCK = 512  # of a tar archive


@dataclass(frozen=True, slots=True)
class Totals:
    """§9: what is paid now and what is carried; payable + carried_out = net + carried_in."""

    bank_owes_minor: int
    partner_owes_minor: int
    net_minor: int
    carried_in_minor: int
    payable_minor: int
    carried_out_minor: int

    def members(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}


def total(bank_owes_minor: int, partner_owes_minor: int, *, carried_in_minor: int, min_pay_minor: int) -> Totals:
    """A due below the minimum, or below zero, is carried, never clipped."""
    net = bank_owes_minor - partner_owes_minor
    due = net + carried_in_minor
    payable = due if due > 0 and due >= min_pay_minor else 0
    return Totals(bank_owes_minor, partner_owes_minor, net, carried_in_minor, payable, due - payable)


@dataclass(frozen=True, slots=True)
class Part:
    """An entry of the manifest's `parts`."""

    kind: str
    count: int
    lines: int
    size: int
    sha256: str

    def members(self) -> dict[str, Any]:
        return {"count": self.count, "kind": self.kind, "lines": self.lines, "sha256": self.sha256, "size": self.size}


class PartsDraft:
    """Parts one after the other in a file, and what the manifest says of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parts: list[Part] = []
        self._file = open_private(path)

    def add(self, pieces: Iterable[bytes], *, kind: str, count: int, lines: int) -> None:
        digest, size = sha256(), 0
        for piece in pieces:
            digest.update(piece)
            size += self._file.write(piece)
        self.parts.append(Part(kind, count, lines, size, digest.hexdigest()))

    def close(self) -> None:
        self._file.close()


def events_part(day: str, leaves: bytes, lines: bytes) -> list[bytes]:
    """Leaves are canonical already; both are joined by commas."""
    head = b'{"day":' + canonical(day) + b',"events":['
    return [head, leaves, b'],"kind":"events","lines":[', lines, b"]}"]


def accrued_parts(touched: Iterator[list[dict[str, Any]]], proof: Sequence[Any]) -> Iterator[tuple[int, bytes]]:
    """(entries, canonical bytes) of each accrued part: entries and tokens in order, as many as a part takes."""
    waiting: list[dict[str, Any]] = []
    told = 0
    more = True
    while more or waiting or told < len(proof):
        while more and len(waiting) < ACCRUED_ENTRIES:
            batch = next(touched, None)
            more = batch is not None
            waiting += batch or []
        entries, waiting = waiting[:ACCRUED_ENTRIES], waiting[ACCRUED_ENTRIES:]
        tokens = proof[told : told + ACCRUED_TOKENS]
        told += len(tokens)
        if entries or tokens:
            yield len(entries), canonical({"entries": entries, "kind": "accrued", "proof": list(tokens)})


def day_members(sealed: SealedDay, partner_id: str) -> dict[str, Any]:
    """An entry of the manifest's `days`."""
    index, path = path_of(sealed.trees, partner_id)
    tree = next((tree for tree in sealed.trees if tree.partner_id == partner_id), None)
    return {
        "head": dict(sealed.head), "head_jws": sealed.head_jws, "index": index, "path": path,
        "root": (tree.root_hash if tree else EMPTY_ROOT).hex(), "size": tree.size if tree else 0,
        "tree_size": len(sealed.trees),
    }  # fmt: skip


def signed_manifest(members: Mapping[str, Any], sign: Callable[[bytes], str]) -> tuple[bytes, str]:
    """The manifest's bytes and its signature; `sign` makes the detached JWS, or gives the one that was made before."""
    signature = sign(canonical(members))
    return canonical({**members, "signature": signature}), signature


def put_together(path: Path, manifest: bytes, drafts: Sequence[PartsDraft]) -> tuple[bytes, int]:
    """Write the download at `path`, on the disk; its SHA-256 and size. One JSON, or an archive where it is large."""
    parts = [part for draft in drafts for part in draft.parts]
    small = sum(part.size for part in parts) <= ONE_JSON_BYTES
    pieces = _one_json(manifest, drafts) if small else _archive(manifest, drafts)
    digest, size = sha256(), 0
    with open_private(path) as file:
        for piece in pieces:
            digest.update(piece)
            size += file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)
    return digest.digest(), size


def _one_json(manifest: bytes, drafts: Sequence[PartsDraft]) -> Iterator[bytes]:
    yield b'{"manifest":' + manifest + b',"parts":['
    for number, (_, pieces) in enumerate(_each_part(drafts)):
        if number:
            yield b","
        yield from pieces
    yield b"]}\n"


def _archive(manifest: bytes, drafts: Sequence[PartsDraft]) -> Iterator[bytes]:
    yield tar_header("manifest.json", len(manifest))
    yield manifest + _padding(len(manifest))
    for number, (part, pieces) in enumerate(_each_part(drafts), 1):
        yield tar_header(f"part-{number:06}.json", part.size)
        yield from pieces
        yield _padding(part.size)
    yield bytes(2 * _BLOCK)


def _each_part(drafts: Sequence[PartsDraft]) -> Iterator[tuple[Part, Iterator[bytes]]]:
    for draft in drafts:
        with draft.path.open("rb") as file:
            for part in draft.parts:
                yield part, _read(file, part.size)


def _read(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        block = file.read(min(size, _COPY_BYTES))
        assert block, "the draft holds what was written to it"
        size -= len(block)
        yield block


def tar_header(name: str, size: int) -> bytes:
    """POSIX ustar: a plain file, mode 0644, owner and group 0 without names, mtime 0 (IEEE 1003.1, pax, ustar)."""
    assert size < 8**11, "eleven octal digits"
    fields = (
        name.encode().ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0", b"%011o\0" % size, b"%011o\0" % 0,
        b" " * 8, b"0", bytes(100), b"ustar\0" + b"00", bytes(32), bytes(32), b"0000000\0", b"0000000\0", bytes(155),
        bytes(12),
    )  # fmt: skip
    blank = b"".join(fields)
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


def open_private(path: Path) -> BinaryIO:
    """A file that only we read, new or written over."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "wb")
