"""A job that is withdrawn while it runs is left within a moment; so is one whose lane another process may enter."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import asyncpg
import psutil
import pytest

from gateway.clock import now_ms
from gateway.database import Database
from gateway.jobs import store
from gateway.jobs.model import JobKind
from gateway.jobs.runner import LOOK_S, JobRunner
from gateway.settlement.statement_work import MODULE
from tests.api.settling import ask_to_calculate, calculate, close, jobs, redeem, show_statement, today
from tests.conftest import World
from tests.faults.test_jobs import KIND, Errands, job_of, run_all, wish


@pytest.fixture
def errands() -> Errands:
    return Errands()


@pytest.fixture
def patient(errands: Errands) -> JobKind:
    return JobKind(KIND, "errands", errands, slots=2, limit_s=3600)


@pytest.fixture
def runner(database: Database, patient: JobKind) -> JobRunner:
    return JobRunner(database, (patient,))


def hanging_work() -> tuple[asyncio.Event, asyncio.Event, Callable[[], Awaitable[None]]]:
    """Set once it has begun; set once it was left; the work."""
    began, left = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    return began, left, hang


async def test_a_running_job_that_is_withdrawn_is_left_within_a_moment_and_frees_its_lane(
    database: Database, runner: JobRunner, patient: JobKind, errands: Errands
) -> None:
    began, left, hang = hanging_work()
    errands.does["parkco"] = hang
    job = await wish(database, "stm_1", "parkco")
    hanging = asyncio.create_task(runner.run_next(patient, now_ms()))
    await began.wait()
    async with database.transaction() as conn:
        await store.end(conn, job.job_id, state="WITHDRAWN", failure="withdrawn by me", now_ms=now_ms())
    async with asyncio.timeout(2):
        assert await hanging == 1
    assert left.is_set()
    assert (await job_of(database, "stm_1")).failure == "withdrawn by me"
    assert errands.given_up == []
    del errands.does["parkco"]
    await wish(database, "stm_2", "parkco")
    await run_all(runner, patient)
    assert errands.done == ["stm_2"]


async def test_a_running_job_that_is_still_wanted_is_looked_at_and_goes_on(
    database: Database, runner: JobRunner, patient: JobKind, errands: Errands
) -> None:
    began, enough = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        began.set()
        await enough.wait()

    errands.does["parkco"] = work
    await wish(database, "stm_1", "parkco")
    working = asyncio.create_task(runner.run_next(patient, now_ms()))
    await began.wait()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.2 * LOOK_S):
            await asyncio.shield(working)
    enough.set()
    assert await working == 1
    assert ((await job_of(database, "stm_1")).state, errands.done) == ("DONE", ["stm_1"])


async def test_a_lane_whose_lock_is_lost_ends_the_work_as_another_process_may_begin_it(
    database: Database, runner: JobRunner, patient: JobKind, errands: Errands
) -> None:
    began, left, hang = hanging_work()
    errands.does["parkco"] = hang
    await wish(database, "stm_1", "parkco")
    hanging = asyncio.create_task(runner.run_next(patient, now_ms()))
    await began.wait()
    async with database.connection() as conn:
        await conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid() "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    async with asyncio.timeout(2):
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError):
            await hanging
    assert left.is_set()
    assert (await job_of(database, "stm_1")).state == "WAITING"


async def test_a_withdrawn_calculation_ends_its_process_within_two_seconds(world: World) -> None:
    await redeem(world, "idt_1_a")
    await close(world, today())
    asked = (await ask_to_calculate(world, today())).json()["Data"]
    calculating = asyncio.create_task(world.do_chores())
    process = await one_that_calculates()
    process.suspend()  # whatever it is at, it does not come to its end
    (job,) = await jobs(world, State="RUNNING")
    answer = await world.ops(
        "ops-maker", "POST", f"/admin/v1/jobs/{job['JobId']}/withdrawal", json={"Reason": "asked for too early"}
    )
    assert answer.json()["Data"]["Status"] == "WITHDRAWN"
    async with asyncio.timeout(2):
        await calculating
    assert not process.is_running()
    statement = await show_statement(world, asked["StatementId"])
    assert (statement["Status"], statement["Failure"]) == ("FAILED", "withdrawn by ops-maker: asked for too early")
    assert (await calculate(world, today()))["Status"] == "CALCULATED"


async def one_that_calculates() -> psutil.Process:
    """This process's child, as soon as it is there."""
    while True:
        for child in psutil.Process().children():
            if MODULE in child.cmdline():
                return child
        await asyncio.sleep(0.01)
