"""What a calculation opens with is read in steps, each a few rows, the latest issued row of each key."""

from datetime import date

from gateway.database import Database
from gateway.settlement.model import StatementRow
from gateway.settlement.store import results
from tests.conftest import past_all_rules

ROWS_LIMIT = 2_000
DAY = date(2026, 9, 21)


async def test_what_accrued_is_read_at_most_two_thousand_rows_at_a_time(database: Database) -> None:
    async with past_all_rules(database.url) as conn:
        for number, state in ((1, "ISSUED"), (2, "ISSUED"), (3, "REFUSED")):
            await conn.execute(
                """INSERT INTO statement (statement_id, partner_id, number, currency, from_day, to_day, state,
                     requested_by, requested_at_ms)
                   VALUES ('stm_' || $1::int, 'p', $1::int, 'CNY', $2, $2, $3, 'x', 0)""",
                number, DAY, state,
            )  # fmt: skip
            await conn.execute(
                """INSERT INTO statement_accrued (partner_id, currency, key, number, statement_id, minor)
                   SELECT 'p', 'CNY', 'k' || lpad(n::text, 6, '0'), $1::int, 'stm_' || $1::int, $1::int
                   FROM generate_series(1, 5000) AS n WHERE $1::int <> 2 OR n % 2 = 0""",
                number,
            )
    following = StatementRow("stm_4", "p", 4, "CNY", DAY, DAY, "CALCULATING", "x", 0)
    async with database.transaction() as conn:
        steps = [step async for step in results.accrued_before(conn, following)]
    assert max(map(len, steps)) <= ROWS_LIMIT
    rows = [row for step in steps for row in step]
    assert rows == [(f"k{n:06}", 1 if n % 2 else 2) for n in range(1, 5001)]
