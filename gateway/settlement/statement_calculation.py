"""One statement calculated, held against our own verifier and kept; or its file made again, byte for byte.

This is the work of a process of its own (statement_process.py): it is the only place that asks the engine, and what it
needs in memory goes back to the system when it ends.
"""

import asyncio
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from gateway import audit
from gateway.base64url import unb64url
from gateway.clock import now_ms
from gateway.database import Connection, Database
from gateway.jobs.model import JobFailed
from gateway.jsonio import decode
from gateway.keyring import Keyring
from gateway.partners.recorded import recorded_versions
from gateway.settlement.calculation import SettledDay, Written, calculate
from gateway.settlement.drafts import WORK, writing_in
from gateway.settlement.engine import FactsDisagree, Opening
from gateway.settlement.model import Counts, StatementRow
from gateway.settlement.own_verification import VerifierLost, refusals
from gateway.settlement.sealed_files import SealedFiles
from gateway.settlement.statement import STATEMENT_TYPE
from gateway.settlement.statement_files import StatementFiles
from gateway.settlement.store import days, results, statements

CHAIN_LIMIT = (
    16 * 1024 * 1024
)  # bytes: a previous statement up to this size is verified again, together with the new one
SPOOL = "accrued.spool"
FIRST_OPENING: Mapping[str, Any] = {  # settlement-rules §10
    "accrued": {"root": "0" * 64, "size": 0}, "carried_minor": 0, "funded": {}, "ranks": {}, "versions": [],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Calculation:
    """Makes the file of one statement in a folder of its own, which is there for the time of `made`."""

    database: Database
    keyring: Keyring
    home: Path
    issuer: str

    async def calculate(self, statement_id: str) -> None:
        """From CALCULATING to CALCULATED. Raises JobFailed: FAILED is what the job makes of it."""
        row = await self._row(statement_id)
        if row.state != "CALCULATING":
            return
        with self._folder(statement_id) as folder:
            written = await self._write(row, folder, sign=self._sign)
            await self._verify(row, written, folder)
            await self._keep(row, written)
            StatementFiles(self.home).put(row.statement_id, written.file)

    async def remake(self, statement_id: str) -> None:
        """The same bytes as ever, or JobFailed."""
        row = await self._row(statement_id)
        assert row.sha256 is not None, "only a calculated statement has a file"
        assert row.signature is not None
        signature = row.signature
        with self._folder(statement_id) as folder:
            written = await self._write(row, folder, sign=lambda _: signature)
            if written.sha256 != row.sha256:
                raise JobFailed(
                    f"the file made again has SHA-256 {written.sha256.hex()}, the statement's is {row.sha256.hex()}: "
                    "it is not handed out",
                    final=True,
                )
            StatementFiles(self.home).put(row.statement_id, written.file)

    async def _row(self, statement_id: str) -> StatementRow:
        async with self.database.connection() as conn:
            row = await statements.find_statement(conn, statement_id, lock=False)
        assert row is not None, "a job's statement is there, and statements are kept"
        return row

    @contextmanager
    def _folder(self, statement_id: str) -> Iterator[Path]:
        """Empty, whatever an attempt of before has left; gone in the end."""
        with writing_in(StatementFiles(self.home).folder) as parent:
            folder = parent / f"{statement_id}{WORK}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    async def _write(self, row: StatementRow, folder: Path, *, sign: Callable[[bytes], str]) -> Written:
        async with self.database.transaction() as conn:
            previous = await _previous(conn, row)
            settled = await self._days(conn, row)
            versions = await recorded_versions(conn, row.partner_id)
            await _spool(conn, row, folder / SPOOL)
        opening = previous.closing if previous is not None and previous.closing is not None else FIRST_OPENING
        contracts = [version.contract for version in versions if version.contract is not None]
        try:
            return await asyncio.to_thread(
                calculate, self._header(row, previous, settled=settled), contracts=contracts, days=settled,
                opening=Opening.from_members(opening), accrued=_spooled(folder / SPOOL),
                keys=self._keys(row.signature, settled), sign=sign, folder=folder,
            )  # fmt: skip
        except FactsDisagree as error:
            raise JobFailed(str(error), final=True) from error
        finally:
            pa.default_memory_pool().release_unused()  # the verifier needs the room next

    async def _days(self, conn: Connection, row: StatementRow) -> list[SettledDay]:
        """Their files were found to be the sealed ones a moment ago, by the job that started this."""
        files = SealedFiles(self.database, self.home)
        found = []
        for day in await days.sealed_days(conn, row.from_day, row.to_day):
            sealed = await days.sealed_day(conn, day)
            assert sealed is not None, "it was listed just now, and sealed days stay"
            found.append(SettledDay(sealed, files.place(day)))
        return found

    def _header(
        self, row: StatementRow, previous: StatementRow | None, *, settled: Sequence[SettledDay]
    ) -> dict[str, Any]:
        """The bank's name is that of the heads, which the verifier compares: no other setting can make them differ."""
        before = None
        if previous is not None:
            assert previous.sha256 is not None, "an issued statement has its file"
            before = {
                "number": previous.number,
                "sha256": previous.sha256.hex(),
                "statement_id": previous.statement_id,
            }
        return {
            "bank": settled[-1].sealed.head["bank"], "currency": row.currency, "from_day": row.from_day.isoformat(),
            "issuer": row.issuer or self.issuer,
            "number": row.number, "partner": row.partner_id, "previous": before, "statement_id": row.statement_id,
            "to_day": row.to_day.isoformat(),
        }  # fmt: skip

    def _sign(self, body: bytes) -> str:
        return self.keyring.sign_detached("statement", body, header={"typ": STATEMENT_TYPE})

    def _keys(self, signature: str | None, settled: Sequence[SettledDay]) -> list[dict[str, Any]]:
        """The public keys that signatures name: the statement's (None: about to be signed), and those of heads."""
        own = header_kid(signature) if signature else self.keyring.signing_key("statement").kid
        kids = {own, *(header_kid(day.sealed.head_jws) for day in settled)}
        keys = [self.keyring.public_key(kid) for kid in sorted(kids)]
        return [dict(key.public_jwk) for key in keys if key is not None]

    async def _verify(self, row: StatementRow, written: Written, folder: Path) -> None:
        """As the partner will, with the bank's published keys pinned. Raises JobFailed with the verifier's words."""
        paths = [written.file]
        async with self.database.connection() as conn:
            previous = await _previous(conn, row)
        if previous is not None and self._is_small(previous):
            paths.insert(0, shutil.copyfile(StatementFiles(self.home).path(previous.statement_id), folder / "before"))
        jwks = {"keys": [dict(key.public_jwk) for key in self.keyring.statement_keys()]}
        try:
            faults = await refusals(paths, jwks)
        except VerifierLost as lost:
            raise JobFailed(str(lost)) from lost
        if faults:
            raise JobFailed(f"our own verifier refuses it: {'; '.join(faults[:3])}", final=True)

    async def _keep(self, row: StatementRow, written: Written) -> None:
        """What issuing books and the next statement opens with; then CALCULATED, all in one transaction."""
        counts = Counts(written.line_count, written.event_count, written.sha256, written.size_bytes)
        async with self.database.transaction() as conn:
            await results.forget(conn, row.statement_id)
            place = 1
            for commissions in written.commissions():
                await results.save_commissions(conn, row.statement_id, commissions, first=place)
                place += len(commissions)
            for changes in written.accrued_changes():
                await results.save_accrued(conn, row, changes)
            bank = await days.sealing_bank(conn)
            assert bank is not None, "a statement has sealed days"
            kept = await statements.save_calculated(
                conn, row.statement_id, totals=written.totals.members(), closing=written.closing.members(),
                counts=counts, signature=written.signature, bank=bank, issuer=self.issuer,
            )  # fmt: skip
            if not kept:
                raise JobFailed("it was withdrawn meanwhile", final=True)
            await audit.record(
                conn, actor=row.requested_by, action="statement.calculated", subject=row.statement_id,
                detail={"sha256": written.sha256.hex(), **written.totals.members()}, now_ms=now_ms(),
            )  # fmt: skip

    def _is_small(self, row: StatementRow) -> bool:
        """Is its file here, and small enough to be verified once more?"""
        path = StatementFiles(self.home).path(row.statement_id)
        return path.exists() and path.stat().st_size <= CHAIN_LIMIT


async def _previous(conn: Connection, row: StatementRow) -> StatementRow | None:
    if row.previous_id is None:
        return None
    return await statements.find_statement(conn, row.previous_id, lock=False)


async def _spool(conn: Connection, row: StatementRow, path: Path) -> None:
    """Accrued entries onto this disk, a line each: the engine reads them while no transaction waits for it."""
    with path.open("w", encoding="utf-8") as spool:
        async for batch in results.accrued_before(conn, row):
            spool.writelines(f"{minor} {key}\n" for key, minor in batch)


def _spooled(path: Path) -> Iterator[tuple[str, int]]:
    """(key, minor units); a key has blanks in it, a number none."""
    with path.open(encoding="utf-8", newline="\n") as spool:
        for line in spool:
            minor, _, key = line.removesuffix("\n").partition(" ")
            yield key, int(minor)


def header_kid(token: str) -> str:
    """The `kid` of one of our own JWS, compact or detached."""
    return str(decode(unb64url(token.partition(".")[0]), dict[str, Any])["kid"])
