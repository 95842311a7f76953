"""Provisional: the new interface over the engine of version 1, until the engines meet."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from gateway.partners.contract import Contract
from gateway.settlement.engine import Engine, Opening
from gateway.settlement.model import SealedDay
from gateway.settlement.statement import DayEvents, Totals, write_statement


@dataclass(frozen=True, slots=True)
class SettledDay:
    """A day and its file."""

    sealed: SealedDay
    file: Path


@dataclass(frozen=True, slots=True)
class Written:
    """What was written."""

    file: Path
    sha256: bytes
    size_bytes: int
    signature: str
    totals: Totals
    closing: Opening
    line_count: int
    event_count: int
    lines: Any
    accrued: Mapping[str, int]

    def commissions(self) -> Iterator[list[tuple[str, int]]]:
        rows = self.lines.to_pylist()
        yield [(r["event_id"], r["amount_minor"]) for r in rows if r["kind"] == "commission" and r["amount_minor"]]

    def accrued_changes(self) -> Iterator[list[tuple[str, int]]]:
        yield list(self.accrued.items())


def calculate(
    header: Mapping[str, Any], *, contracts: Sequence[Contract], days: Sequence[SettledDay], opening: Opening,
    accrued: Iterable[tuple[str, int]], keys: Sequence[Mapping[str, Any]], sign: Callable[[bytes], str], folder: Path,
) -> Written:  # fmt: skip
    contracts = [c for c in contracts if c.currency == header["currency"]]
    opening = Opening(opening.carried_minor, opening.ranks, dict(accrued))
    engine = Engine(contracts)
    engine.read_parquet([str(day.file) for day in days], partner=str(header["partner"]))
    settled = engine.settle(opening)
    engine.close()
    held = []
    for day in days:
        table = pq.read_table(day.file).to_pylist()
        rows = [row["leaf"].encode() for row in table if row["partner"] == header["partner"]]
        held.append(DayEvents(day.sealed, rows))
    kept: list[str] = []

    def signed(body: bytes) -> str:
        kept.append(sign(body))
        return kept[0]

    written = write_statement(header, contracts=contracts, days=held, opening=opening, settled=settled, keys=keys,
                              sign=signed)  # fmt: skip
    path, whole = folder / "statement", b"".join(written.pieces)
    path.write_bytes(whole)
    changed = {k: v for k, v in written.closing.accrued.items() if opening.accrued.get(k) != v}
    return Written(path, sha256(whole).digest(), len(whole), kept[0], written.totals, written.closing,
                   written.line_count, sum(len(d.leaves) for d in held), settled.lines, changed)  # fmt: skip
