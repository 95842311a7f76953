"""What the database itself refuses, whoever asks: changed orders, second outcomes, overspent limits, unequal books."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from gateway.database import Database
from tests.tills import Takings, open_takings


@pytest.fixture
async def takings(bare_database: Database) -> AsyncIterator[Takings]:
    """One settled payment of 12.50, pay_1, and a refund of 2.50, rfd_1."""
    bank_database = await Database.connect(bare_database.url, pool_size=2)
    opened = await open_takings(bare_database, bank_database)
    mandate = await opened.mandate()
    await opened.collect(mandate.consent_id, 1_250, payment_id="pay_1")
    await opened.refund("pay_1", 250, refund_id="rfd_1")
    yield opened
    await bank_database.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE payment SET status = 'RJCT'",
        "UPDATE payment SET status = 'PDNG'",
        "UPDATE payment SET amount_minor = 1",
        "UPDATE payment SET creditor_account = 'shopco-settlement'",
        "UPDATE payment SET debtor_account_id = 'acc_other'",
        "UPDATE payment SET partner_id = 'shopco'",
        "UPDATE payment SET refunded_minor = 1251",
        "UPDATE payment SET refunded_minor = -1",
        "UPDATE payment_refund SET status = 'RJCT'",
        "UPDATE payment_refund SET amount_minor = 1",
        "UPDATE payment_usage SET used_minor = limit_minor + 1",
        "UPDATE payment_usage SET used_minor = -1",
    ],
)
async def test_what_was_ordered_and_decided_stays(takings: Takings, change: str) -> None:
    before = await takings.sql("SELECT p.*, r.*, u.* FROM payment p, payment_refund r, payment_usage u")
    with pytest.raises((asyncpg.RestrictViolationError, asyncpg.CheckViolationError)):
        await takings.sql(change)
    assert await takings.sql("SELECT p.*, r.*, u.* FROM payment p, payment_refund r, payment_usage u") == before


async def test_a_payment_that_has_not_settled_has_nothing_given_back(takings: Takings) -> None:
    await takings.fault("pend")
    await takings.collect((await takings.mandate()).consent_id, 100, payment_id="pay_2")
    with pytest.raises(asyncpg.CheckViolationError):
        await takings.sql("UPDATE payment SET refunded_minor = 1 WHERE payment_id = 'pay_2'")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE sandbox_bank.account SET balance_minor = -1 WHERE NOT overdraft",
        """INSERT INTO sandbox_bank.movement
             (movement_id, account_id, amount_minor, balance_minor, booked_ms, information)
           SELECT 'm', account_id, 5, 5, 0, '' FROM sandbox_bank.account LIMIT 1""",
        "UPDATE sandbox_bank.bank_order SET refunded_minor = amount_minor + 1",
    ],
    ids=["below zero", "one side only", "refunds above the payment"],
)
async def test_the_sandbox_bank_keeps_its_own_book_equal(takings: Takings, change: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await takings.sql(change)
