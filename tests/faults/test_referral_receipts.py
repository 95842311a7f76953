"""A file and a goal at the same moment: whichever is first, nobody is paid by the order in which they are told."""

import asyncio

import pytest

from gateway.database import Connection
from gateway.referrals.model import Batch
from gateway.referrals.store import batches
from tests.faults.referral_room import NOW, PHONES, Room, row, states

_WAITING = """SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
              WHERE NOT granted AND datname = current_database()"""


async def test_a_file_that_a_goal_could_not_wait_for_was_received_after_it(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The goal is judged while the rows of a file that came before the person joined are still being written."""
    keep_rows = batches.keep_rows

    async def meanwhile(conn: Connection, batch: Batch) -> None:
        await keep_rows(conn, batch)
        assert await room.goals.attribute_goals_due(NOW + 3) == 1

    monkeypatch.setattr(batches, "keep_rows", meanwhile)
    room.feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW + 2)
    received = await room.send([row(await room.token("parkco", PHONES[0]))])
    assert received.received_at_ms == NOW + 2, "not before a person whom it would have brought, and did not"
    await room.batches.apply_batches_due(NOW + 4)
    room.feed.add("CARD_ACTIVATED", PHONES[0], at_ms=NOW + 5)
    await room.goals.attribute_goals_due(NOW + 6)
    assert {one["outcome"] for one in await room.sql("SELECT outcome FROM referral_goal")} == {"nobody"}
    assert await room.sql("SELECT state, reason FROM referral_claim") == [
        {"state": "EXCLUDED", "reason": "had_account"}
    ]


async def test_a_file_that_no_goal_crossed_was_received_when_it_came(room: Room) -> None:
    room.feed.add("ACCOUNT_OPENED", PHONES[1], at_ms=NOW - 1)
    await room.goals.attribute_goals_due(NOW)
    assert (await room.send([row(await room.token("parkco", PHONES[0]))])).received_at_ms == NOW


async def test_a_goal_that_is_told_while_a_receipt_is_committed_waits_for_the_file(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    correct_receipt = batches.correct_receipt
    judging: list[asyncio.Task[int]] = []

    async def meanwhile(conn: Connection, batch: Batch, *, received_at_ms: int) -> None:
        await correct_receipt(conn, batch, received_at_ms=received_at_ms)
        judging.append(asyncio.create_task(room.goals.attribute_goals_due(NOW + 3)))
        async with asyncio.timeout(20):
            while not await room.sql(_WAITING):
                pass

    monkeypatch.setattr(batches, "correct_receipt", meanwhile)
    room.feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW + 2)
    received = await room.send([row(await room.token("parkco", PHONES[0]))])
    assert await judging[0] == 1
    assert received.received_at_ms == NOW
    assert [one["outcome"] for one in await room.sql("SELECT outcome FROM referral_goal")] == ["waits_for_owner"]
    await room.batches.apply_batches_due(NOW + 4)
    await room.goals.attribute_goals_due(NOW + 5)
    assert await states(room) == {"parkco": "OWNING"}
