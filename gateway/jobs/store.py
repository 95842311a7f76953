"""All SQL of jobs. A job runs while its process holds the lane's advisory lock: one that dies lets go of it at once."""

from collections.abc import Sequence

from gateway.database import Connection
from gateway.database.due import is_due
from gateway.ids import new_id
from gateway.jobs.model import PAUSES_S, Job, Wish

_JOB = """job_id, kind, subject, lane, day, statement_id, partner_id, state, attempts, failure, next_try_at_ms,
    requested_by, requested_at_ms, finished_at_ms"""
_DUE = is_due("next_try_at_ms", now="$2", longest_ms=str(max(PAUSES_S) * 1000))
_LANE_SPACE = 0x6A6F62  # seed of the lanes' lock numbers: "job"
LANES_LOOKED_AT = 200  # lanes with something due, oldest first; those that others work in are passed over


async def wish(conn: Connection, wanted: Wish, *, operator_id: str, now_ms: int) -> tuple[Job, bool]:
    """The job of that wish, and whether it is new: else it is the one that waits, runs or has failed."""
    row = await conn.fetchrow(
        f"""INSERT INTO job (job_id, kind, subject, lane, day, statement_id, partner_id, state, next_try_at_ms,
               requested_by, requested_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, 'WAITING', $9, $8, $9)
            ON CONFLICT (kind, subject) WHERE state IN ('WAITING', 'RUNNING', 'FAILED') DO NOTHING RETURNING {_JOB}""",
        new_id("job"), wanted.kind, wanted.subject, wanted.lane, wanted.day, wanted.statement_id, wanted.partner_id,
        operator_id, now_ms,
    )  # fmt: skip
    if row is not None:
        return Job(**row), True
    there = await latest_of(conn, wanted.kind, wanted.subject)
    assert there is not None, "the wish was there a moment ago, and jobs are kept"
    return there, False


async def latest_of(conn: Connection, kind: str, subject: str) -> Job | None:
    """The newest job of that subject, in whatever state."""
    row = await conn.fetchrow(
        f"""SELECT {_JOB} FROM job WHERE kind = $1 AND subject = $2
            ORDER BY requested_at_ms DESC, job_id DESC LIMIT 1""",
        kind, subject,
    )  # fmt: skip
    return Job(**row) if row else None


async def find(conn: Connection, job_id: str, *, lock: bool) -> Job | None:
    row = await conn.fetchrow(f"SELECT {_JOB} FROM job WHERE job_id = $1 {'FOR UPDATE' if lock else ''}", job_id)
    return Job(**row) if row else None


async def listed(
    conn: Connection, *, states: Sequence[str], kind: str | None, partner_id: str | None, limit: int
) -> list[Job]:
    """Newest first."""
    rows = await conn.fetch(
        f"""SELECT {_JOB} FROM job WHERE state = ANY($1) AND ($2::text IS NULL OR kind = $2)
              AND ($3::text IS NULL OR partner_id = $3) ORDER BY requested_at_ms DESC, job_id DESC LIMIT $4""",
        list(states), kind, partner_id, limit,
    )  # fmt: skip
    return [Job(**row) for row in rows]


async def due(conn: Connection, kind: str, *, now_ms: int) -> list[Job]:
    """The oldest job of each lane that has something to do; RUNNING ones too, as their process may have died."""
    rows = await conn.fetch(
        f"""SELECT {_JOB} FROM (SELECT DISTINCT ON (lane) {_JOB} FROM job
              WHERE kind = $1 AND state IN ('WAITING', 'RUNNING') AND {_DUE}
              ORDER BY lane, requested_at_ms, job_id) AS first
            ORDER BY requested_at_ms, job_id LIMIT {LANES_LOOKED_AT}""",
        kind, now_ms,
    )  # fmt: skip
    return [Job(**row) for row in rows]


async def enter_lane(conn: Connection, lane: str) -> bool:
    """For the life of this connection, or until it leaves; False: somebody works in it."""
    return bool(await conn.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, $2))", lane, _LANE_SPACE))


async def leave_lane(conn: Connection, lane: str) -> None:
    await conn.fetchval("SELECT pg_advisory_unlock(hashtextextended($1, $2))", lane, _LANE_SPACE)


async def begin(conn: Connection, job_id: str, *, now_ms: int) -> Job | None:
    """In its lane: one attempt more. None: it was ended or put off meanwhile."""
    row = await conn.fetchrow(
        f"""UPDATE job SET state = 'RUNNING', attempts = attempts + 1
            WHERE job_id = $1 AND state IN ('WAITING', 'RUNNING') AND {_DUE} RETURNING {_JOB}""",
        job_id, now_ms,
    )  # fmt: skip
    return Job(**row) if row else None


async def is_running(conn: Connection, job_id: str) -> bool:
    """False: it was withdrawn."""
    return bool(await conn.fetchval("SELECT state = 'RUNNING' FROM job WHERE job_id = $1", job_id))


async def finish(conn: Connection, job_id: str, *, now_ms: int) -> None:
    await conn.execute(
        "UPDATE job SET state = 'DONE', failure = NULL, finished_at_ms = $2 WHERE job_id = $1 AND state = 'RUNNING'",
        job_id, now_ms,
    )  # fmt: skip


async def put_off(conn: Connection, job_id: str, *, failure: str, next_try_at_ms: int) -> None:
    await conn.execute(
        """UPDATE job SET state = 'WAITING', failure = $2, next_try_at_ms = $3
           WHERE job_id = $1 AND state = 'RUNNING'""",
        job_id, failure, next_try_at_ms,
    )  # fmt: skip


async def end(conn: Connection, job_id: str, *, state: str, failure: str, now_ms: int) -> None:
    """FAILED or WITHDRAWN."""
    await conn.execute(
        "UPDATE job SET state = $2, failure = $3, finished_at_ms = $4 WHERE job_id = $1", job_id, state, failure, now_ms
    )


async def try_again(conn: Connection, job_id: str, *, now_ms: int) -> None:
    """At once, and with all its attempts before it."""
    await conn.execute(
        """UPDATE job SET state = 'WAITING', attempts = 0, next_try_at_ms = $2, finished_at_ms = NULL
           WHERE job_id = $1""",
        job_id, now_ms,
    )  # fmt: skip
