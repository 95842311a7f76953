"""What the back office does for statements, as jobs: calculate in a process, book commissions, make files again."""

from dataclasses import dataclass

import msgspec
import structlog

from gateway import metrics
from gateway.database import Connection, Database
from gateway.jobs.model import Job, JobFailed, JobKind, Wish
from gateway.refusal import StateConflict
from gateway.settings import Settings, to_environment
from gateway.settlement.asked_process import ProcessLost, ask_process
from gateway.settlement.model import StatementRow
from gateway.settlement.sealed_files import SealedFiles
from gateway.settlement.statement_process import Order, Outcome
from gateway.settlement.store import days, statements

CALCULATION, REMAKING = "statement_calculation", "statement_file"
LIMIT_S = 3600.0  # for one statement; ten million events take minutes
MODULE = "gateway.settlement.statement_process"
log = structlog.get_logger(__name__)


def calculation_of(row: StatementRow) -> Wish:
    """One statement of a partner and currency is in the making at a time; partners wait for nobody."""
    return Wish(
        CALCULATION, row.statement_id, lane=f"statement {row.partner_id} {row.currency}",
        statement_id=row.statement_id, partner_id=row.partner_id,
    )  # fmt: skip


def remaking_of(row: StatementRow) -> Wish:
    return Wish(
        REMAKING, row.statement_id, lane=f"file {row.statement_id}", statement_id=row.statement_id,
        partner_id=row.partner_id,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class StatementProcesses:
    """Starts processes and waits for their word; one that is no longer waited for is ended."""

    settings: Settings

    async def carry_out(self, task: str, statement_id: str) -> None:
        """Raises JobFailed with the process's words."""
        order = msgspec.convert({"task": task, "statement_id": statement_id}, Order)
        try:
            said = await ask_process(MODULE, order, environ=to_environment(self.settings))
        except ProcessLost as lost:
            raise JobFailed(f"its process {lost}; the log says more") from None
        outcome = msgspec.json.decode(said, type=Outcome)
        if outcome.failure is not None:
            raise JobFailed(outcome.failure, final=outcome.final)


@dataclass(frozen=True, slots=True)
class StatementCalculation:
    """The work of a `statement_calculation` job; when it is given up, the statement is FAILED and blocks nothing."""

    database: Database
    files: SealedFiles
    processes: StatementProcesses

    def kind(self) -> JobKind:
        return JobKind(CALCULATION, "calculate statements", self, slots=2, limit_s=LIMIT_S)

    async def carry_out(self, job: Job, now_ms: int) -> None:
        row = await _statement_of(self.database, job)
        if row.state != "CALCULATING":
            return  # an attempt of before got as far as that
        await files_ready(self.database, self.files, row, now_ms=now_ms)
        await self.processes.carry_out("calculate", row.statement_id)
        metrics.count("parasol_statements_total", state="CALCULATED")

    async def give_up(self, conn: Connection, job: Job, *, failure: str) -> None:
        await statements.save_failed(conn, job.subject, failure=failure)
        metrics.count("parasol_statements_total", state="FAILED")

    async def take_up(self, conn: Connection, job: Job) -> None:
        """Raises StateConflict when another statement has been asked for since."""
        row = await statements.find_statement(conn, job.subject, lock=True)
        assert row is not None, "statements are kept"
        await statements.take_turn(conn, row.partner_id, row.currency)
        if await statements.last_number(conn, row.partner_id, row.currency) > row.number:
            raise StateConflict("A later statement has been asked for; this one stays failed")
        await statements.save_retried(conn, job.subject)


@dataclass(frozen=True, slots=True)
class StatementRemaking:
    """The work of a `statement_file` job: a download that is not on this disk."""

    database: Database
    files: SealedFiles
    processes: StatementProcesses

    def kind(self) -> JobKind:
        return JobKind(REMAKING, "remake files", self, slots=1, limit_s=LIMIT_S)

    async def carry_out(self, job: Job, now_ms: int) -> None:
        row = await _statement_of(self.database, job)
        await files_ready(self.database, self.files, row, now_ms=now_ms)
        await self.processes.carry_out("remake", row.statement_id)

    async def give_up(self, conn: Connection, job: Job, *, failure: str) -> None:
        """The statement stays what it is; who downloads it is told to come again."""

    async def take_up(self, conn: Connection, job: Job) -> None:
        """Nothing was undone, so nothing is put back."""


async def files_ready(database: Database, files: SealedFiles, row: StatementRow, *, now_ms: int) -> None:
    """Every sealed day of the period has its checked file. Raises SealBroken."""
    async with database.connection() as conn:
        period = await days.sealed_days(conn, row.from_day, row.to_day)
    for day in period:
        await files.ready(day, now_ms=now_ms)


async def _statement_of(database: Database, job: Job) -> StatementRow:
    async with database.connection() as conn:
        row = await statements.find_statement(conn, job.subject, lock=False)
    assert row is not None, "a job's statement is there, and statements are kept"
    return row
