"""Jobs for bank operations: what waits, runs or failed and why; try again, or withdraw with a reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.call import Answer, OpsCall
from gateway.clock import rfc3339
from gateway.database import Connection, Database
from gateway.jobs import store
from gateway.jobs.model import STATES, Job, JobKind
from gateway.jobs.runner import give_up
from gateway.refusal import Refusal, StateConflict, UnknownResource

LIST_LIMIT = 200  # jobs in one list


class JobFilterInvalid(Refusal):
    """A filter that no job can match."""

    code, outcome = "job_filter_invalid", "schema"
    title = "There are no jobs of that state or kind"


@dataclass(frozen=True, slots=True)
class JobsApi:
    """`kinds` by name; what a kind's work keeps of its own changes in the same transaction."""

    database: Database
    kinds: Mapping[str, JobKind]

    async def list_jobs(self, call: OpsCall) -> Answer:
        state, kind = call.query.get("State"), call.query.get("Kind")
        if (state or STATES[0]) not in STATES or (kind is not None and kind not in self.kinds):
            raise JobFilterInvalid(f"State is one of {', '.join(STATES)}; Kind of {', '.join(self.kinds)}")
        async with self.database.connection() as conn:
            jobs = await store.listed(
                conn, states=[state] if state else STATES, kind=kind, partner_id=call.query.get("PartnerId"),
                limit=LIST_LIMIT,
            )  # fmt: skip
        return Answer(200, {"Data": {"Job": [job_members(job) for job in jobs]}})

    async def get_job(self, call: OpsCall) -> Answer:
        async with self.database.connection() as conn:
            return Answer(200, {"Data": job_members(await _job(conn, call, lock=False))})

    async def retry(self, call: OpsCall) -> Answer:
        """At once, whether it is waiting for its next try or has failed for good."""
        async with self.database.transaction() as conn:
            job = await _job(conn, call, lock=True)
            if job.state not in ("WAITING", "FAILED"):
                raise StateConflict(f"A job is tried again when it is WAITING or FAILED; this one is {job.state}")
            if job.state == "FAILED":
                await self.kinds[job.kind].work.take_up(conn, job)
            await store.try_again(conn, job.job_id, now_ms=call.now_ms)
            await call.record(
                conn, action="job.retried", subject=job.job_id, detail=_told(job, reason=call.body.reason)
            )
            return Answer(200, {"Data": job_members(await _job(conn, call, lock=False))})

    async def withdraw(self, call: OpsCall) -> Answer:
        """It is not tried any more. Who works on it sees that within a moment, and leaves."""
        reason = call.body.reason
        async with self.database.transaction() as conn:
            job = await _job(conn, call, lock=True)
            kind = self.kinds[job.kind]
            if job.state in ("DONE", "WITHDRAWN"):
                raise StateConflict(f"A job that is {job.state} is not withdrawn")
            if not kind.withdrawable:
                raise StateConflict("What an issued statement says is owed: this job is tried again, not withdrawn")
            failure = f"withdrawn by {call.operator.operator_id}: {reason}"
            await give_up(conn, kind, job, state="WITHDRAWN", failure=failure, now_ms=call.now_ms)
            await call.record(conn, action="job.withdrawn", subject=job.job_id, detail=_told(job, reason=reason))
            return Answer(200, {"Data": job_members(await _job(conn, call, lock=False))})


def job_members(job: Job) -> dict[str, Any]:
    members: dict[str, Any] = {
        "JobId": job.job_id, "Kind": job.kind, "Status": job.state, "Attempts": job.attempts,
        "RequestedBy": job.requested_by, "RequestedDateTime": rfc3339(job.requested_at_ms),
    }  # fmt: skip
    optional = {
        "Day": job.day.isoformat() if job.day else None,
        "StatementId": job.statement_id,
        "PartnerId": job.partner_id,
        "Failure": job.failure,
        "NextTryDateTime": rfc3339(job.next_try_at_ms) if job.state == "WAITING" else None,
        "FinishedDateTime": rfc3339(job.finished_at_ms) if job.finished_at_ms is not None else None,
    }
    return members | {name: value for name, value in optional.items() if value is not None}


async def _job(conn: Connection, call: OpsCall, *, lock: bool) -> Job:
    job = await store.find(conn, call.path["JobId"], lock=lock)
    if job is None:
        raise UnknownResource("There is no such job; see GET /admin/v1/jobs")
    return job


def _told(job: Job, **more: str) -> dict[str, Any]:
    return {"kind": job.kind, "subject": job.subject, **more}
