"""Business days for bank operations: which is open, close one, how one stands; a sandbox moves its date."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import msgspec

from gateway import audit
from gateway.call import Answer, OpenCall, OpsCall
from gateway.clock import Day, asked_day, local_day, rfc3339
from gateway.database import Connection, Database
from gateway.events.outbox import BANK_ZONE, business_date, move_business_date, open_day, take_turns
from gateway.jobs import store as jobs
from gateway.jsonio import decode
from gateway.settlement.day_closing import KIND, closing_of
from gateway.settlement.life import check_closable, check_move
from gateway.settlement.store import days


class MoveBusinessDate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """Without a date: the day after the present one."""

    date: Day | None = None


@dataclass(frozen=True, slots=True)
class DaysApi:
    """A closing is a job; asking twice is asking once."""

    database: Database

    async def get_open_day(self, call: OpsCall) -> Answer:
        """The business day that facts are recorded in at present, and the business date: no later day is closed."""
        today = local_day(call.now_ms, BANK_ZONE)
        async with self.database.connection() as conn:
            day, present = await open_day(conn, today), await business_date(conn, today)
        return Answer(
            200, {"Data": {"Day": day.isoformat(), "Status": "OPEN", "BusinessDate": present.isoformat()}}
        )  # fmt: skip

    async def close_day(self, call: OpsCall) -> Answer:
        """202: a job seals it, and all days before it that hold events."""
        day = asked_day(call.path["Day"], path="$path.Day")
        async with self.database.transaction() as conn:
            if await days.sealed_day(conn, day) is None:
                await self._ask(conn, call, day)
            return Answer(202, await _day_members(conn, day))

    async def _ask(self, conn: Connection, call: OpsCall, day: date) -> None:
        present, last = await business_date(conn, local_day(call.now_ms, BANK_ZONE)), await days.last_head(conn)
        check_closable(day, business_date=present, last_head=last[0] if last else None)
        wanted = closing_of(day)
        job, fresh = await jobs.wish(conn, wanted, operator_id=call.operator.operator_id, now_ms=call.now_ms)
        if fresh:
            detail = {"job": job.job_id, "reason": call.body.reason}
            await call.record(conn, action="day.closure_requested", subject=day.isoformat(), detail=detail)

    async def get_day(self, call: OpsCall) -> Answer:
        async with self.database.connection() as conn:
            return Answer(200, await _day_members(conn, asked_day(call.path["Day"], path="$path.Day")))


@dataclass(frozen=True, slots=True)
class BusinessDateApi:
    """Only in a sandbox, where a day need not last a day."""

    database: Database

    async def move(self, call: OpenCall) -> Answer:
        """Forward only; answers the date before and now."""
        wanted = decode(call.raw_body, MoveBusinessDate) if call.raw_body.strip() else MoveBusinessDate()
        today = local_day(call.now_ms, BANK_ZONE)
        async with self.database.transaction() as conn:
            await take_turns(conn)
            before = await business_date(conn, today)
            after = wanted.date or before + timedelta(days=1)
            check_move(after, before=before, today=today)
            await move_business_date(conn, after, today=today)
            await audit.record(
                conn, actor="sandbox", action="business_date.moved", subject=after.isoformat(),
                detail={"before": before.isoformat()}, now_ms=call.now_ms,
            )  # fmt: skip
        return Answer(200, {"Data": {"DateBefore": before.isoformat(), "Date": after.isoformat()}})


async def _day_members(conn: Connection, day: date) -> dict[str, Any]:
    """OPEN, CLOSING while a job is at it, SHUT with a later day and without events, SEALED."""
    sealed, job = await days.sealed_day(conn, day), await jobs.latest_of(conn, KIND, day.isoformat())
    shut = await days.last_shut(conn)
    members: dict[str, Any] = {"Day": day.isoformat(), "Status": "SHUT" if shut and day <= shut else "OPEN"}
    if job is not None:
        members |= {"RequestedBy": job.requested_by, "RequestedDateTime": rfc3339(job.requested_at_ms)}
        members |= {"JobId": job.job_id}
        if job.state in ("WAITING", "RUNNING", "FAILED"):
            members["Status"] = "CLOSING"
        if job.failure:
            members["Failure"] = job.failure
    if sealed is not None:
        members |= {"Status": "SEALED", "EventCount": sealed.event_count, "RootHash": sealed.root_hash.hex()}
        members |= {"HeadHash": sealed.head_hash.hex(), "Head": sealed.head_jws}
    return {"Data": members}
