"""Jobs whose work raises whatever there is to raise: it is that job's failure, in words, and nobody else waits."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import asyncpg
import pytest

from gateway import metrics
from gateway.clock import now_ms
from gateway.database import Connection, Database
from gateway.jobs import store
from gateway.jobs.api import JobsApi
from gateway.jobs.model import ATTEMPTS, PAUSES_S, Job, JobFailed, JobKind, Wish, by_name
from gateway.jobs.runner import PROCESS_ENDED, JobRunner

FAR_MS = 10**15  # long after every pause
KIND = "statement_calculation"


@dataclass(slots=True)
class Errands:
    """Work as a test says, by partner; remembers what it did and what it was told of."""

    does: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    given_up: list[tuple[str, str]] = field(default_factory=list)

    async def carry_out(self, job: Job, now_ms: int) -> None:
        assert job.partner_id is not None
        if job.partner_id in self.does:
            await self.does[job.partner_id]()
        self.done.append(job.subject)

    async def give_up(self, conn: Connection, job: Job, *, failure: str) -> None:
        self.given_up.append((job.subject, failure))

    async def take_up(self, conn: Connection, job: Job) -> None:
        """Nothing was undone."""


@pytest.fixture
def errands() -> Errands:
    return Errands()


@pytest.fixture
def kind(errands: Errands) -> JobKind:
    return JobKind(KIND, "errands", errands, slots=2, limit_s=0.2)


@pytest.fixture
def runner(database: Database, kind: JobKind) -> JobRunner:
    return JobRunner(database, (kind,))


async def wish(database: Database, subject: str, partner: str) -> Job:
    async with database.transaction() as conn:
        wanted = Wish(KIND, subject, lane=f"statement {partner}", statement_id=subject, partner_id=partner)
        return (await store.wish(conn, wanted, operator_id="ops-maker", now_ms=now_ms()))[0]


async def job_of(database: Database, subject: str) -> Job:
    async with database.connection() as conn:
        found = await store.latest_of(conn, KIND, subject)
    assert found is not None
    return found


def raising(error: BaseException) -> Callable[[], Awaitable[None]]:
    async def raise_it() -> None:
        raise error

    return raise_it


async def run_all(runner: JobRunner, kind: JobKind, *, at_ms: int | None = None) -> None:
    while await runner.run_next(kind, now_ms() if at_ms is None else at_ms):
        pass


RAISED: list[tuple[BaseException, str]] = [
    (JobFailed("the price list is on fire"), "the price list is on fire"),
    (ValueError("王小明 +8613800000001"), "an unexpected ValueError; the log has the places it passed"),
    (AssertionError(), "an unexpected AssertionError; the log has the places it passed"),
    (RecursionError(), "an unexpected RecursionError; the log has the places it passed"),
    (MemoryError(), "an unexpected MemoryError; the log has the places it passed"),
    (StopAsyncIteration(), "an unexpected StopAsyncIteration; the log has the places it passed"),
    (OSError(28, "No space left on device"), "OSError: No space left on device"),
    (TimeoutError(), "it took longer than 0 s"),
    (asyncpg.LockNotAvailableError("lock"), "the database said LockNotAvailableError (55P03)"),
    (ExceptionGroup("several", [KeyError("x")]), "an unexpected ExceptionGroup; the log has the places it passed"),
]


@pytest.mark.parametrize(("error", "words"), RAISED, ids=[type(error).__name__ for error, _ in RAISED])
async def test_whatever_a_job_raises_fails_that_job_alone_and_says_why(
    database: Database, runner: JobRunner, kind: JobKind, errands: Errands, error: BaseException, words: str
) -> None:
    errands.does["parkco"] = raising(error)
    await wish(database, "stm_1", "parkco")
    await wish(database, "stm_2", "shopco")
    await run_all(runner, kind)
    failed, done = await job_of(database, "stm_1"), await job_of(database, "stm_2")
    assert (failed.state, failed.attempts, failed.failure) == ("WAITING", 1, words)
    assert failed.next_try_at_ms > now_ms() - 1
    assert (done.state, done.failure, errands.done) == ("DONE", None, ["stm_2"])


async def test_a_poisoned_job_does_not_delay_the_next_one_of_its_own_partner(
    database: Database, runner: JobRunner, kind: JobKind, errands: Errands
) -> None:
    first = iter([raising(RuntimeError())])

    async def only_the_first() -> None:
        for poison in first:
            await poison()

    errands.does["parkco"] = only_the_first
    await wish(database, "stm_1", "parkco")
    await wish(database, "stm_2", "parkco")
    await run_all(runner, kind)
    assert errands.done == ["stm_2"]
    assert (await job_of(database, "stm_1")).state == "WAITING"


async def test_a_job_that_hangs_holds_up_nobody_and_ends_by_its_limit(
    database: Database, runner: JobRunner, kind: JobKind, errands: Errands
) -> None:
    began = asyncio.Event()

    async def hang() -> None:
        began.set()
        await asyncio.Event().wait()

    errands.does["parkco"] = hang
    await wish(database, "stm_1", "parkco")
    await wish(database, "stm_2", "shopco")
    hanging = asyncio.create_task(runner.run_next(kind, now_ms()))
    await began.wait()
    assert await runner.run_next(kind, now_ms()) == 1
    assert errands.done == ["stm_2"]
    assert await hanging == 1
    assert (await job_of(database, "stm_1")).failure == "it took longer than 0 s"


async def test_pauses_grow_up_to_a_limit_and_then_an_operator_decides(
    database: Database, runner: JobRunner, kind: JobKind, errands: Errands
) -> None:
    errands.does["parkco"] = raising(RuntimeError())
    await wish(database, "stm_1", "parkco")
    for pause_s in PAUSES_S:
        began_ms = now_ms()
        assert await runner.run_next(kind, FAR_MS) == 1
        put_off_to_ms = (await job_of(database, "stm_1")).next_try_at_ms
        assert began_ms <= put_off_to_ms - pause_s * 1_000 <= now_ms()
        assert errands.given_up == []
    await run_all(runner, kind, at_ms=FAR_MS)
    job = await job_of(database, "stm_1")
    assert (job.state, job.attempts) == ("FAILED", ATTEMPTS)
    assert errands.given_up == [("stm_1", job.failure)]


async def test_a_job_put_off_by_a_clock_that_has_gone_back_a_day_is_tried_at_once(
    database: Database, runner: JobRunner, kind: JobKind, errands: Errands
) -> None:
    await wish(database, "stm_1", "parkco")
    async with database.connection() as conn:
        await conn.execute("UPDATE job SET next_try_at_ms = $1", now_ms() + 86_400_000)
    await run_all(runner, kind)
    assert errands.done == ["stm_1"]


async def test_before_its_pause_is_over_a_job_is_left_alone(
    database: Database, runner: JobRunner, kind: JobKind, errands: Errands
) -> None:
    errands.does["parkco"] = raising(JobFailed("not yet"))
    job = await wish(database, "stm_1", "parkco")
    await runner.run_next(kind, job.requested_at_ms)
    assert await runner.run_next(kind, job.requested_at_ms) == 0


async def test_what_trying_again_cannot_mend_fails_at_once(
    database: Database, runner: JobRunner, kind: JobKind, errands: Errands
) -> None:
    errands.does["parkco"] = raising(JobFailed("event evt_1: its legs are others", final=True))
    await wish(database, "stm_1", "parkco")
    await run_all(runner, kind)
    assert (await job_of(database, "stm_1")).state == "FAILED"
    assert errands.given_up == [("stm_1", "event evt_1: its legs are others")]


async def test_a_job_that_takes_its_process_down_is_given_up_in_the_end(
    database: Database, runner: JobRunner, kind: JobKind, errands: Errands
) -> None:
    """It leaves RUNNING behind and no word; the next process counts, and does not try for ever."""
    await wish(database, "stm_1", "parkco")
    async with database.transaction() as conn:
        await conn.execute("UPDATE job SET state = 'RUNNING', attempts = $1", ATTEMPTS)
    await run_all(runner, kind)
    assert ((await job_of(database, "stm_1")).state, errands.given_up) == ("FAILED", [("stm_1", PROCESS_ENDED)])
    assert errands.done == []


async def test_a_job_that_somebody_works_on_is_not_taken_twice(
    database: Database, runner: JobRunner, kind: JobKind
) -> None:
    job = await wish(database, "stm_1", "parkco")
    async with database.session() as conn:
        assert await store.enter_lane(conn, job.lane)
        assert await runner.run_next(kind, FAR_MS) == 0
    assert await runner.run_next(kind, FAR_MS) == 1


async def test_a_job_withdrawn_while_it_runs_stays_withdrawn(
    database: Database, runner: JobRunner, kind: JobKind, errands: Errands
) -> None:
    async def withdraw_then_fail() -> None:
        async with database.transaction() as conn:
            job = await store.latest_of(conn, KIND, "stm_1")
            assert job is not None
            await store.end(conn, job.job_id, state="WITHDRAWN", failure="withdrawn by me", now_ms=now_ms())
        raise JobFailed("too late", final=True)

    errands.does["parkco"] = withdraw_then_fail
    await wish(database, "stm_1", "parkco")
    await run_all(runner, kind)
    job = await job_of(database, "stm_1")
    assert (job.state, job.failure, errands.given_up) == ("WITHDRAWN", "withdrawn by me", [])


async def test_failures_are_counted_and_logged_with_partner_and_statement_and_no_customer(
    database: Database, runner: JobRunner, kind: JobKind, errands: Errands, capsys: pytest.CaptureFixture[str]
) -> None:
    from gateway.log import configure

    configure("info")
    errands.does["parkco"] = raising(ValueError("王小明 +8613800000001"))
    await wish(database, "stm_1", "parkco")
    await run_all(runner, kind)
    said = capsys.readouterr().err
    line = next(json.loads(line) for line in said.splitlines() if "job_failed" in line)
    assert (line["partner_id"], line["statement_id"], line["attempt"], line["error"]) == (
        "parkco", "stm_1", 1, "ValueError",
    )  # fmt: skip
    assert "13800000001" not in said
    page = (await metrics.page()).decode()
    assert f'parasol_jobs_total{{kind="{KIND}",outcome="put_off"}}' in page


async def test_words_that_the_database_cannot_keep_fail_the_job_all_the_same(
    database: Database, runner: JobRunner, kind: JobKind, errands: Errands
) -> None:
    errands.does["parkco"] = raising(JobFailed("a leaf says \x00 and \ud800", final=True))
    await wish(database, "stm_1", "parkco")
    await run_all(runner, kind)
    job = await job_of(database, "stm_1")
    assert (job.state, job.failure) == ("FAILED", "a leaf says ? and ?")


async def test_a_wish_is_one_job_until_it_is_done_or_withdrawn(
    database: Database, runner: JobRunner, kind: JobKind
) -> None:
    first = await wish(database, "stm_1", "parkco")
    assert (await wish(database, "stm_1", "parkco")).job_id == first.job_id
    await run_all(runner, kind)
    assert (await wish(database, "stm_1", "parkco")).job_id != first.job_id


def test_every_kind_has_a_name_of_its_own(database: Database, kind: JobKind) -> None:
    assert JobsApi(database, by_name((kind,))).kinds == {KIND: kind}
