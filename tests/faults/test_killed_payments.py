"""A process that is killed while it collects: what the bank has done is found by asking, and nothing is done twice."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.database import Database
from gateway.payments.paying import FIRST_TRY_MS
from tests.faults.payer import MINOR
from tests.tills import Takings, open_takings, vrp_body

ROOT = Path(__file__).parents[2]
WIDE = vrp_body(("Year", "Consent", "9000.00"), ("Day", "Calendar", "5000.00"))


@pytest.fixture
async def takings(database: Database) -> AsyncIterator[Takings]:
    bank_database = await Database.connect(database.url, pool_size=4)
    yield await open_takings(database, bank_database)
    await bank_database.close()


async def payer(takings: Takings, mandate_id: str, *, dies: str, payments: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.payer", takings.database.url, mandate_id, dies, str(payments),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def statuses(takings: Takings) -> dict[str, str]:
    return {row["payment_id"]: row["status"] for row in await takings.sql("SELECT payment_id, status FROM payment")}


async def bank_orders(takings: Takings) -> dict[str, str]:
    rows = await takings.sql("SELECT order_id, status FROM sandbox_bank.bank_order")
    return {row["order_id"]: row["status"] for row in rows}


@pytest.mark.parametrize(
    ("dies", "carried_out", "status"), [("after", {"pay_0": "ACSC"}, "ACSC"), ("before", {}, "RJCT")]
)
async def test_a_payment_whose_process_died_around_the_banks_call_is_settled_by_asking(
    takings: Takings, dies: str, carried_out: dict[str, str], status: str
) -> None:
    mandate = await takings.mandate(WIDE)
    process = await payer(takings, mandate.consent_id, dies=dies, payments=1)
    said, _ = await process.communicate()
    assert (process.returncode, said) == (-signal.SIGKILL, b"")
    assert (await statuses(takings), await bank_orders(takings)) == ({"pay_0": "PDNG"}, carried_out)
    assert await takings.settle(after_ms=FIRST_TRY_MS) == 1
    await takings.settle_for_good()
    moved = MINOR * len(carried_out)
    assert (await statuses(takings), await bank_orders(takings)) == ({"pay_0": status}, carried_out)
    assert (await takings.spent(), await takings.booked(), await takings.used()) == (moved, moved, [moved, moved])
    assert await takings.settle(after_ms=3_600_000) == 0


async def test_a_worker_killed_in_the_middle_of_its_work_leaves_every_book_equal(takings: Takings) -> None:
    mandate = await takings.mandate(WIDE)
    process = await payer(takings, mandate.consent_id, dies="never", payments=200)
    assert process.stdout is not None
    early = [await process.stdout.readline() for _ in range(25)]  # well into its work, then the plug is pulled
    process.send_signal(signal.SIGKILL)
    late, _ = await process.communicate()
    answered = dict(line.split() for line in b"".join([*early, late]).decode().splitlines() if line.endswith("ACSC"))
    while "PDNG" in (await statuses(takings)).values():  # a run asks for some of them
        await takings.settle_for_good()
    found, orders = await statuses(takings), await bank_orders(takings)
    assert "PDNG" not in found.values()
    assert all(found[payment_id] == status for payment_id, status in answered.items())
    settled = {payment_id for payment_id, status in found.items() if status == "ACSC"}
    assert settled == orders.keys(), "the bank has carried out what we say it has, and nothing else"
    assert len(settled) >= 25
    moved = MINOR * len(settled)
    assert (await takings.spent(), await takings.booked(), await takings.used()) == (moved, moved, [moved, moved])
    assert (await takings.events()).count("payment.completed") == len(settled)
