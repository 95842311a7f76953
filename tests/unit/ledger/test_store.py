"""The book in PostgreSQL: the database itself refuses what does not balance, and any change of what is booked."""

from datetime import date

import asyncpg
import pytest

from gateway.database import Database
from gateway.ledger import book
from gateway.ledger.store import Balance, post, trial_balance

DAY = date(2026, 11, 23)
DISCOUNT = book.redemption_confirmed("rdm_1", partner_id="parkco", currency="CNY", legs={"bank": 1199, "partner": 800})
PAYMENT = book.payment_collected("pay_1", partner_id="shopco", currency="CNY", amount_minor=500)


async def test_the_trial_balance_shows_every_account_and_both_sides_are_equal(database: Database) -> None:
    async with database.transaction() as conn:
        await post(conn, [DISCOUNT, PAYMENT], day=DAY, now_ms=1)
    async with database.connection() as conn:
        balances = await trial_balance(conn)
    assert balances == (
        Balance("core_clearing:bank:CNY", "CNY", 500, 0),
        Balance("discount_expense:bank:CNY", "CNY", 1199, 0),
        Balance("funded_receivable:parkco:CNY", "CNY", 800, 0),
        Balance("merchant_clearing:parkco:CNY", "CNY", 0, 1999),
        Balance("merchant_receipts:shopco:CNY", "CNY", 0, 500),
    )
    assert sum(b.debit_minor for b in balances) == sum(b.credit_minor for b in balances)


async def test_balances_can_be_asked_for_days(database: Database) -> None:
    async with database.transaction() as conn:
        await post(conn, [DISCOUNT, PAYMENT], day=DAY, now_ms=1)
    async with database.connection() as conn:
        assert len(await trial_balance(conn, from_day=DAY)) == 5
        assert await trial_balance(conn, to_day=date(2026, 11, 22)) == ()


async def test_a_cause_is_booked_once_ever(database: Database) -> None:
    async with database.transaction() as conn:
        await post(conn, [DISCOUNT], day=DAY, now_ms=1)
    with pytest.raises(asyncpg.UniqueViolationError):
        async with database.transaction() as conn:
            await post(conn, [PAYMENT, DISCOUNT], day=DAY, now_ms=2)
    async with database.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM ledger_entry") == 1


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("INSERT INTO ledger_posting (entry_seq, line, account, amount_minor) VALUES (1, 9, 'tax:bank:CNY', 1)",
         asyncpg.CheckViolationError),
        ("""INSERT INTO ledger_posting (entry_seq, line, account, amount_minor)
            VALUES (1, 8, 'tax:bank:CNY', 1), (1, 9, 'tax:bank:HKD', -1)""", asyncpg.CheckViolationError),
        ("""INSERT INTO ledger_posting (entry_seq, line, account, amount_minor)
            VALUES (999, 1, 'tax:bank:CNY', 1), (999, 2, 'tax:bank:CNY', -1)""", asyncpg.ForeignKeyViolationError),
        ("""INSERT INTO ledger_posting (entry_seq, line, account, amount_minor)
            VALUES (1, 8, 'no account', 1), (1, 9, 'no account', -1)""", asyncpg.CheckViolationError),
        ("UPDATE ledger_posting SET amount_minor = amount_minor * 2", asyncpg.InsufficientPrivilegeError),
        ("DELETE FROM ledger_posting", asyncpg.InsufficientPrivilegeError),
        ("DELETE FROM ledger_entry", asyncpg.InsufficientPrivilegeError),
        ("TRUNCATE ledger_posting", asyncpg.InsufficientPrivilegeError),
    ],
)  # fmt: skip
async def test_the_database_refuses_what_no_book_may_hold(
    database: Database, statement: str, error: type[Exception]
) -> None:
    async with database.transaction() as conn:
        await post(conn, [DISCOUNT], day=DAY, now_ms=1)
    with pytest.raises(error):
        async with database.transaction() as conn:
            await conn.execute(statement)
    async with database.connection() as conn:
        assert await conn.fetchval("SELECT sum(amount_minor) FROM ledger_posting") == 0
        assert await conn.fetchval("SELECT count(*) FROM ledger_posting") == 3
