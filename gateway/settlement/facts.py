"""A sealed day as a Parquet file: each partner's leaves in the order of recording, written in flat memory.

Row groups hold one partner each, so that a statement reads its own partner's. A file holds bytes and asks nothing of
them: no leaf can stop it, and what leaves say is read by those who settle (typed_facts.py).
"""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import pyarrow as pa
import pyarrow.parquet as pq

from gateway.settlement.seal import NOBODY

WRITER_VERSION = 3  # of columns and layout: a file of another one is written again
GROUP_ROWS = 32_768  # rows of a partner written at once: four parts of a statement
_HELD_ROWS = 65_536  # rows waiting for their group, of all partners together: what the writer's memory is bounded by
_HELD_BYTES = 64 * 1024 * 1024
_READ_BYTES = 1024 * 1024
SEALED = pa.schema([("partner", pa.string()), ("seq", pa.int64()), ("leaf", pa.binary())])


@dataclass(frozen=True, slots=True)
class FactsFile:
    """What is remembered of a written file."""

    sha256: bytes
    rows: int
    writer_version: int


class FactsWriter:
    """Writes beside `path` and moves there when all is on the disk. A context: what is not finished is removed."""

    def __init__(self, path: Path) -> None:
        self._path, self._draft = path, path.with_name(path.name + ".draft")
        self._held: dict[str, list[bytes]] = {}
        self._held_rows = self._held_bytes = self._rows = 0
        self._next: dict[str, int] = {}  # the place in its partner's tree that the next row of a partner has
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.parent.chmod(0o700)
        descriptor = os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.fchmod(descriptor, 0o600)
        self._file: BinaryIO = os.fdopen(descriptor, "wb")
        self._parquet = pq.ParquetWriter(
            self._file, SEALED, compression="zstd", compression_level=1, use_dictionary=["partner"],
            write_statistics=["partner"],
        )  # fmt: skip
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="facts")
        return self

    def add(self, batch: Sequence[tuple[str | None, bytes]]) -> None:
        """(partner, leaf) pairs, in the order of recording. The same leaves give the same file in any batches."""
        for name, pairs in groupby(batch, key=itemgetter(0)):
            self._add(name or NOBODY, [leaf for _, leaf in pairs])

    def _add(self, name: str, leaves: list[bytes]) -> None:
        """Leaves of one partner, up to the nearest limit at a time."""
        at = 0
        while at < len(leaves):
            rows = self._held.setdefault(name, [])
            fresh = leaves[at : at + min(GROUP_ROWS - len(rows), _HELD_ROWS - self._held_rows)]
            size = sum(map(len, fresh))
            if self._held_bytes + size >= _HELD_BYTES:  # the limit is met somewhere in them
                fresh = fresh[:1]
                size = len(fresh[0])
            rows += fresh
            at += len(fresh)
            self._held_rows += len(fresh)
            self._held_bytes += size
            if len(rows) >= GROUP_ROWS:
                self._write_group(name)
            elif self._held_rows >= _HELD_ROWS or self._held_bytes >= _HELD_BYTES:
                self._write_group(max(self._held, key=lambda each: (len(self._held[each]), each)))

    def finish(self) -> FactsFile:
        """Everything on the disk and in its place."""
        for name in sorted(self._held):
            self._write_group(name)
        self._wait()
        self._parquet.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        written = FactsFile(file_sha256(self._draft), self._rows, WRITER_VERSION)
        self._draft.replace(self._path)
        sync_folder(self._path.parent)
        return written

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        if self._parquet.is_open:  # it was not finished; closing writes what a Parquet file ends with
            self._parquet.close()
        self._file.close()
        self._draft.unlink(missing_ok=True)

    def _write_group(self, name: str) -> None:
        """Hand a partner's rows to the writing thread: one group is written while the next one is filled."""
        rows = self._held.pop(name)
        first = self._next.get(name, 0)
        self._next[name] = first + len(rows)
        self._held_rows -= len(rows)
        self._held_bytes -= sum(map(len, rows))
        self._rows += len(rows)
        self._wait()
        self._writing = self._thread.submit(self._put, name, first, rows)

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def _put(self, name: str, first: int, rows: list[bytes]) -> None:
        columns = [pa.repeat(name, len(rows)), pa.arange(first, first + len(rows)), pa.array(rows, pa.binary())]
        self._parquet.write_table(pa.table(columns, schema=SEALED), row_group_size=GROUP_ROWS)


def file_sha256(path: Path) -> bytes:
    """Of a file of any size."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.digest()


def sync_folder(folder: Path) -> None:
    """A name in a folder is only safe from a power cut when the folder is on the disk as well."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
