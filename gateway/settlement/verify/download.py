"""A statement's one file (§12), small or an archive: where its manifest and its parts lie. Nothing is ever unpacked."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Thread

import msgspec

from .canonical import Refused, decoded, decoder, shown

SMALL_PARTS_LIMIT = 16 << 20  # bytes of parts in a file of one JSON value (§12)
MANIFEST_LIMIT = 32 << 20  # bytes; a day takes one or two thousand of them
PART_LIMIT = 64 << 20  # bytes; 8,192 events of usual size and their lines take ten million
MEMBERS_LIMIT = 999_999  # parts that names of six digits count
BLOCK = 512  # bytes of a ustar record
_READ = 1 << 20  # bytes read at a time
_ARCHIVE, _SMALL = b"manifest.json\0", b'{"manifest":'


class Small(msgspec.Struct, forbid_unknown_fields=True):
    """The file of one JSON value, its members still as they are written."""

    manifest: msgspec.Raw
    parts: list[msgspec.Raw]


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes of a file."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Download:
    """A file that is read piece by piece."""

    path: Path
    archive: bool
    manifest: bytes
    parts: tuple[Place, ...]

    def read(self, place: Place) -> bytes:
        return read_place(self.path, place)


def read_place(path: Path, place: Place) -> bytes:
    """Raises Refused when the file ends before."""
    with path.open("rb") as file:
        file.seek(place.offset)
        found = file.read(place.size)
    if len(found) != place.size:
        raise Refused(f"the file ends before byte {place.offset + place.size}")
    return found


class Hashing(Thread):
    """SHA-256 of the whole file, while its parts are read by others."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._found = sha256()
        self._failed: OSError | None = None

    def run(self) -> None:
        try:
            with self._path.open("rb") as file:
                while block := file.read(_READ):
                    self._found.update(block)
        except OSError as error:
            self._failed = error

    def result(self) -> str:
        self.join()
        if self._failed is not None:
            raise Refused(f"it cannot be read any more: {self._failed}")
        return self._found.hexdigest()


def open_download(path: Path) -> Download:
    """Raises Refused for a file that is no statement, and says what it is where that is easy to see."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(BLOCK)
    if start.startswith(_SMALL):
        return _small(path, size)
    if start.startswith(_ARCHIVE) and start[257:262] == b"ustar":
        return _archive(path, size)
    raise Refused(f"this is not a statement: {_looks_like(start, size)}")


def _looks_like(start: bytes, size: int) -> str:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    looks = {
        rb'{"closing":': "it looks like one of format version 1, which was never issued to anybody",
        rb'\{\s*"keys"\s*:': "it looks like a set of keys (JWKS), which belongs behind --jwks",
        rb"(?i)<(!doctype|html|\?xml)": "it looks like a page of a web site, perhaps one that asks to log in",
        rb"\x1f\x8b|BZh|\xfd7zXZ|PK\x03\x04|\x28\xb5\x2f\xfd": "it is compressed, which no statement is",
        rb"%PDF": "it is a PDF; what is checked is the file that the bank signed",
        rb"[\[{]": "it is other JSON",
    }
    if not size:
        return "it has 0 bytes"
    if start[257:262] == b"ustar":
        return f"it is an archive that begins with {shown(start[:100].rstrip(bytes(1)).decode(errors='replace'))}"
    return next((what for like, what in looks.items() if re.match(like, text)), "it begins like nothing that is known")


def _small(path: Path, size: int) -> Download:
    if size > MANIFEST_LIMIT + SMALL_PARTS_LIMIT:
        raise Refused(f"it has {size} bytes; a statement of more than {SMALL_PARTS_LIMIT} in its parts is an archive")
    raw = path.read_bytes()
    found = decoded(raw, decoder(Small))
    manifest, parts = bytes(found.manifest), [bytes(part) for part in found.parts]
    opening = _SMALL + manifest + b',"parts":['
    if raw != opening + b",".join(parts) + b"]}\n":
        raise Refused("it is not canonical JSON of a manifest and parts, and a newline")
    if sum(map(len, parts)) > SMALL_PARTS_LIMIT:
        raise Refused(f"its parts have more than {SMALL_PARTS_LIMIT} bytes together, which is for an archive")
    places, at = [], len(opening)
    for part in parts:
        places.append(Place(at, len(part)))
        at += len(part) + 1
    return Download(path, False, manifest, tuple(places))


# --- the archive ----------------------------------------------------------------------------------------------------
def _archive(path: Path, size: int) -> Download:
    """POSIX ustar, and nothing but what §12 says: headers are compared with the only ones that there may be."""
    places: list[Place] = []
    with path.open("rb") as file:
        at = 0
        while True:
            header = file.read(BLOCK)
            if header == bytes(BLOCK):
                break
            if len(places) > MEMBERS_LIMIT:
                raise Refused(f"the archive has more than {MEMBERS_LIMIT} parts")
            name = f"part-{len(places):06}.json" if places else "manifest.json"
            place = Place(at + BLOCK, _member_size(header, name, limit=PART_LIMIT if places else MANIFEST_LIMIT))
            places.append(place)
            at += BLOCK + place.size + -place.size % BLOCK
            file.seek(place.offset + place.size)
            if any(file.read(at - place.offset - place.size)):
                raise Refused(f"archive member {name} is filled up with something else than zeros")
        if file.read(BLOCK + 1) != bytes(BLOCK) or file.seek(0, os.SEEK_END) != size:
            raise Refused("the archive does not end with two blocks of zeros")
    if not places:
        raise Refused("the archive is empty")
    total = sum(place.size for place in places[1:])
    if total <= SMALL_PARTS_LIMIT:
        raise Refused(f"the parts of the archive have {total} bytes together, which is for a file of one JSON value")
    return Download(path, True, read_place(path, places[0]), tuple(places[1:]))


def _member_size(header: bytes, name: str, *, limit: int) -> int:
    """Every byte of a header but its size is known before."""
    if len(header) != BLOCK:
        raise Refused(f"the archive ends where the header of {name} is expected")
    if not re.fullmatch(rb"[0-7]{11}\0", header[124:136]):
        raise Refused(f"the size of archive member {name} is not written in eleven octal digits")
    size = int(header[124:135], 8)
    if not 0 < size <= limit:
        raise Refused(f"archive member {name} has {size} bytes, expected is 1 to {limit}")
    if header not in (ustar_header(name, size, device=device) for device in (bytes(8), b"0000000\0")):
        found = shown(header[:100].rstrip(b"\0").decode(errors="replace"))
        raise Refused(f"the header of archive member {name} is another one than the rules have, named {found}")
    return size


def ustar_header(name: str, size: int, *, device: bytes) -> bytes:
    """A plain file of mode 0644, owner and group 0 without names, time 0."""
    fields: Sequence[tuple[bytes, int]] = (
        (name.encode(), 100), (b"0000644\0", 8), (b"0000000\0", 8), (b"0000000\0", 8), (b"%011o\0" % size, 12),
        (b"00000000000\0", 12), (b" " * 8, 8), (b"0", 1), (b"", 100), (b"ustar\x0000", 8), (b"", 32), (b"", 32),
        (device, 8), (device, 8), (b"", 155), (b"", 12),
    )  # fmt: skip
    header = b"".join(value.ljust(width, b"\0") for value, width in fields)
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]
