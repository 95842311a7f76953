"""A database session that is dropped, at whatever moment: the feed hears again, the chores go on, nobody is misled."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import httpx
import pytest

from gateway import metrics, watched
from gateway.chores import LEADER, BackOffice, Chore
from gateway.database import Database
from gateway.database.changes import ChangeFeed
from gateway.health import PICTURE_AGE_S
from gateway.partners.snapshot import DOOR_LIMIT_S
from tests.conftest import CONSENTS, World

PATIENCE_S = 20.0
BITE_S = 1.5  # a suspension after its commit, with a session to be made anew
CAMPAIGNS = "/partner/v1/campaigns"
FEED = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%FROM change%' AND datname = $1"
LOCK = """SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND granted
          AND database = (SELECT oid FROM pg_database WHERE datname = $2)"""


@pytest.fixture(autouse=True)
def no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should a task end unasked, it is this test that fails, not pytest that ends."""
    monkeypatch.setattr(watched.ways, "end_process", lambda: pytest.fail("a watched task ended"))


@asynccontextmanager
async def admin(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    name = url.partition("?")[0].rpartition("/")[2]
    conn = await asyncpg.connect(url.replace(f"/{name}", "/postgres").replace("role=gateway", "role=none"))
    try:
        yield conn
    finally:
        await conn.close()


def name_of(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


async def until(question: Callable[[], Awaitable[bool]], within_s: float = PATIENCE_S) -> None:
    async with asyncio.timeout(within_s):
        while not await question():  # noqa: ASYNC110 - another process or task brings it about
            await asyncio.sleep(0.02)


async def test_a_suspension_bites_after_the_feeds_session_was_dropped(world: World) -> None:
    """Dropped again and again, so that some query starts between the server's FATAL and the socket's end."""
    client, feed = world.client("parkco"), world.house.foundation.feed
    await client.token()
    async with admin(world.url) as conn:
        for _ in range(10):
            world.clock.s += 1
            await until(lambda: _is(feed.age_s < 1))
            assert await conn.execute(FEED, name_of(world.url))
            feed._wake.set()
    assert (await client.call("GET", CAMPAIGNS)).status_code == 200
    done = await world.ops("ops-maker", "POST", "/admin/v1/partners/parkco/suspension", json={"Reason": "test"})
    assert done.status_code == 200
    await until(lambda: _is_refused(world), BITE_S)


async def _is(what: bool) -> bool:
    return what


async def _is_refused(world: World) -> bool:
    return (await world.client("parkco").call("GET", CAMPAIGNS)).status_code == 403


async def test_a_feed_whose_query_meets_the_end_of_its_session_hears_again(database: Database) -> None:
    """What asyncpg raises then is a plain Exception. It ended the feed for good: nothing was heard any more."""
    feed = ChangeFeed(database)
    heard = asyncio.Event()
    raised = [asyncpg.InternalClientError("got result for unknown protocol state 3")]

    async def subscriber(_: object) -> None:
        if raised:
            raise raised.pop()
        heard.set()

    feed.subscribe(subscriber)
    await feed.start()
    try:
        async with database.transaction() as conn:
            await conn.execute("INSERT INTO change (kind, key, at_ms) VALUES ('partner', 'metro', 1)")
        async with asyncio.timeout(PATIENCE_S):
            await heard.wait()
    finally:
        await feed.stop()


async def test_the_picture_is_fresh_while_every_connection_of_the_pool_is_taken(world: World) -> None:
    """The feed has a session of its own: a suspension must bite while the gateway is overloaded, above all then."""
    feed, pool = world.house.foundation.feed, world.house.database._pool
    taken = [await pool.acquire() for _ in range(pool.get_max_size())]
    try:
        world.clock.s += DOOR_LIMIT_S + 1
        await until(lambda: _is(feed.age_s < PICTURE_AGE_S))
    finally:
        for conn in taken:
            await pool.release(conn)


async def test_an_old_picture_is_not_ready_and_an_older_one_serves_nobody(world: World) -> None:
    client, feed = world.client("parkco"), world.house.foundation.feed
    await client.token()
    await feed.stop()
    world.clock.s += PICTURE_AGE_S + 0.1
    ready = await world.http.get("/readyz")
    assert (ready.status_code, ready.json()["missing"]) == (503, "changes")
    assert (await world.http.get("/healthz")).status_code == 200
    assert (await client.call("GET", CAMPAIGNS)).status_code == 200  # not for long
    world.clock.s += DOOR_LIMIT_S - PICTURE_AGE_S
    refused = await client.call("GET", CAMPAIGNS)
    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (
        503, "configuration_stale", "1",
    )  # fmt: skip
    assert (await world.http.get("/readyz")).status_code == 503
    await nobody_is_served(world, world.http.get)
    await feed.catch_up()
    assert (await world.http.get("/readyz")).status_code == 200
    assert (await client.call("GET", CAMPAIGNS)).status_code == 200


async def nobody_is_served(world: World, get: Callable[[str], Awaitable[httpx.Response]]) -> None:
    """Neither partners under Open Banking's manners, nor operators, nor who looks at the console; 500 is for bugs."""
    token = await world.client("parkco").token()
    ob = await world.client("parkco").call("GET", f"{CONSENTS['accounts'][1]}/unknown", token=token)
    ops = await world.ops("ops-maker", "GET", "/admin/v1/jobs")
    page = await get("/console")
    assert [(answer.status_code, answer.headers["retry-after"]) for answer in (ob, ops, page)] == [(503, "1")] * 3
    assert ob.json()["Code"] == "503 configuration_stale"
    assert ops.json()["code"] == "configuration_stale"


async def test_the_chores_go_on_after_their_leaders_session_was_dropped(database: Database) -> None:
    """And nobody says meanwhile that somebody does them: the gauge stayed 1 for ever."""
    runs = 0

    async def count(_: int) -> int:
        nonlocal runs
        runs += 1
        return 0

    async with admin(database.url) as conn, BackOffice(database, [Chore("count", 0.02, count)]).working():
        for _ in range(2):
            before = runs
            await until(lambda before=before: _is(runs > before + 1))  # type: ignore[misc]
            assert shown_leader() == 1
            assert await conn.fetch(LOCK, LEADER, name_of(database.url))
            await until(lambda: _is(shown_leader() == 0))
    assert shown_leader() == 0


def shown_leader() -> float:
    page = metrics._own_page().decode()
    return next(float(line.split()[-1]) for line in page.splitlines() if line.startswith("parasol_chore_leader "))


async def test_a_leader_whose_question_meets_the_end_of_its_session_stands_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = asyncio.Event()
    raised = [asyncpg.InternalClientError("got result for unknown protocol state 3")]
    office = BackOffice(database, [])
    stand = office._stand

    async def stand_badly() -> None:
        if raised:
            raise raised.pop()
        ran.set()
        await stand()

    monkeypatch.setattr(office, "_stand", stand_badly)
    async with asyncio.timeout(PATIENCE_S), office.working():
        await ran.wait()
