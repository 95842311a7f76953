"""Sealed leaves as typed columns: what the engine reads, and the Parquet file a closed day leaves behind."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

PARTIES = ("bank", "partner", "merchant", "network")
SETTLED = ("redemption.confirmed", "redemption.reversed", "goal.reached")

_TOP = dict.fromkeys(
    ("event_id", "type", "partner", "contract", "business_day", "currency", "subject_token"), "VARCHAR"
) | {"contract_version": "INTEGER", "occurred_at_ms": "BIGINT", "recorded_at_ms": "BIGINT", "amount_minor": "BIGINT"}
_DATA = dict.fromkeys(("discount", "original_event_id", "goal"), "VARCHAR") | dict.fromkeys(
    (
        "order_minor",
        "discount_minor",
        "payable_minor",
        "original_discount_minor",
        "reversed_before_minor",
        "reversed_minor",
        "anchor_at_ms",
    ),
    "BIGINT",
)
_MAPS = ("legs", "original_legs", "cap_left_minor")


def facts_table(leaves: Iterable[tuple[str | None, bytes]]) -> pa.Table:
    """(partner, leaf) pairs in the order of recording → one typed row each; `seq` is the place in that order."""
    pairs = list(leaves)
    raw = pa.table(
        {
            "seq": pa.array(range(len(pairs)), pa.int64()),
            "leaf": pa.array([leaf.decode() for _, leaf in pairs], pa.string()),
        }
    )
    with duckdb.connect() as db:
        db.register("raw", raw)
        return db.sql(_TYPED).to_arrow_table()


def write_parquet(table: pa.Table, path: Path) -> None:
    """A closed day's file, written beside its place and moved there, so that nobody reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    pq.write_table(table, draft, compression="zstd")
    draft.rename(path)


def _structure() -> str:
    maps = {name: dict.fromkeys(PARTIES, "BIGINT") for name in _MAPS}
    members: dict[str, Any] = {**_TOP, "data": {**_DATA, **maps}}
    return _quoted(members)


def _quoted(members: dict[str, Any]) -> str:
    inner = ",".join(
        f'"{name}":{_quoted(kind) if isinstance(kind, dict) else chr(34) + kind + chr(34)}'
        for name, kind in members.items()
    )
    return "{" + inner + "}"


def _columns() -> str:
    flat = [f"x.{name}" for name in _TOP] + [f"x.data.{name}" for name in _DATA]
    flat += [f"x.data.{name}.{party} AS {name}_{party}" for name in _MAPS for party in PARTIES]
    return ", ".join(flat)


_TYPED = f"""SELECT seq, {_columns()}, leaf
    FROM (SELECT seq, leaf, from_json(leaf, '{_structure()}') AS x FROM raw) ORDER BY seq"""
