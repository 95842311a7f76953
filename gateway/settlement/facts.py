"""A sealed day as a Parquet file: its leaves and typed columns of them, written in flat memory, read by the engine.

Row groups hold one partner each, so that a statement reads its own partner's. A leaf that cannot be read does not stop
the file: its row says so (`fits` is false), and the engine refuses the statements of that partner only.
"""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from gateway.clock import EARLIEST_MS, END_MS
from gateway.settlement.seal import NOBODY

PARTIES = ("bank", "partner", "merchant", "network")  # the order of the split: docs/settlement-rules.md §6
SETTLED = ("redemption.confirmed", "redemption.reversed", "goal.reached")
WRITER_VERSION = 2  # of columns and layout: a file of another one is written again
LEAF_VERSION = 2  # of what is sealed: docs/settlement-rules.md §2
GROUP_ROWS = 32_768  # rows of a partner written at once: four parts of a statement
_HELD_ROWS = 65_536  # rows waiting for their group, of all partners together: what the writer's memory is bounded by
_HELD_BYTES = 64 * 1024 * 1024
_READ_BYTES = 1024 * 1024
# The other core hashes leaves meanwhile.
_DUCKDB: dict[str, str | bool | int | float | list[str]] = {"threads": 1, "memory_limit": "256MB"}

_TEXT, _LONG = "VARCHAR", "BIGINT"
_TOP = {
    "event_id": _TEXT, "type": _TEXT, "contract": _TEXT, "contract_version": "INTEGER", "currency": _TEXT,
    "subject_token": _TEXT, "occurred_at_ms": _LONG, "recorded_at_ms": _LONG, "amount_minor": _LONG,
    "business_day": _TEXT,
}  # fmt: skip
_READ_ONCE = {"partner": _TEXT, "v": "INTEGER"}  # compared with what they must be, and not kept
_DATA = {
    "redemption_id": _TEXT, "discount": _TEXT, "original_event_id": _TEXT, "goal": _TEXT, "seed": _TEXT,
    "site": _TEXT, "mcc": _TEXT, "sha256": _TEXT, "order_minor": _LONG, "discount_minor": _LONG, "payable_minor": _LONG,
    "original_discount_minor": _LONG, "reversed_before_minor": _LONG, "reversed_minor": _LONG, "anchor_at_ms": _LONG,
    "start_ms": _LONG, "end_ms": _LONG,
}  # fmt: skip
_MAPS = ("legs", "original_legs", "cap_left_minor")  # kept as their canonical text: equal texts are equal maps
_LARGEST_MINOR = 10**15  # thirteen digits and two decimals: what a request can say


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
        self._duckdb = duckdb.connect(config=_DUCKDB)
        self._parquet = pq.ParquetWriter(
            self._file, _SCHEMA, compression="zstd", compression_level=1, use_dictionary=_REPEATING
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="facts")
        return self

    def add(self, batch: Sequence[tuple[str | None, bytes]]) -> None:
        """(partner, leaf) pairs, in the order of recording. The same leaves give the same file in any batches."""
        held = self._held
        for partner, leaf in batch:
            name = partner or NOBODY
            rows = held.get(name)
            if rows is None:
                rows = held[name] = []
            rows.append(leaf)
            self._held_rows += 1
            self._held_bytes += len(leaf)
            if len(rows) >= GROUP_ROWS:
                self._write_group(name)
            elif self._held_rows >= _HELD_ROWS or self._held_bytes >= _HELD_BYTES:
                self._write_group(max(held, key=lambda each: (len(held[each]), each)))

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
        self._duckdb.close()
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
        self._parquet.write_table(_typed(self._duckdb, rows, partner=name, first=first), row_group_size=GROUP_ROWS)


def _typed(db: duckdb.DuckDBPyConnection, leaves: list[bytes], *, partner: str, first: int) -> pa.Table:
    """A row a leaf. Where one of them cannot be read, the halves are tried, until the bad ones stand alone."""
    try:
        texts = pa.array(leaves, pa.binary()).cast(pa.string())
        db.register("raw", pa.table({"leaf": texts}))
        found = db.sql(_TYPED, params={"partner": partner}).to_arrow_table()
    except (pa.ArrowInvalid, duckdb.Error):
        if len(leaves) == 1:
            return _unread(leaves[0], partner=partner, place=first)
        half = len(leaves) // 2
        return pa.concat_tables([
            _typed(db, leaves[:half], partner=partner, first=first),
            _typed(db, leaves[half:], partner=partner, first=first + half),
        ])  # fmt: skip
    places = pa.array(range(first, first + len(leaves)), pa.int64())
    return (
        found.append_column("seq", places)
        .append_column("leaf", pa.array(leaves, pa.binary()))
        .select(_SCHEMA.names)
        .cast(_SCHEMA)
    )


def _unread(leaf: bytes, *, partner: str, place: int) -> pa.Table:
    row = dict.fromkeys(_SCHEMA.names) | {"partner": partner, "seq": place, "fits": False, "leaf": leaf}
    return pa.Table.from_pylist([row], schema=_SCHEMA)


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


def _structure() -> str:
    members = ",".join(f'"{name}":"{kind}"' for name, kind in (_TOP | _READ_ONCE).items())
    data = ",".join(f'"{name}":"{kind}"' for name, kind in (_DATA | dict.fromkeys(_MAPS, "JSON")).items())
    return f'{{{members},"data":{{{data}}}}}'


def _fits() -> str:
    """Whether the leaf is an event of version 2, of this partner, with members that can be reckoned with."""
    amounts = [f"x.data.{name}" for name in _DATA if name.endswith("_minor")]
    small = [f"coalesce({each} BETWEEN -{_LARGEST_MINOR} AND {_LARGEST_MINOR}, true)" for each in amounts]
    rules = [
        f"x.v = {LEAF_VERSION}",
        f"coalesce(x.partner, '{NOBODY}') = $partner",
        "x.type IS NOT NULL",
        "x.business_day IS NOT NULL",
        "regexp_full_match(x.event_id, '[A-Za-z0-9_.:-]+')",
        f"x.occurred_at_ms BETWEEN {EARLIEST_MS} AND {END_MS - 1}",
        f"x.recorded_at_ms BETWEEN {EARLIEST_MS} AND {END_MS - 1}",
        f"coalesce(x.data.anchor_at_ms BETWEEN {EARLIEST_MS} AND {END_MS - 1}, true)",
        f"x.amount_minor BETWEEN -{_LARGEST_MINOR} AND {_LARGEST_MINOR}",
        *small,
    ]
    return f"coalesce({' AND '.join(rules)}, false)"


def _columns() -> str:
    flat = [f"x.{name}" for name in _TOP] + [f"x.data.{name}" for name in _DATA]
    flat += [f"x.data.{name}::VARCHAR AS {name}" for name in _MAPS]
    return ", ".join(flat)


# Without ORDER BY: DuckDB keeps the order of what it scans, and sorting costs a sixth of all.
_TYPED = f"""SELECT $partner AS partner, {_fits()} AS fits, {_columns()}
    FROM (SELECT from_json(leaf, '{_structure()}') AS x FROM raw)"""
_ARROW = {_TEXT: pa.string(), _LONG: pa.int64(), "INTEGER": pa.int32()}
_SCHEMA = pa.schema(
    [("partner", pa.string()), ("seq", pa.int64()), ("fits", pa.bool_())]
    + [(name, _ARROW[kind]) for name, kind in (_TOP | _DATA).items()]
    + [(name, pa.string()) for name in _MAPS]
    + [("leaf", pa.binary())]
)
_REPEATING = ["partner", "type", "contract", "currency", "business_day", "discount", "goal", "site", "mcc"]
NO_FACTS = (
    _SCHEMA.empty_table()
    .append_column("part", pa.array([], pa.int64()))
    .append_column("day", pa.array([], pa.string()))
)
