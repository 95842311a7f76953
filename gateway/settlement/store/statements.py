"""Statements and who approved them."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.database import Connection
from gateway.settlement.life import Approval
from gateway.settlement.model import Counts, StatementRow

_STATEMENTS = 0x73746D74  # advisory lock space: "stmt"; statements of one partner and currency are asked for in turn
_STATEMENT = """statement_id, partner_id, number, currency, from_day, to_day, state, totals, closing, line_count,
    sha256, size_bytes, requested_by, requested_at_ms, issued_at_ms, failure, previous_id, signature, event_count, bank,
    issuer"""


async def take_turn(conn: Connection, partner_id: str, currency: str) -> None:
    """Until the transaction ends nobody else asks for a statement of this partner and currency."""
    await conn.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, $2))", f"{partner_id} {currency}", _STATEMENTS
    )


async def last_number(conn: Connection, partner_id: str, currency: str) -> int:
    """Of every statement ever asked for, failed and refused ones too: a number is never used again."""
    number: int = await conn.fetchval(
        "SELECT coalesce(max(number), 0) FROM statement WHERE partner_id = $1 AND currency = $2", partner_id, currency
    )
    return number


async def in_the_making(conn: Connection, partner_id: str, currency: str) -> StatementRow | None:
    """The one that is asked for and neither issued, failed nor refused."""
    row = await conn.fetchrow(
        f"""SELECT {_STATEMENT} FROM statement WHERE partner_id = $1 AND currency = $2
              AND state IN ('CALCULATING', 'CALCULATED', 'APPROVED')""",
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
             requested_at_ms, previous_id) VALUES ($1, $2, $3, $4, $5, $6, 'CALCULATING', $7, $8, $9)""",
        statement.statement_id, statement.partner_id, statement.number, statement.currency, statement.from_day,
        statement.to_day, statement.requested_by, statement.requested_at_ms, statement.previous_id,
    )  # fmt: skip


async def save_calculated(
    conn: Connection, statement_id: str, *, totals: Mapping[str, int], closing: Mapping[str, Any], counts: Counts,
    signature: str, bank: str, issuer: str,
) -> bool:  # fmt: skip
    """False: it is no longer in the making, and what was calculated is dropped."""
    done = await conn.execute(
        """UPDATE statement SET state = 'CALCULATED', totals = $2, closing = $3, line_count = $4, event_count = $5,
             sha256 = $6, size_bytes = $7, signature = $8, bank = $9, issuer = $10, failure = NULL
           WHERE statement_id = $1 AND state = 'CALCULATING'""",
        statement_id, dict(totals), dict(closing), counts.line_count, counts.event_count, counts.sha256,
        counts.size_bytes, signature, bank, issuer,
    )  # fmt: skip
    return bool(done == "UPDATE 1")


async def save_failed(conn: Connection, statement_id: str, *, failure: str) -> None:
    """The number stays used up; the next calculation takes the next one, so a gap is seen and explained."""
    await conn.execute(
        "UPDATE statement SET state = 'FAILED', failure = $2 WHERE statement_id = $1 AND state = 'CALCULATING'",
        statement_id, failure,
    )  # fmt: skip


async def save_retried(conn: Connection, statement_id: str) -> None:
    """An operator has its failed calculation tried again."""
    await conn.execute(
        "UPDATE statement SET state = 'CALCULATING', failure = NULL WHERE statement_id = $1 AND state = 'FAILED'",
        statement_id,
    )


async def save_refused(conn: Connection, statement_id: str, *, reason: str) -> None:
    await conn.execute(
        "UPDATE statement SET state = 'REFUSED', failure = $2 WHERE statement_id = $1", statement_id, reason
    )


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


def _statement(row: Any) -> StatementRow:
    return StatementRow(**dict(row))
