"""Parquet files of sealed days on this disk: used only as they were written, rebuilt from sealed leaves otherwise.

The table `sealed_file` says what a file is. One that is missing, differs or was written by another version of the
writer is made again from the leaves in the database; what takes its place has been held against the seal of every
partner first. Where the leaves themselves differ from the seal, nothing is settled that needs that day.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import structlog

from gateway import metrics
from gateway.database import Database
from gateway.jobs.model import JobFailed
from gateway.settlement.day_file import read_day
from gateway.settlement.drafts import DRAFT, SEALED, writing_in
from gateway.settlement.facts import WRITER_VERSION, FactsFile, file_sha256
from gateway.settlement.model import PartnerTree, SealedDay, SealedFile
from gateway.settlement.store import days

FILE_MODE = 0o600
log = structlog.get_logger(__name__)


class SealBroken(JobFailed):
    """Leaves of a sealed day are not those that were sealed: nobody settles on that, and it does not heal by itself."""

    def __init__(self, words: str) -> None:
        super().__init__(words, final=True)


@dataclass(frozen=True, slots=True)
class SealedFiles:
    """`ready` is the only way to a file."""

    database: Database
    home: Path

    def place(self, day: date) -> Path:
        return self.home / SEALED / f"{day.isoformat()}.parquet"

    async def ready(self, day: date, *, now_ms: int) -> Path:
        """The day's file, as the database knows it. Raises SealBroken."""
        async with self.database.connection() as conn:
            known = await days.sealed_file(conn, day)
        path = self.place(day)
        usable = known is not None and known.writer_version == WRITER_VERSION
        if known is None or not usable or not await asyncio.to_thread(is_as_known, path, known):
            await self._rebuild(day, now_ms=now_ms)
        return path

    async def _rebuild(self, day: date, *, now_ms: int) -> None:
        async with self.database.connection() as conn:
            sealed = await days.sealed_day(conn, day)
        assert sealed is not None, "only sealed days have files"
        log.info("sealed_file_rebuilt", business_day=day)
        async with self.drafting(day) as draft:
            found = await read_day(self.database, day, place=draft)
            if found.written is None:
                raise JobFailed(f"the file of {day} cannot be written; the log says why")
            await self.keep(sealed, found.trees, written=found.written, draft=draft, now_ms=now_ms)

    async def keep(
        self, sealed: SealedDay, trees: tuple[PartnerTree, ...], *, written: FactsFile, draft: Path, now_ms: int
    ) -> None:
        """Put the draft into its place, if its leaves are the sealed ones of all partners. Raises SealBroken."""
        if broken := differing(sealed.trees, trees):
            metrics.count("parasol_seals_broken_total")
            log.error("seal_broken", business_day=sealed.day, count=len(broken))
            raise SealBroken(
                f"the events of {sealed.day} in the database are not those that were sealed, of {', '.join(broken)}: "
                "nothing is settled on that day; find out who changed them"
            )
        await asyncio.to_thread(draft.chmod, FILE_MODE)
        await asyncio.to_thread(draft.replace, self.place(sealed.day))
        async with self.database.transaction() as conn:
            file = SealedFile(written.sha256, written.rows, written.writer_version)
            await days.save_sealed_file(conn, sealed.day, file, now_ms=now_ms)

    @asynccontextmanager
    async def drafting(self, day: date) -> AsyncIterator[Path]:
        """A new place to write at, as two statements may need the same day made again at once; what has not been kept
        in the end is removed."""
        with ExitStack() as held:
            folder = await asyncio.to_thread(held.enter_context, writing_in(self.home / SEALED))
            draft = folder / f"{day.isoformat()}.{os.getpid()}.{secrets.token_hex(4)}{DRAFT}"
            try:
                yield draft
            finally:
                draft.unlink(missing_ok=True)


def differing(sealed: Sequence[PartnerTree], found: Sequence[PartnerTree]) -> list[str]:
    """Partners whose tree is not the sealed one, by name."""
    before, after = ({tree.partner_id: tree for tree in trees} for trees in (sealed, found))
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def is_as_known(path: Path, known: SealedFile) -> bool:
    """Any row added, removed or changed changes the hash. Off the event loop; a pipe is never waited for."""
    try:
        return path.is_file() and file_sha256(path) == known.sha256
    except OSError:
        return False
