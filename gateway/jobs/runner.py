"""Carries out jobs, one at a time in each lane. Whatever one raises fails that job alone: counted, logged, said.

A job that is withdrawn while it runs is left within a moment, and a process that worked for it ends.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from gateway import metrics
from gateway.chores import Chore
from gateway.clock import now_ms as clock_ms
from gateway.database import Connection, Database
from gateway.jobs import store
from gateway.jobs.model import ATTEMPTS, Job, JobFailed, JobKind, in_words, pause_after

LOOK_S = 0.5  # between looks for jobs that are due, and at a running one: is it still wanted?
PROCESS_ENDED = "the process that worked on it ended, again and again"
log = structlog.get_logger(__name__)


class JobUnwanted(Exception):
    """It was withdrawn while it ran. Its row says so already; what was done for it is dropped."""


@dataclass(frozen=True, slots=True)
class JobRunner:
    """One in the back office. A slot is a chore of its own, so that a slow job holds up at most its lane and slot."""

    database: Database
    kinds: Sequence[JobKind]

    def chores(self) -> tuple[Chore, ...]:
        return tuple(
            Chore(f"{kind.title} {slot}", LOOK_S, partial(self.run_next, kind))
            for kind in self.kinds
            for slot in range(1, kind.slots + 1)
        )

    async def run_next(self, kind: JobKind, now_ms: int) -> int:
        """Carry out the oldest job that is due in a lane where nobody works; 0: there is none."""
        async with self.database.connection() as conn:
            candidates = await store.due(conn, kind.name, now_ms=now_ms)
        if not candidates:
            return 0
        async with self.database.session() as conn:  # a lane is a lock of the session, which ends with this process
            for candidate in candidates:
                if not await store.enter_lane(conn, candidate.lane):
                    continue
                try:
                    job = await store.begin(conn, candidate.job_id, now_ms=now_ms)
                    if job is not None:
                        await self._run(kind, job, lane=conn, now_ms=now_ms)
                        return 1
                finally:
                    await store.leave_lane(conn, candidate.lane)
        return 0

    async def _run(self, kind: JobKind, job: Job, *, lane: Connection, now_ms: int) -> None:
        started = time.perf_counter()
        try:
            if job.attempts > ATTEMPTS:  # it never got as far as failing: it takes its process down
                raise JobFailed(PROCESS_ENDED, final=True)
            async with asyncio.timeout(kind.limit_s):
                await _while_wanted(lane, job, kind.work.carry_out(job, now_ms))
        except JobUnwanted:
            log.info("job_left", job_id=job.job_id, kind=job.kind, partner_id=job.partner_id, attempt=job.attempts)
            metrics.count("parasol_jobs_total", kind=job.kind, outcome="withdrawn")
        except Exception as error:  # whatever it is: it is this job's, and nobody else's
            log.error(
                "job_failed", job_id=job.job_id, kind=job.kind, partner_id=job.partner_id, business_day=job.day,
                statement_id=job.statement_id, attempt=job.attempts, exc_info=error,
                reason=in_words(error, limit_s=kind.limit_s) if isinstance(error, JobFailed) else None,
            )  # fmt: skip
            await self._fail(kind, job, error=error)
        else:
            async with self.database.connection() as conn:
                await store.finish(conn, job.job_id, now_ms=clock_ms())
            metrics.count("parasol_jobs_total", kind=job.kind, outcome="done")
        metrics.observe("parasol_job_seconds", time.perf_counter() - started, kind=job.kind)

    async def _fail(self, kind: JobKind, job: Job, *, error: Exception) -> None:
        failure, moment = in_words(error, limit_s=kind.limit_s), clock_ms()
        pause_ms = None if isinstance(error, JobFailed) and error.final else pause_after(job.attempts)
        outcome = "failed" if pause_ms is None else "put_off"
        metrics.count("parasol_jobs_total", kind=job.kind, outcome=outcome)
        async with self.database.transaction() as conn:
            if pause_ms is None:
                await give_up(conn, kind, job, state="FAILED", failure=failure, now_ms=moment)
            else:
                await store.put_off(conn, job.job_id, failure=failure, next_try_at_ms=moment + pause_ms)


async def _while_wanted(lane: Connection, job: Job, work: Coroutine[Any, Any, None]) -> None:
    """The work, until it ends or the job is withdrawn. Raises JobUnwanted, what the work raises, and what `lane` does:
    where its connection is lost, so is the lock, and another process may begin the same job."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait((task,), timeout=LOOK_S))[0]:
            if not await store.is_running(lane, job.job_id):
                raise JobUnwanted
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
    task.result()


async def give_up(conn: Connection, kind: JobKind, job: Job, *, state: str, failure: str, now_ms: int) -> None:
    """End the job for good, and let its capability say so in its own tables, in one transaction."""
    there = await store.find(conn, job.job_id, lock=True)
    if there is None or there.state in ("DONE", "WITHDRAWN"):
        return  # an operator was faster
    await kind.work.give_up(conn, job, failure=failure)
    await store.end(conn, job.job_id, state=state, failure=failure, now_ms=now_ms)
