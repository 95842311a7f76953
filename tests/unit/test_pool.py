"""A pooled connection goes back as it is; what must live with a session has one of its own."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.database import Database, pool
from gateway.database.absence import DatabaseAway
from gateway.jobs import store as jobs
from tests.api.test_redemptions import ORDER, held, post
from tests.conftest import World


@pytest.fixture
async def single(database_url: str) -> AsyncIterator[Database]:
    """A pool of one, so that what comes out is what went in."""
    opened = await Database.connect(database_url, pool_size=1)
    yield opened
    await opened.close()


async def test_nothing_is_asked_of_a_session_when_it_goes_back_to_its_pool(single: Database) -> None:
    async with single.connection() as conn:
        await conn.execute("SET application_name = 'as it was left'")
    async with single.connection() as conn:
        assert await conn.fetchval("SHOW application_name") == "as it was left", "a reset would have cost a round trip"


async def test_who_gets_no_connection_in_time_says_so_and_the_connection_is_not_lost(
    single: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "ACQUIRE_S", 0.05)

    async def ask() -> int:
        async with single.connection() as conn:
            return int(await conn.fetchval("SELECT 1"))

    async with single.connection():
        with pytest.raises(DatabaseAway):
            await ask()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0, "our own cancellation is taken back"
    assert await ask() == 1


async def test_a_cancellation_of_the_caller_while_it_waits_for_a_connection_stays_one(single: Database) -> None:
    async with single.connection():
        waiting = asyncio.create_task(single.connection().__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait((waiting,))
    assert waiting.cancelled()


async def test_a_transaction_that_was_broken_off_is_not_handed_to_the_next(single: Database) -> None:
    class Broken(Exception):
        pass

    async def break_off() -> None:
        async with single.transaction() as conn:
            await conn.execute("INSERT INTO revoked_grant VALUES ('g', 1, 2)")
            raise Broken

    with pytest.raises(Broken):
        await break_off()
    async with single.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM revoked_grant") == 0
        assert not conn.is_in_transaction()


async def test_a_lane_is_free_when_the_session_that_held_it_has_ended(database: Database) -> None:
    async with database.session() as conn:
        assert await jobs.enter_lane(conn, "a lane")
        async with database.session() as other:
            assert not await jobs.enter_lane(other, "a lane")
    async with database.session() as other:
        assert await jobs.enter_lane(other, "a lane")


async def test_requests_leave_every_session_as_it_came(world: World) -> None:
    """asyncpg turns `jit` off and back while it learns types, which is no change."""
    redemption_id = await held(world)
    assert (await post(world, f"/redemptions/{redemption_id}/confirmation", {})).status_code == 201
    assert (await post(world, "/redemptions", {**ORDER, "OrderReference": "again"})).status_code == 409
    await world.customer_token("payments")
    await world.do_chores()
    left = await world.sql(
        """SELECT 'setting ' || name AS what FROM pg_settings WHERE source = 'session' AND setting <> reset_val
           UNION ALL SELECT 'lock ' || objid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
             WHERE l.locktype = 'advisory' AND a.datname = current_database()
           UNION ALL SELECT 'channel ' || pg_listening_channels()
           UNION ALL SELECT 'cursor ' || name FROM pg_cursors WHERE is_holdable
           UNION ALL SELECT 'table ' || relname FROM pg_class WHERE relpersistence = 't' AND relkind = 'r'"""
    )
    assert left == []
