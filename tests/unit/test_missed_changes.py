"""Old changes are dropped, and whoever has not read them knows."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway import watched
from gateway.database import Database
from gateway.database.changes import CHANGES, ChangeFeed, ChangesMissed, announce
from tests.desks import NOW_MS
from tests.unit.test_retention import DAY_MS, run, set_clock


async def test_old_changes_go_and_the_newest_stays_for_who_comes_to_read_on(bare_database: Database) -> None:
    for number, at_ms in enumerate((NOW_MS, NOW_MS + 1, NOW_MS + 2)):
        async with bare_database.transaction() as conn:
            await announce(conn, "partner", f"p{number}", now_ms=at_ms)
    feed = ChangeFeed(bare_database)
    await feed.catch_up()
    await set_clock(bare_database, NOW_MS + 3 * DAY_MS)
    for _ in range(3):
        await run(bare_database, [CHANGES], NOW_MS + 3 * DAY_MS)
    async with bare_database.connection() as conn:
        assert [row["key"] for row in await conn.fetch("SELECT key FROM change")] == ["p2"]
    heard: list[str] = []

    async def hear(changes: Sequence[object]) -> None:
        heard.extend(change.key for change in changes)  # type: ignore[attr-defined]

    feed.subscribe(hear)
    async with bare_database.transaction() as conn:
        await announce(conn, "partner", "p3", now_ms=NOW_MS)
    await feed.catch_up()
    assert heard == ["p3"]


async def test_a_worker_that_slept_through_changes_which_are_gone_ends(
    bare_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could serve a suspended partner for ever."""
    ended: list[bool] = []
    monkeypatch.setattr(watched.ways, "end_process", lambda: ended.append(True))
    feed = ChangeFeed(bare_database)
    async with bare_database.transaction() as conn:
        await announce(conn, "partner", "before", now_ms=NOW_MS)
    await feed.catch_up()
    for name in ("missed", "missed too"):
        async with bare_database.transaction() as conn:
            await announce(conn, "partner", name, now_ms=NOW_MS)
    await set_clock(bare_database, NOW_MS + 3 * DAY_MS)
    for _ in range(2):
        await run(bare_database, [CHANGES], NOW_MS + 3 * DAY_MS)
    with pytest.raises(ChangesMissed):
        await feed.catch_up()
    assert ended == [True]


async def test_readers_of_one_feed_at_once_miss_nothing_and_end_nothing(
    bare_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched.ways, "end_process", lambda: pytest.fail("nothing was missed"))
    feed = ChangeFeed(bare_database)
    for number in range(5):
        async with bare_database.transaction() as conn:
            await announce(conn, "partner", f"p{number}", now_ms=NOW_MS)
        await asyncio.gather(*(feed.catch_up() for _ in range(4)))
    async with bare_database.connection() as conn:
        assert feed.seen_seq == await conn.fetchval("SELECT max(seq) FROM change")
