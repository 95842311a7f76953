"""All SQL of settlement: closures, sealed days, statements, their chunks and approvals."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from gateway.database import Connection
from gateway.settlement.life import Approval
from gateway.settlement.model import PartnerTree, SealedDay, StatementRow

CHUNK_BYTES = 4 * 1024 * 1024  # a piece of a statement's file: streams without holding the whole
_STATEMENT = """statement_id, partner_id, number, currency, from_day, to_day, state, totals, closing, line_count,
    sha256, size_bytes, requested_by, requested_at_ms, issued_at_ms, failure"""


# --- days ------------------------------------------------------------------------------------------
async def request_closure(conn: Connection, day: date, *, operator_id: str, now_ms: int) -> bool:
    """False: it was asked for before."""
    return bool(
        await conn.fetchval(
            """INSERT INTO closure (day, requested_at_ms, requested_by) VALUES ($1, $2, $3)
               ON CONFLICT DO NOTHING RETURNING true""",
            day, now_ms, operator_id,
        )
    )  # fmt: skip


async def next_closure(conn: Connection) -> tuple[date, str] | None:
    row = await conn.fetchrow("SELECT day, requested_by FROM closure WHERE finished_at_ms IS NULL ORDER BY day LIMIT 1")
    return (row["day"], row["requested_by"]) if row else None


async def finish_closure(conn: Connection, day: date, *, now_ms: int) -> None:
    await conn.execute("UPDATE closure SET finished_at_ms = $2, failure = NULL WHERE day = $1", day, now_ms)


async def closure_failed(conn: Connection, day: date, *, failure: str) -> None:
    await conn.execute("UPDATE closure SET failure = $2 WHERE day = $1", day, failure)


async def closure_state(conn: Connection, day: date) -> Mapping[str, Any] | None:
    row = await conn.fetchrow("SELECT requested_at_ms, requested_by, failure FROM closure WHERE day = $1", day)
    return dict(row) if row else None


async def open_day(conn: Connection, today: date) -> date:
    """The first day from today on that is not shut."""
    shut = await conn.fetch("SELECT day FROM business_day WHERE day >= $1 ORDER BY day", today)
    day = today
    for row in shut:
        if row["day"] != day:
            break
        day += timedelta(days=1)
    return day


async def shut_day(conn: Connection, day: date, *, now_ms: int) -> None:
    """From the commit on no event joins this day (its writers have been waited for by the caller)."""
    await conn.execute(
        """INSERT INTO business_day (day, state, changed_at_ms) VALUES ($1, 'SEALING', $2) ON CONFLICT DO NOTHING""",
        day, now_ms,
    )  # fmt: skip


async def open_days_with_events(conn: Connection, before: date) -> list[date]:
    """Days earlier than `before` that hold events and are not sealed: they are sealed first, heads are a chain."""
    rows = await conn.fetch(
        """SELECT DISTINCT business_day FROM event e WHERE business_day < $1
           AND NOT EXISTS (SELECT FROM sealed_day s WHERE s.day = e.business_day) ORDER BY business_day""",
        before,
    )  # fmt: skip
    return [row["business_day"] for row in rows]


async def leaves_of(conn: Connection, day: date) -> list[tuple[str | None, bytes]]:
    """(partner, leaf) of every event of the day, in the order of recording."""
    rows = await conn.fetch("SELECT partner, leaf FROM event WHERE business_day = $1 ORDER BY seq", day)
    return [(row["partner"], row["leaf"]) for row in rows]


async def partner_leaves(conn: Connection, day: date, partner_id: str) -> list[bytes]:
    rows = await conn.fetch(
        "SELECT leaf FROM event WHERE business_day = $1 AND partner = $2 ORDER BY seq", day, partner_id
    )
    return [row["leaf"] for row in rows]


async def save_sealed_day(conn: Connection, sealed: SealedDay, *, now_ms: int, operator_id: str) -> None:
    await conn.execute(
        """INSERT INTO sealed_day (day, head, head_jws, head_hash, root_hash, event_count, sealed_at_ms, sealed_by)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8)""",
        sealed.day, dict(sealed.head), sealed.head_jws, sealed.head_hash, sealed.root_hash, sealed.event_count, now_ms,
        operator_id,
    )  # fmt: skip
    await conn.executemany(
        "INSERT INTO sealed_partner (day, partner_id, size, root_hash) VALUES ($1, $2, $3, $4)",
        [(sealed.day, tree.partner_id, tree.size, tree.root_hash) for tree in sealed.trees],
    )
    await conn.execute(
        "UPDATE business_day SET state = 'SEALED', changed_at_ms = $2 WHERE day = $1", sealed.day, now_ms
    )


async def sealed_day(conn: Connection, day: date) -> SealedDay | None:
    row = await conn.fetchrow(
        "SELECT day, head, head_jws, head_hash, root_hash, event_count FROM sealed_day WHERE day = $1", day
    )
    if row is None:
        return None
    trees = await conn.fetch(
        "SELECT partner_id, size, root_hash FROM sealed_partner WHERE day = $1 ORDER BY partner_id", day
    )
    return SealedDay(
        row["day"], row["head"], row["head_jws"], row["head_hash"], row["root_hash"], row["event_count"],
        tuple(PartnerTree(tree["partner_id"], tree["size"], tree["root_hash"]) for tree in trees),
    )  # fmt: skip


async def sealed_days(conn: Connection, from_day: date, to_day: date) -> list[date]:
    rows = await conn.fetch("SELECT day FROM sealed_day WHERE day BETWEEN $1 AND $2 ORDER BY day", from_day, to_day)
    return [row["day"] for row in rows]


async def last_head_hash(conn: Connection) -> tuple[date, bytes] | None:
    row = await conn.fetchrow("SELECT day, head_hash FROM sealed_day ORDER BY day DESC LIMIT 1")
    return (row["day"], row["head_hash"]) if row else None


async def first_event_day(conn: Connection, partner_id: str) -> date | None:
    day: date | None = await conn.fetchval("SELECT min(business_day) FROM event WHERE partner = $1", partner_id)
    return day


# --- statements ------------------------------------------------------------------------------------------
async def last_statement(conn: Connection, partner_id: str, currency: str) -> StatementRow | None:
    row = await conn.fetchrow(
        f"""SELECT {_STATEMENT} FROM statement WHERE partner_id = $1 AND currency = $2 AND state <> 'FAILED'
            ORDER BY number DESC LIMIT 1""",
        partner_id, currency,
    )  # fmt: skip
    return _statement(row) if row else None


async def last_issued(conn: Connection, partner_id: str, currency: str) -> StatementRow | None:
    """The statement that the next one opens from."""
    row = await conn.fetchrow(
        f"""SELECT {_STATEMENT} FROM statement WHERE partner_id = $1 AND currency = $2 AND state = 'ISSUED'
            ORDER BY number DESC LIMIT 1""",
        partner_id, currency,
    )  # fmt: skip
    return _statement(row) if row else None


async def insert_statement(conn: Connection, statement: StatementRow) -> None:
    await conn.execute(
        """INSERT INTO statement (statement_id, partner_id, number, currency, from_day, to_day, state, requested_by,
             requested_at_ms) VALUES ($1, $2, $3, $4, $5, $6, 'CALCULATING', $7, $8)""",
        statement.statement_id, statement.partner_id, statement.number, statement.currency, statement.from_day,
        statement.to_day, statement.requested_by, statement.requested_at_ms,
    )  # fmt: skip


async def next_calculation(conn: Connection) -> StatementRow | None:
    row = await conn.fetchrow(
        f"SELECT {_STATEMENT} FROM statement WHERE state = 'CALCULATING' ORDER BY requested_at_ms LIMIT 1"
    )
    return _statement(row) if row else None


async def save_calculated(
    conn: Connection, statement_id: str, *, totals: Mapping[str, int], closing: Mapping[str, Any], line_count: int,
    sha256: bytes, size_bytes: int,
) -> None:  # fmt: skip
    await conn.execute(
        """UPDATE statement SET state = 'CALCULATED', totals = $2, closing = $3, line_count = $4, sha256 = $5,
             size_bytes = $6 WHERE statement_id = $1 AND state = 'CALCULATING'""",
        statement_id, dict(totals), dict(closing), line_count, sha256, size_bytes,
    )  # fmt: skip


async def save_failed(conn: Connection, statement_id: str, *, failure: str) -> None:
    """The number stays used up; the next calculation takes the next one, so a gap is seen and explained."""
    await conn.execute(
        "UPDATE statement SET state = 'FAILED', failure = $2 WHERE statement_id = $1 AND state = 'CALCULATING'",
        statement_id, failure,
    )  # fmt: skip


async def save_state(conn: Connection, statement_id: str, *, state: str, issued_at_ms: int | None) -> None:
    await conn.execute(
        "UPDATE statement SET state = $2, issued_at_ms = $3 WHERE statement_id = $1", statement_id, state, issued_at_ms
    )


async def find_statement(conn: Connection, statement_id: str, *, lock: bool) -> StatementRow | None:
    row = await conn.fetchrow(
        f"SELECT {_STATEMENT} FROM statement WHERE statement_id = $1 {'FOR UPDATE' if lock else ''}", statement_id
    )
    return _statement(row) if row else None


async def statements(
    conn: Connection, *, partner_id: str | None, states: Sequence[str], limit: int
) -> list[StatementRow]:
    rows = await conn.fetch(
        f"""SELECT {_STATEMENT} FROM statement WHERE ($1::text IS NULL OR partner_id = $1) AND state = ANY($2)
            ORDER BY requested_at_ms DESC, statement_id LIMIT $3""",
        partner_id, list(states), limit,
    )  # fmt: skip
    return [_statement(row) for row in rows]


async def save_chunk(conn: Connection, statement_id: str, *, ordinal: int, chunk: bytes) -> None:
    await conn.execute(
        "INSERT INTO statement_chunk (statement_id, ordinal, bytes) VALUES ($1, $2, $3)", statement_id, ordinal, chunk
    )


async def chunks(conn: Connection, statement_id: str) -> AsyncIterator[bytes]:
    async with conn.transaction():
        async for row in conn.cursor(
            "SELECT bytes FROM statement_chunk WHERE statement_id = $1 ORDER BY ordinal", statement_id, prefetch=1
        ):
            yield row["bytes"]


async def approvals(conn: Connection, statement_id: str) -> list[Approval]:
    rows = await conn.fetch(
        "SELECT role, operator_id, sha256 FROM statement_approval WHERE statement_id = $1 ORDER BY at_ms", statement_id
    )
    return [Approval(row["role"], row["operator_id"], row["sha256"]) for row in rows]


async def save_approval(conn: Connection, statement_id: str, approval: Approval, *, now_ms: int) -> None:
    await conn.execute(
        "INSERT INTO statement_approval (statement_id, role, operator_id, at_ms, sha256) VALUES ($1, $2, $3, $4, $5)",
        statement_id, approval.role, approval.operator_id, now_ms, approval.sha256,
    )  # fmt: skip


def next_period(previous: StatementRow | None, first_day: date, through: date) -> tuple[date, date]:
    """From the day after the last statement (or the partner's first day with an event) through `through`."""
    return (previous.to_day + timedelta(days=1) if previous else first_day), through


def _statement(row: Any) -> StatementRow:
    return StatementRow(**dict(row))
