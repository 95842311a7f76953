"""What the leaves of a sealed day say, as typed columns for the engine: one partner's, made anew for each statement.

A leaf that cannot be read does not stop the others: its row says so (`fits` is false), and the engine refuses that
partner's statements.
"""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from gateway.clock import EARLIEST_MS, END_MS
from gateway.settlement.facts import GROUP_ROWS
from gateway.settlement.seal import NOBODY

PARTIES = ("bank", "partner", "merchant", "network")  # the order of the split: docs/settlement-rules.md §6
LEAF_VERSION = 2  # of what is sealed: docs/settlement-rules.md §2
_READERS = 2  # groups of rows read beside each other
_DUCKDB: dict[str, str | bool | int | float | list[str]] = {"threads": 1, "memory_limit": "128MB"}

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


def type_facts(sealed: Path, target: BinaryIO, *, partner: str) -> None:
    """Write the typed rows of the partner's leaves in the file of a sealed day, in their order."""
    with ExitStack() as stack:
        writer = stack.enter_context(pq.ParquetWriter(target, _SCHEMA, compression="lz4", use_dictionary=_REPEATING))
        databases = [stack.enter_context(duckdb.connect(config=_DUCKDB)) for _ in range(_READERS)]
        threads = [stack.enter_context(ThreadPoolExecutor(1)) for _ in range(_READERS)]
        parquet = stack.enter_context(pq.ParquetFile(sealed))
        waiting: deque[Future[pa.Table]] = deque()
        for number, group in enumerate(groups_of(parquet, partner)):
            rows = parquet.read_row_group(group, columns=["seq", "leaf"], use_threads=False)
            reader = number % _READERS  # a database is one thread's
            waiting.append(threads[reader].submit(_typed, databases[reader], rows, partner=partner))
            if len(waiting) > _READERS:
                writer.write_table(waiting.popleft().result(), row_group_size=GROUP_ROWS)
        while waiting:
            writer.write_table(waiting.popleft().result(), row_group_size=GROUP_ROWS)


def groups_of(parquet: pq.ParquetFile, partner: str) -> list[int]:
    """The groups of rows that are the partner's."""
    column, about = parquet.schema_arrow.get_field_index("partner"), parquet.metadata
    return [n for n in range(about.num_row_groups) if about.row_group(n).column(column).statistics.min == partner]


def _typed(db: duckdb.DuckDBPyConnection, rows: pa.Table, *, partner: str) -> pa.Table:
    """A row a leaf. Where one of them cannot be read, the halves are tried, until the bad ones stand alone."""
    try:
        db.register("raw", pa.table({"leaf": rows["leaf"].cast(pa.string())}))
        found = db.sql(_TYPED, params={"partner": partner}).to_arrow_table()
    except (pa.ArrowInvalid, duckdb.Error):
        if len(rows) == 1:
            return _unread(partner=partner, place=rows["seq"][0].as_py())
        half = len(rows) // 2
        return pa.concat_tables([
            _typed(db, rows.slice(0, half), partner=partner), _typed(db, rows.slice(half), partner=partner),
        ])  # fmt: skip
    return found.append_column("seq", rows["seq"]).select(_SCHEMA.names).cast(_SCHEMA)


def _unread(*, partner: str, place: int) -> pa.Table:
    row = dict.fromkeys(_SCHEMA.names) | {"partner": partner, "seq": place, "fits": False}
    return pa.Table.from_pylist([row], schema=_SCHEMA)


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
)
_REPEATING = ["partner", "type", "contract", "currency", "business_day", "discount", "goal", "site", "mcc"]
NO_FACTS = (
    _SCHEMA.empty_table()
    .append_column("part", pa.array([], pa.int64()))
    .append_column("day", pa.array([], pa.string()))
)
