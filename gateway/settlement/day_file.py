"""One pass over a day's leaves in the database: each partner's tree, the currencies that are settled, the Parquet file.

A day of few events is passed over in this process, in steps off the event loop. One of many is the work of a process of
its own (day_process.py): hashing holds the interpreter, and whoever else this process answers would wait.
"""

import asyncio
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa
import structlog

from gateway.database import Database
from gateway.jobs.model import JobFailed
from gateway.settlement.asked_process import ProcessLost, ask_process
from gateway.settlement.facts import FactsFile, FactsWriter
from gateway.settlement.model import PartnerTree
from gateway.settlement.seal import DaySealer
from gateway.settlement.store import days

MODULE = "gateway.settlement.day_process"
WORTH_A_PROCESS = 20_000  # events; starting one takes as long as passing over so many
UNWRITABLE = (OSError, ValueError, duckdb.Error, pa.ArrowException)  # what a writer of files may stumble over
Batch = Sequence[tuple[str | None, bytes]]
log = structlog.get_logger(__name__)


class Order(msgspec.Struct, frozen=True):
    """Which day, and where its file is written."""

    database_url: str
    day: str  # as 2026-09-21
    place: str


class DayRead(msgspec.Struct, frozen=True):
    """What was found. `written` is None where the file could not be written; `lined` are (partner, currency) of what
    has lines in statements."""

    trees: tuple[PartnerTree, ...]
    lined: tuple[tuple[str, str], ...]
    written: FactsFile | None


class Draft:
    """A file written beside the seal of its day. The seal does not wait for it: one that fails is made later."""

    def __init__(self, writer: FactsWriter) -> None:
        self._writer: FactsWriter | None = writer

    def add(self, batch: Batch) -> None:
        try:
            if self._writer is not None:
                self._writer.add(batch)
        except UNWRITABLE as error:
            self._give_up(error)

    def finish(self) -> FactsFile | None:
        """None: it could not be written."""
        try:
            return self._writer.finish() if self._writer is not None else None
        except UNWRITABLE as error:
            self._give_up(error)
            return None

    def _give_up(self, error: Exception) -> None:
        self._writer = None
        log.error("sealed_file_put_off", exc_info=error)


async def read_day(database: Database, day: date, *, place: Path) -> DayRead:
    """Raises JobFailed when a process that did it ended early."""
    async with database.connection() as conn:
        many = await days.has_more_events(conn, day, than=WORTH_A_PROCESS)
    if many:
        return await _in_a_process(Order(database.url, day.isoformat(), str(place)))
    return await read_day_here(database, day, place=place)


async def read_day_here(database: Database, day: date, *, place: Path) -> DayRead:
    """Every leaf in steps off the event loop; the next step is fetched meanwhile."""
    sealer, lined = DaySealer(), set[tuple[str, str]]()
    with FactsWriter(place) as writer:
        draft = Draft(writer)

        def take(batch: Batch) -> None:
            sealer.add(batch)
            draft.add(batch)

        working: asyncio.Future[None] | None = None
        async with database.transaction() as conn:
            async for batch in days.leaves_of(conn, day, lined=lined):
                if working is not None:
                    await working
                working = asyncio.ensure_future(asyncio.to_thread(take, batch))
            if working is not None:
                await working
        written = await asyncio.to_thread(draft.finish)
    return DayRead(sealer.trees(), tuple(sorted(lined)), written)


async def _in_a_process(order: Order) -> DayRead:
    try:
        return msgspec.json.decode(await ask_process(MODULE, order), type=DayRead)
    except ProcessLost as lost:
        raise JobFailed(f"the process that read {order.day} {lost}; the log says more") from None
