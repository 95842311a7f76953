"""Calculating a statement: sealed days, terms and an opening in; the download, and what is booked and carried, out.

Pure: no clock, no database but DuckDB. Everything that grows with the events goes through files in `folder`.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gateway.partners.contract import Contract, document
from gateway.settlement.accrued import AccruedTree
from gateway.settlement.engine import Engine, FactsDisagree, Opening
from gateway.settlement.model import SealedDay
from gateway.settlement.statement import (
    FORMAT,
    PartsDraft,
    Totals,
    accrued_parts,
    day_members,
    events_part,
    open_private,
    put_together,
    signed_manifest,
    total,
)
from gateway.settlement.stretch import PART_EVENTS, STRETCH_EVENTS, Stretch, stretches
from gateway.settlement.typed_facts import groups_of, type_facts
from gateway.settlement.versions import Known, settle_terms

__all__ = ["FactsDisagree", "Opening", "SettledDay", "Totals", "Written", "calculate"]

_ROWS = 2000  # of a batch that is booked or stored in one step
_COMMISSION = pa.schema([("event_id", pa.string()), ("amount_minor", pa.int64())])
_ACCRUED = pa.schema([("key", pa.string()), ("minor", pa.int64())])


@dataclass(frozen=True, slots=True)
class SettledDay:
    """A sealed day and its Parquet file, which was checked against the hash that is remembered of it."""

    sealed: SealedDay
    file: Path


@dataclass(frozen=True, slots=True)
class Written:
    """The download in `folder`, and what follows from the statement. Commissions and accrued lie beside it."""

    file: Path
    sha256: bytes
    size_bytes: int
    signature: str
    totals: Totals
    closing: Opening
    line_count: int
    event_count: int

    def commissions(self) -> Iterator[list[tuple[str, int]]]:
        """(event_id, minor units other than 0), in the order of the lines, at most 2,000 at a time."""
        return _rows(_beside(self.file, "commissions"))

    def accrued_changes(self) -> Iterator[list[tuple[str, int]]]:
        """(key, minor units accrued now) of the entries that changed, at most 2,000 at a time."""
        return _rows(_beside(self.file, "accrued"))


def calculate(
    header: Mapping[str, Any],
    *,
    contracts: Sequence[Contract],
    days: Sequence[SettledDay],
    opening: Opening,
    accrued: Iterable[tuple[str, int]],
    keys: Sequence[Mapping[str, Any]],
    sign: Callable[[bytes], str],
    folder: Path,
    stretch_events: int = STRETCH_EVENTS,
) -> Written:
    """`header` is the member `statement`; `contracts` the partner's versions as far as this program can read them,
    `accrued` every entry under the opening's root. The same inputs give the same bytes when `sign` gives the signature
    of before. Raises FactsDisagree."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    file = folder / f"{header['statement_id']}.statement"
    events = PartsDraft(_beside(file, "events"))
    first = PartsDraft(_beside(file, "entries"))
    made = _Making(header, days=days, file=file, events=events, first=first, stretch_events=stretch_events)
    done = False
    try:
        made.read()
        closing, known, totals = made.settle(contracts, opening, accrued)
        members = {
            "closing": closing.members(),
            "contracts": [document(each.terms) for each in known if each.terms is not None],
            "days": [day_members(day.sealed, str(header["partner"])) for day in days],
            "format": FORMAT,
            "keys": [dict(key) for key in keys],
            "opening": opening.members(),
            "parts": [part.members() for draft in (first, events) for part in draft.parts],
            "statement": dict(header),
            "totals": totals.members(),
        }
        manifest, signature = signed_manifest(members, sign)
        for draft in (first, events):
            draft.close()
        digest, size = put_together(file, manifest, [first, events])
        done = True
    finally:
        made.forget()
        for draft in (first, events):
            draft.close()
            draft.path.unlink()
        if not done:
            for left in (file, _beside(file, "commissions"), _beside(file, "accrued")):
                left.unlink(missing_ok=True)
    lines, count = sum(part.lines for part in events.parts), sum(part.count for part in events.parts)
    return Written(file, digest, size, signature, totals, closing, lines, count)


class _Making:
    """One calculation: the engine's stretches on one side, parts and rows in files on the other."""

    def __init__(
        self, header: Mapping[str, Any], *, days: Sequence[SettledDay], file: Path, events: PartsDraft,
        first: PartsDraft, stretch_events: int,
    ) -> None:  # fmt: skip
        self._header, self._days, self._file, self._events, self._first = header, days, file, events, first
        self._partner = str(header["partner"])
        self._sealed = {day.sealed.day.isoformat(): day.file for day in days}
        counts = [(self._typed(day), day.sealed.day.isoformat(), _size(day.sealed, self._partner)) for day in days]
        self._stretches = stretches(counts, events=stretch_events)

    def _typed(self, day: SettledDay) -> Path:
        return _beside(self._file, f"{day.sealed.day.isoformat()}.facts")

    def read(self) -> None:
        """What this partner's leaves say, as columns that the engine reads again and again."""
        for each in self._days:
            if _size(each.sealed, self._partner):
                with open_private(self._typed(each)) as file:
                    type_facts(each.file, file, partner=self._partner)

    def forget(self) -> None:
        """What is needed for this calculation only."""
        for each in self._days:
            self._typed(each).unlink(missing_ok=True)

    def settle(
        self, contracts: Sequence[Contract], opening: Opening, accrued: Iterable[tuple[str, int]]
    ) -> tuple[Opening, Sequence[Known], Totals]:
        """Every part written; the closing, the versions known at it, the totals."""
        currency, folder = str(self._header["currency"]), self._file.parent
        to_day = date.fromisoformat(str(self._header["to_day"]))
        with Engine(partner=self._partner, currency=currency, folder=folder) as engine:
            known = engine.begin(self._stretches, contracts=contracts, opening=opening, accrued=accrued, to_day=to_day)
            bank, partner = self._lines(engine)
            tree = engine.accrued_tree()
            self._entries(engine, tree, opening)
        terms = settle_terms(known, currency=currency, to_day=to_day)
        carried, least = opening.carried_minor, terms.min_pay_minor
        totals = total(bank, partner, carried_in_minor=carried, min_pay_minor=least)
        closing = Opening(
            carried_minor=totals.carried_out_minor, ranks=engine.ranks(), funded=engine.funded(),
            versions=tuple(each.told for each in known), accrued_root=opening.accrued_root,
            accrued_size=opening.accrued_size,
        )  # fmt: skip
        if tree is not None:
            closing = replace(closing, accrued_root=tree.after_root, accrued_size=tree.after_size)
        return closing, known, totals

    def _lines(self, engine: Engine) -> tuple[int, int]:
        bank = partner = 0
        with _rows_file(_beside(self._file, "commissions"), _COMMISSION) as commissions:
            for stretch in self._stretches:
                bank_owes, partner_owes = engine.settle(stretch)
                bank, partner = bank + bank_owes, partner + partner_owes
                self._write_parts(stretch, engine)
                for batch in engine.commissions():
                    commissions.write_batch(batch.cast(_COMMISSION))
        return bank, partner

    def _write_parts(self, stretch: Stretch, engine: Engine) -> None:
        lines = _by_part(engine.lines())
        part, texts, count = next(lines, _END)
        for each in stretch:
            number = each.first_part + each.first // PART_EVENTS
            for leaves, size in _leaves(self._sealed[each.day], self._partner, first=each.first, until=each.until):
                told, told_count = (texts, count) if part == number else (b"", 0)
                pieces = events_part(each.day, leaves, told)
                self._events.add(pieces, kind="events", count=size, lines=told_count)
                if part == number:
                    part, texts, count = next(lines, _END)
                number += 1
        assert part == _END[0], "every line is in the part of its event"

    def _entries(self, engine: Engine, tree: AccruedTree | None, opening: Opening) -> None:
        """The accrued parts, from the opening's root. Raises FactsDisagree where the entries have another one."""
        with _rows_file(_beside(self._file, "accrued"), _ACCRUED) as changes:
            for batch in engine.accrued_changes():
                changes.write_batch(batch.cast(_ACCRUED))
        if tree is None:
            return
        if (tree.before_root, tree.before_size) != (opening.accrued_root, opening.accrued_size):
            raise FactsDisagree("the accrued entries are not those that the opening's root stands for")
        for count, content in accrued_parts(engine.touched(), tree.proof):
            self._first.add([content], kind="accrued", count=count, lines=0)


_END = (-1, b"", 0)


def _by_part(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, bytes, int]]:
    """(part, its lines joined by commas, their number); batches end anywhere."""
    part, texts, count = -1, list[bytes](), 0
    for batch in batches:
        runs = pc.run_end_encode(batch.column("part"))
        start = 0
        for number, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
            if number != part:
                if texts:
                    yield part, b",".join(texts), count
                part, texts, count = number, [], 0
            texts.append(_joined(batch.column("text").slice(start, end - start)))
            count += pc.sum(batch.column("count").slice(start, end - start)).as_py()
            start = end
    if texts:
        yield part, b",".join(texts), count


def _leaves(file: Path, partner: str, *, first: int, until: int) -> Iterator[tuple[bytes, int]]:
    """The leaves [first, until) of a partner's day, joined by commas, a part at a time, and how many they are."""
    held, size = list[bytes](), 0
    for rows in _partner_leaves(file, partner, first=first, until=until):
        start = 0
        while start < len(rows):
            step = min(len(rows) - start, PART_EVENTS - size)
            held.append(_joined(rows.slice(start, step)))
            size, start = size + step, start + step
            if size == PART_EVENTS:
                yield b",".join(held), size
                held, size = [], 0
    if size:
        yield b",".join(held), size


def _partner_leaves(file: Path, partner: str, *, first: int, until: int) -> Iterator[pa.Array]:
    """A group of rows has one partner's: others, and those before and after, are not read."""
    place = 0
    with pq.ParquetFile(file) as parquet:
        for group in groups_of(parquet, partner):
            size = parquet.metadata.row_group(group).num_rows
            if first < place + size and place < until:
                rows = place
                for batch in parquet.iter_batches(PART_EVENTS, row_groups=[group], columns=["leaf"], use_threads=False):
                    start, end = max(first - rows, 0), min(until - rows, len(batch))
                    if start < end:
                        yield batch.column(0).slice(start, end - start)
                    rows += len(batch)
            place += size
    assert place >= until, "the file was checked against its seal"


def _joined(texts: pa.Array) -> bytes:
    """With commas between, without an object for each."""
    whole = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts.cast(pa.binary()))
    return pc.binary_join(whole, b",")[0].as_py()  # type: ignore[no-any-return]


def _size(sealed: SealedDay, partner: str) -> int:
    return next((tree.size for tree in sealed.trees if tree.partner_id == partner), 0)


def _beside(file: Path, name: str) -> Path:
    return file.with_name(f"{file.name}.{name}")


@contextmanager
def _rows_file(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A private Parquet file of rows that the caller takes later."""
    with open_private(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        yield writer


def _rows(path: Path) -> Iterator[list[tuple[str, int]]]:
    with pq.ParquetFile(path) as parquet:
        for batch in parquet.iter_batches(_ROWS):
            yield list(zip(*(column.to_pylist() for column in batch.columns), strict=True))
