"""What programs wrote that knew nothing of who can have brought a customer is found all the same (migration 0025)."""

import secrets
from pathlib import Path

import asyncpg
import pytest

from gateway.database import migrate as migrating
from gateway.database.migrate import migrate
from tests.conftest import with_database
from tests.faults.referral_room import DAY, NOW, PHONES, Room, open_room

_CLAIM = """INSERT INTO referral_claim (partner_id, claim_id, customer_token, witness, state, recorded_at_ms,
                                        last_told_ms, last_batch_id, told_until_ms, expires_at_ms)
            VALUES ($1, $2, $3, 'partner', 'ELIGIBLE', $4, $4, 'b', $5, $5)"""
_TOUCH = """INSERT INTO referral_touch (partner_id, claim_id, evidence, occurred_at_ms, recorded_at_ms, consent_ref,
                                        site, campaign, batch_id, row_no)
            VALUES ($1, $2, 'batch', $3, $3, 'c', '', '', $2, 1)"""
_BATCH = """INSERT INTO referral_batch (batch_id, partner_id, out_number, row_count, file_sha256, control_total, state,
                                        declared_at_ms, received_at_ms)
            VALUES ($1, 'parkco', $1, 1, sha256(convert_to($1, 'UTF8')), 1, $2, $3, $4)"""
_ROW = "INSERT INTO referral_row VALUES ($1, 1, $2, 'c', '2026-09-14T08:00:00Z', '')"


async def touch(room: Room, partner_id: str, phone: str, claim_id: str, *, at_ms: int) -> None:
    """As a program of before wrote one."""
    token = await room.token(partner_id, phone)
    await room.sql(_CLAIM, partner_id, claim_id, token, at_ms, at_ms + 30 * DAY)
    await room.sql(_TOUCH, partner_id, claim_id, at_ms)


async def outcome(room: Room, phone: str) -> object:
    room.feed.add("ACCOUNT_OPENED", phone, at_ms=NOW + 1)
    await room.goals.attribute_goals_due(NOW + 2)
    found = await room.sql("SELECT outcome FROM referral_goal WHERE customer_id = $1", f"cus-{phone}")
    return found[0]["outcome"]


async def test_touches_and_files_from_before_the_migration_are_found(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"t_{secrets.token_hex(6)}"
    admin, url = await asyncpg.connect(server_url), with_database(server_url, name)
    await admin.execute(f"CREATE DATABASE {name}")
    try:
        with monkeypatch.context() as before:
            for file in migrating._FOLDER.glob("*.sql"):
                if file.name < "0025":
                    (tmp_path / file.name).write_bytes(file.read_bytes())
            before.setattr(migrating, "_FOLDER", tmp_path)
            migrate(url)
        async with open_room(url) as room:
            await touch(room, "shopco", PHONES[0], "clm_old", at_ms=NOW - DAY)
            await touch(room, "shopco", PHONES[1], "clm_older", at_ms=NOW - 29 * DAY)
            await room.sql(_BATCH, "rbt_old", "RECEIVED", NOW - 1, NOW)
            await room.sql(_ROW, "rbt_old", await room.token("parkco", PHONES[2]))
        assert "0025.who-can-have-brought" in migrate(url)
        async with open_room(url) as room:
            assert await room.sql("SELECT * FROM referral_span") == [
                {"partner_id": "shopco", "first_recorded_ms": NOW - 29 * DAY, "last_occurred_ms": NOW - DAY}
            ]
            assert [await outcome(room, phone) for phone in PHONES[:4]] == [
                "owned", "owned", "waits_for_owner", "nobody",
            ]  # fmt: skip
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def test_what_an_older_program_writes_beside_this_one_is_found(room: Room) -> None:
    """During an upgrade both serve: the tables themselves keep what this program asks for."""
    assert await outcome(room, PHONES[5]) == "nobody"
    await touch(room, "shopco", PHONES[0], "clm_beside", at_ms=NOW - DAY)
    await room.sql(_BATCH, "rbt_beside", "DECLARED", NOW - 1, None)
    await room.sql(_ROW, "rbt_beside", await room.token("parkco", PHONES[1]))
    await room.sql("UPDATE referral_batch SET state = 'RECEIVED', received_at_ms = $1", NOW)
    assert [await outcome(room, phone) for phone in PHONES[:3]] == ["owned", "waits_for_owner", "nobody"]
