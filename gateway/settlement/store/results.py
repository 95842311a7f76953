"""What a calculation leaves behind: commissions that issuing books, and what accrued under per-customer caps."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from gateway.database import Connection
from gateway.settlement.model import StatementRow

ROWS_A_STEP = 2_000  # rows that one step writes or reads
BOOKED_A_STEP = 250  # commissions a transaction: their encoding holds the event loop for some 10 ms


async def forget(conn: Connection, statement_id: str) -> None:
    """Rows of an attempt that was cut off."""
    await conn.execute("DELETE FROM statement_commission WHERE statement_id = $1", statement_id)
    await conn.execute("DELETE FROM statement_accrued WHERE statement_id = $1", statement_id)


async def save_commissions(conn: Connection, statement_id: str, rows: Sequence[tuple[str, int]], *, first: int) -> None:
    """(event, minor units) in the order of the lines; `first` is the place of the first of them."""
    await conn.copy_records_to_table(
        "statement_commission",
        columns=("statement_id", "place", "event_id", "amount_minor"),
        records=[(statement_id, first + n, event_id, minor) for n, (event_id, minor) in enumerate(rows)],
    )


async def commissions_after(conn: Connection, statement_id: str, place: int) -> list[tuple[int, str, int]]:
    """(place, event, minor units) of one step."""
    rows = await conn.fetch(
        f"""SELECT place, event_id, amount_minor FROM statement_commission
            WHERE statement_id = $1 AND place > $2 ORDER BY place LIMIT {BOOKED_A_STEP}""",
        statement_id, place,
    )  # fmt: skip
    return [(row["place"], row["event_id"], row["amount_minor"]) for row in rows]


async def booked_through(conn: Connection, statement_id: str) -> int:
    """Locks the statement's progress until the transaction ends."""
    await conn.execute(
        "INSERT INTO commission_progress (statement_id, booked_through) VALUES ($1, 0) ON CONFLICT DO NOTHING",
        statement_id,
    )
    place: int = await conn.fetchval(
        "SELECT booked_through FROM commission_progress WHERE statement_id = $1 FOR UPDATE", statement_id
    )
    return place


async def save_booked_through(conn: Connection, statement_id: str, place: int) -> None:
    await conn.execute(
        "UPDATE commission_progress SET booked_through = $2 WHERE statement_id = $1", statement_id, place
    )


async def save_accrued(conn: Connection, row: StatementRow, changes: Sequence[tuple[str, int]]) -> None:
    """(key, minor units after this statement)."""
    about = (row.partner_id, row.currency, row.number, row.statement_id)
    await conn.copy_records_to_table(
        "statement_accrued",
        columns=("partner_id", "currency", "number", "statement_id", "key", "minor"),
        records=[(*about, key, minor) for key, minor in changes],
    )


async def accrued_before(conn: Connection, row: StatementRow) -> AsyncIterator[Sequence[tuple[str, int]]]:
    """The state that this statement opens with, in steps: the latest issued row of each key. In a transaction."""
    cursor: Any = await conn.cursor(
        """SELECT DISTINCT ON (a.key) a.key, a.minor FROM statement_accrued a
             JOIN statement s ON s.statement_id = a.statement_id AND s.state = 'ISSUED'
           WHERE a.partner_id = $1 AND a.currency = $2 AND a.number < $3 ORDER BY a.key, a.number DESC""",
        row.partner_id, row.currency, row.number,
    )  # fmt: skip
    while rows := await cursor.fetch(ROWS_A_STEP):
        yield [(found["key"], found["minor"]) for found in rows]
