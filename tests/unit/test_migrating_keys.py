"""Keys of before decision 28 stand for the same requests after it: a retry across the upgrade has no second effect."""

import hashlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

import gateway.database.migrate
from gateway.database import Connection
from tests.conftest import with_database

MIGRATIONS = sorted((Path(gateway.database.migrate.__file__).parent / "migrations").glob("*.sql"))
THIS = next(path for path in MIGRATIONS if path.name.startswith("0026."))
WHOLE = hashlib.sha256(b"POST /somewhere\n{}").digest()
REDEMPTION = """
INSERT INTO redemption (redemption_id, partner_id, contract_id, contract_version, discount_id, state, currency,
    order_minor, held_minor, discount_minor, reversed_minor, order_reference, hold_key, occurred_at_ms, held_at_ms,
    expires_ms, changed_at_ms, counter_names, counter_takes, funding)
VALUES ($1, 'parkco', 'c', 1, 'd', $2, 'CNY', 100, 100, $3, 0, $1, $4, 1, 1, 1, 1, '{}', '{}', $5)"""


@pytest.fixture
async def old(server_url: str) -> AsyncIterator[Connection]:
    """A database as it was before."""
    name = f"t_{secrets.token_hex(6)}"
    admin = await asyncpg.connect(server_url)
    await admin.execute(f"CREATE DATABASE {name}")
    conn = await asyncpg.connect(with_database(server_url, name))
    for path in MIGRATIONS[: MIGRATIONS.index(THIS)]:
        await conn.execute(path.read_text())
    yield conn
    await conn.close()
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


async def keep(conn: Connection, operation: str, key: str, resource_id: str) -> None:
    await conn.execute(
        "INSERT INTO idempotency VALUES ('parkco', $1, $2, $3, $4, 1)", operation, key, WHOLE, resource_id
    )  # fmt: skip


async def test_keys_of_redemptions_move_to_what_they_made(old: Connection) -> None:
    await old.execute(REDEMPTION, "rdm_1", "CONFIRMED", 100, "k", "{}")
    await old.execute(REDEMPTION, "rdm_2", "HELD", 0, "k", None)  # of a charge: the same key at another operation
    await old.execute(REDEMPTION, "rdm_3", "HELD", 0, "", None)  # from before holds kept their key
    await old.execute(REDEMPTION, "rdm_4", "HELD", 0, "", None)
    for operation, resource_id in (
        ("HoldRedemption", "rdm_1"), ("ConfirmRedemption", "rdm_1"), ("ReverseRedemption", "rdm_1"),
        ("ChargeParking.hold", "rdm_2"), ("Charge.undo", "rdm_2"), ("domesticVrpPost", "pay_1"),
    ):  # fmt: skip
        await keep(old, operation, "k", resource_id)
    async with old.transaction():
        await old.execute(THIS.read_text())
    holds = await old.fetch("SELECT hold_operation, hold_key, hold_request FROM redemption ORDER BY redemption_id")
    assert [tuple(row) for row in holds] == [
        ("", "k", WHOLE[:16]), ("ChargeParking.hold", "k", WHOLE[:16]), ("unknown rdm_3", "", b""),
        ("unknown rdm_4", "", b""),
    ]  # fmt: skip
    steps = await old.fetch(
        "SELECT key, operation, redemption_id, request_hash FROM redemption_step ORDER BY operation"
    )
    assert [tuple(row) for row in steps] == [
        ("k", "Charge.undo", "rdm_2", WHOLE[:16]), ("k", "ConfirmRedemption", "rdm_1", WHOLE[:16]),
        ("k", "ReverseRedemption", "rdm_1", WHOLE[:16]),
    ]  # fmt: skip
    left = await old.fetch("SELECT operation, request_hash, resource_id FROM idempotency")
    assert [tuple(row) for row in left] == [("domesticVrpPost", WHOLE[:16], "pay_1")]


async def test_keys_of_parking_move_to_what_they_made(old: Connection) -> None:
    await old.execute("SET session_replication_role = replica")
    await old.execute(
        """INSERT INTO parking_session VALUES ('prk_1', 'parkco', 'lot-1', 'p', 'p', 'vag_1', 'LEFT', NULL, 1, 2, 1, 1);
           INSERT INTO parking_charge (charge_id, session_id, partner_id, state, currency, fee_minor, discount_minor,
               payment_id, mandate_id, creditor_account, next_try_ms, created_at_ms, changed_at_ms)
           VALUES ('chg_1', 'prk_1', 'parkco', 'SUCCESS', 'CNY', 100, 0, 'pay_1', 'cns_1', 'acc', 1, 1, 1);
           INSERT INTO parking_refund (refund_id, charge_id, partner_id, state, amount_minor, cash_minor,
               discount_minor, next_try_ms, created_at_ms, changed_at_ms)
           VALUES ('rfd_1', 'chg_1', 'parkco', 'SUCCESS', 1, 1, 0, 1, 1, 1),
                  ('rfd_2', 'chg_1', 'parkco', 'SUCCESS', 1, 1, 0, 1, 1, 1)"""
    )
    for operation, key, resource_id in (
        ("EnterParking", "in", "prk_1"), ("ChargeParking", "out", "chg_1"), ("RefundParkingCharge", "back", "rfd_1"),
    ):  # fmt: skip
        await keep(old, operation, key, resource_id)
    async with old.transaction():
        await old.execute(THIS.read_text())
    found = []
    for table in ("parking_session", "parking_charge", "parking_refund"):
        found += await old.fetch(f"SELECT idempotency_key, request_hash FROM {table} ORDER BY idempotency_key")
    assert [tuple(row) for row in found] == [
        ("in", WHOLE[:16]), ("out", WHOLE[:16]), ("back", WHOLE[:16]), ("rfd_2", b""),
    ]  # fmt: skip
    assert await old.fetchval("SELECT count(*) FROM idempotency") == 0
