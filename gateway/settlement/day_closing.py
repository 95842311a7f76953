"""Closing a business day, as a job: shut it to writers, seal what is there, sign the head, write the Parquet file.

Everything after the first commit can be done again with the same result, as the day does not change any more. The seal
is made of bytes and does not ask what they say; a file that cannot be written fails the job after the day is sealed.
"""

import asyncio
from dataclasses import dataclass
from datetime import date

from gateway import audit
from gateway.clock import local_day
from gateway.database import Connection, Database
from gateway.events.outbox import BANK_ZONE, close_to_writers
from gateway.jobs.model import Job, JobFailed, JobKind, Wish
from gateway.keyring import Keyring
from gateway.settlement.audit_anchor import SEALED
from gateway.settlement.day_file import DayRead, read_day
from gateway.settlement.life import check_in_order
from gateway.settlement.model import SealedDay
from gateway.settlement.seal import FIRST, HEAD_TYPE, seal_day
from gateway.settlement.sealed_files import SealedFiles
from gateway.settlement.store import days

KIND = "day_closing"
LIMIT_S = 1800.0  # for all that was not sealed yet; ten million events take about a minute


def closing_of(day: date) -> Wish:
    """Heads are a chain, so days are sealed one after another."""
    return Wish(KIND, day.isoformat(), lane="days", day=day)


@dataclass(frozen=True, slots=True)
class DayClosing:
    """The work of a `day_closing` job."""

    database: Database
    keyring: Keyring
    files: SealedFiles
    bank: str

    def kind(self) -> JobKind:
        return JobKind(KIND, "close days", self, slots=1, limit_s=LIMIT_S)

    async def carry_out(self, job: Job, now_ms: int) -> None:
        """Earlier days that hold events are sealed first. Raises SealBroken, JobFailed."""
        assert job.day is not None, "a closing is of a day"
        async with self.database.transaction() as conn:
            await close_to_writers(conn, job.day, today=local_day(now_ms, BANK_ZONE))
            last = await days.last_head(conn)
            if last is not None and job.day < last[0]:
                return  # a later day was closed meanwhile, and with it this one: sealed, or without anything to seal
            earlier = await days.unsealed_days_with_events(conn, job.day)
            for day in sorted({*earlier, job.day}):
                await days.shut_day(conn, day, now_ms=now_ms)
        for day in sorted({*earlier, job.day}):
            await self._seal(day, operator_id=job.requested_by, now_ms=now_ms)
        for day in sorted({*earlier, job.day}):
            await self.files.ready(day, now_ms=now_ms)

    async def give_up(self, conn: Connection, job: Job, *, failure: str) -> None:
        """The day stays shut; the closing of a later day seals it too."""

    async def take_up(self, conn: Connection, job: Job) -> None:
        """Nothing was undone, so nothing is put back."""

    async def _seal(self, day: date, *, operator_id: str, now_ms: int) -> None:
        async with self.database.connection() as conn:
            if await days.sealed_day(conn, day) is not None:
                return
            last = await days.last_head(conn)
        check_in_order(day, last_head=last[0] if last else None)
        async with self.files.drafting(day) as place:
            found = await read_day(self.database, day, place=place)
            sealed = await self._sign(day, found, last=last, operator_id=operator_id, now_ms=now_ms)
            if found.written is not None:
                await self.files.keep(sealed, found.trees, written=found.written, draft=place, now_ms=now_ms)

    async def _sign(
        self, day: date, found: DayRead, *, last: tuple[date, bytes] | None, operator_id: str, now_ms: int
    ) -> SealedDay:
        """Sealed for good, with or without its file; all heads of a statement have one name, whatever we are called."""
        async with self.database.connection() as conn:
            trail, bank = await audit.head(conn), await days.sealing_bank(conn) or self.bank
        sealed = await asyncio.to_thread(
            seal_day, day, found.trees, bank=bank, previous_head_hash=last[1] if last else FIRST,
            audit_head=trail[1] if trail else None,
            sign=lambda head: self.keyring.sign("statement", head, header={"typ": HEAD_TYPE}),
        )  # fmt: skip
        async with self.database.transaction() as conn:
            if await days.last_head(conn) != last:
                raise JobFailed("another day was sealed meanwhile")
            await days.save_sealed_day(conn, sealed, lined=found.lined, now_ms=now_ms, operator_id=operator_id)
            await audit.record(
                conn, actor=operator_id, action=SEALED, subject=day.isoformat(),
                detail={"events": sealed.event_count, "root_hash": sealed.root_hash.hex()}, now_ms=now_ms,
            )  # fmt: skip
        return sealed
