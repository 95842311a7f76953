"""A back office for the crash tests: carries out one job of a kind, and dies at the N-th visit to the database."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from gateway import log
from gateway.app import open_house
from gateway.clock import now_ms
from gateway.database import Connection, Database
from gateway.jobs.runner import JobRunner
from gateway.rooms import BANK, Foundation
from gateway.settlement.day_closing import DayClosing
from gateway.settlement.posting import CommissionBooking
from gateway.settlement.sealed_files import SealedFiles
from gateway.settlement.statement_calculation import Calculation
from gateway.settlement.statement_work import StatementCalculation, StatementProcesses
from tests.conftest import settings_for


class MortalDatabase:
    """Counts visits, coming and leaving; at the fatal one the process is gone, as by `kill -9`."""

    def __init__(self, database: Database, fatal: int) -> None:
        self.url = database.url
        self._database, self._left = database, fatal

    def _step(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        self._step()
        async with self._database.transaction() as conn:
            yield conn
            self._step()  # before the commit: all of it is undone
        self._step()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        self._step()
        async with self._database.connection() as conn:
            yield conn


class InThisProcess:
    """Calculates here, so that it is this process that dies in the middle of it."""

    def __init__(self, calculation: Calculation) -> None:
        self._calculation = calculation

    async def carry_out(self, task: str, statement_id: str) -> None:
        assert task == "calculate"
        await self._calculation.calculate(statement_id)


def runner_over(base: Foundation, database: Database, home: Path) -> JobRunner:
    files = SealedFiles(database, home)
    calculation = Calculation(database, base.keyring, home, base.issuer)
    processes = cast(StatementProcesses, InThisProcess(calculation))
    kinds = (
        DayClosing(database, base.keyring, files, BANK).kind(),
        StatementCalculation(database, files, processes).kind(),
        CommissionBooking(database).kind(),
    )
    return JobRunner(database, kinds)


async def main(url: str, home: str, kind_name: str, fatal: int) -> None:
    """Says `done` where it lived to the end."""
    async with open_house(settings_for(Path(home), url)) as house:
        mortal = cast(Database, MortalDatabase(house.database, fatal))
        runner = runner_over(house.foundation, mortal, Path(home))
        kind = next(kind for kind in runner.kinds if kind.name == kind_name)
        await runner.run_next(kind, now_ms())
    sys.stdout.write("done")


if __name__ == "__main__":
    log.configure("warning")  # onto standard error: standard output is for the word `done`
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
