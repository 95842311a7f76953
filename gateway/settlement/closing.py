"""Closing days and calculating statements: the chores that carry out what operators asked for, resumable at any point.

A day: keep writers out, wait for those inside, seal what is there, write the Parquet file, sign the head. Everything
after the first commit can be done again with the same result, as the day does not change any more.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import structlog

from gateway import audit, metrics
from gateway.base64url import unb64url
from gateway.database import Connection, Database
from gateway.events.outbox import close_to_writers
from gateway.jsonio import decode
from gateway.keyring import Keyring
from gateway.partners.snapshot import SnapshotKeeper
from gateway.settlement import store
from gateway.settlement.calculation import FactsDisagree, Opening, SettledDay, Written, calculate
from gateway.settlement.facts import FactsWriter
from gateway.settlement.merkle import EMPTY_ROOT, root_of
from gateway.settlement.model import SealedDay, StatementRow
from gateway.settlement.seal import FIRST, HEAD_TYPE, DaySealer
from gateway.settlement.statement import STATEMENT_TYPE

log = structlog.get_logger(__name__)

SEALED_FOLDER = "sealed"
_FAILURE_LIMIT = 500  # characters of a failure that an operator reads


class SealBroken(Exception):
    """Events of a sealed day are not those that were sealed: nobody settles on that."""


@dataclass(frozen=True, slots=True)
class DayEvents:
    """A sealed day and this partner's leaves of it, in the order of recording."""

    sealed: SealedDay
    leaves: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Backroom:
    """What closing needs: the database, keys, terms, and a folder for sealed days."""

    database: Database
    keyring: Keyring
    snapshots: SnapshotKeeper
    home: Path
    issuer: str
    bank: str

    # --- days ------------------------------------------------------------------------------------------
    async def close_days_due(self, now_ms: int) -> int:
        """Carry out the oldest wish to close a day; earlier days that hold events are sealed before it."""
        async with self.database.connection() as conn:
            wish = await store.next_closure(conn)
            if wish is None:
                return 0
            day, operator_id = wish
            earlier = await store.open_days_with_events(conn, day)
        for each in [*earlier, day]:
            await self._close_day(each, operator_id=operator_id, now_ms=now_ms)
        async with self.database.transaction() as conn:
            await store.finish_closure(conn, day, now_ms=now_ms)
        return 1

    async def _close_day(self, day: date, *, operator_id: str, now_ms: int) -> None:
        async with self.database.transaction() as conn:
            await close_to_writers(conn, day)
            await store.shut_day(conn, day, now_ms=now_ms)
        async with self.database.connection() as conn:
            if await store.sealed_day(conn, day) is not None:
                return
            leaves = await store.leaves_of(conn, day)
            last = await store.last_head_hash(conn)
        if last is not None and last[0] > day:
            raise SealBroken(f"{day} cannot be sealed after {last[0]}: heads are a chain")
        previous = last[1] if last else FIRST
        sealed = await asyncio.to_thread(self._seal, day, leaves, previous)
        async with self.database.transaction() as conn:
            await store.save_sealed_day(conn, sealed, now_ms=now_ms, operator_id=operator_id)
            await audit.record(
                conn, actor=operator_id, action="day.sealed", subject=day.isoformat(),
                detail={"events": sealed.event_count, "root_hash": sealed.root_hash.hex()}, now_ms=now_ms,
            )  # fmt: skip

    def _seal(self, day: date, leaves: Sequence[tuple[str | None, bytes]], previous: bytes) -> SealedDay:
        """Off the event loop: hashing and Parquet."""
        sealer = DaySealer()
        sealer.add(leaves)
        with FactsWriter(self._file(day)) as writer:
            writer.add(leaves)
            writer.finish()
        return sealer.seal(
            day, bank=self.bank, previous_head_hash=previous, audit_head=None,
            sign=lambda head: self.keyring.sign("statement", head, header={"typ": HEAD_TYPE}),
        )  # fmt: skip

    def _file(self, day: date) -> Path:
        return self.home / SEALED_FOLDER / f"{day.isoformat()}.parquet"

    # --- statements ------------------------------------------------------------------------------------------
    async def calculate_due(self, now_ms: int) -> int:
        """Calculate the oldest statement asked for; a fact that disagrees with its terms fails it, by name."""
        async with self.database.connection() as conn:
            row = await store.next_calculation(conn)
            if row is None:
                return 0
            previous = await store.last_issued(conn, row.partner_id, row.currency)
            days = await self._days(conn, row)
        try:
            written = await asyncio.to_thread(self._calculate, row, previous, days)
        except (FactsDisagree, SealBroken) as error:
            log.error("statement_failed", statement_id=row.statement_id, error=str(error))
            async with self.database.transaction() as conn:
                await store.save_failed(conn, row.statement_id, failure=str(error)[:_FAILURE_LIMIT])
            return 1
        await self._keep(row, written, now_ms=now_ms)
        return 1

    async def _days(self, conn: Connection, row: StatementRow) -> list[DayEvents]:
        days = []
        for day in await store.sealed_days(conn, row.from_day, row.to_day):
            sealed = await store.sealed_day(conn, day)
            assert sealed is not None, "it was listed just now, and sealed days stay"
            days.append(DayEvents(sealed, await store.partner_leaves(conn, day, row.partner_id)))
        return days

    def _calculate(self, row: StatementRow, previous: StatementRow | None, days: Sequence[DayEvents]) -> Written:
        """Off the event loop. Raises FactsDisagree, SealBroken."""
        check_seals(days, row.partner_id)
        opening = Opening.from_members(previous.closing) if previous and previous.closing else Opening()
        return calculate(
            self._header(row, previous), contracts=self.snapshots.current.contracts[row.partner_id],
            days=[SettledDay(day.sealed, self._file(day.sealed.day)) for day in days], opening=opening, accrued=(),
            keys=self._keys(days), folder=self.home / "statements", sign=lambda body: self.keyring.sign_detached(
                "statement", body, header={"typ": STATEMENT_TYPE}),
        )  # fmt: skip

    def _header(self, row: StatementRow, previous: StatementRow | None) -> dict[str, Any]:
        before = None
        if previous is not None:
            assert previous.sha256 is not None, "an issued statement has its file"
            before = {
                "number": previous.number,
                "sha256": previous.sha256.hex(),
                "statement_id": previous.statement_id,
            }
        return {
            "bank": self.bank, "currency": row.currency, "from_day": row.from_day.isoformat(), "issuer": self.issuer,
            "number": row.number, "partner": row.partner_id, "previous": before, "statement_id": row.statement_id,
            "to_day": row.to_day.isoformat(),
        }  # fmt: skip

    def _keys(self, days: Sequence[DayEvents]) -> list[dict[str, Any]]:
        """The public keys that the signatures inside name: today's, and those that signed the heads."""
        kids = {self.keyring.signing_key("statement").kid, *(header_kid(day.sealed.head_jws) for day in days)}
        keys = [self.keyring.public_key(kid) for kid in sorted(kids)]
        return [dict(key.public_jwk) for key in keys if key is not None]

    async def _keep(self, row: StatementRow, written: Written, *, now_ms: int) -> None:
        whole = written.file.read_bytes()
        async with self.database.transaction() as conn:
            for ordinal, start in enumerate(range(0, len(whole), store.CHUNK_BYTES)):
                await store.save_chunk(
                    conn, row.statement_id, ordinal=ordinal, chunk=whole[start : start + store.CHUNK_BYTES]
                )
            await store.save_calculated(
                conn, row.statement_id, totals=written.totals.members(), closing=written.closing.members(),
                line_count=written.line_count, sha256=sha256(whole).digest(), size_bytes=len(whole),
            )  # fmt: skip
            await audit.record(
                conn, actor=row.requested_by, action="statement.calculated", subject=row.statement_id,
                detail={"sha256": sha256(whole).hexdigest(), **written.totals.members()}, now_ms=now_ms,
            )  # fmt: skip
        metrics.count("parasol_statements_total", state="CALCULATED")


def check_seals(days: Sequence[DayEvents], partner_id: str) -> None:
    """The events in the database are those that were sealed, or nothing is settled. Raises SealBroken."""
    for day in days:
        tree = next((tree for tree in day.sealed.trees if tree.partner_id == partner_id), None)
        size, root = (tree.size, tree.root_hash) if tree else (0, EMPTY_ROOT)
        if len(day.leaves) != size or root_of(day.leaves) != root:
            raise SealBroken(f"the events of {day.sealed.day} are not those that were sealed")


def header_kid(token: str) -> str:
    """The `kid` of one of our own compact JWS."""
    return str(decode(unb64url(token.partition(".")[0]), dict[str, Any])["kid"])
