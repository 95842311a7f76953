"""A database that is gone, frozen or full: 503, when to try again, and the same key; 500 is for bugs alone."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest

from gateway.call import DEADLINE_S, Protocol
from gateway.corebank.port import CoreBankUnavailable
from gateway.database import pool
from gateway.database.absence import DatabaseAbsent, DatabaseAway, absence
from gateway.database.gather import Gatherer
from gateway.edge import Table
from gateway.health import PICTURE_AGE_S
from gateway.oauth.visit import REQUEST_URI
from gateway.problem import UnexpectedFailure, render
from gateway.refusal import Refusal
from tests.api.test_redemptions import ORDER, post
from tests.api.vrp_calls import MANDATE, MANDATES
from tests.conftest import CONSENTS, ISSUER, World

CONSENT_PATH, CONSENT = CONSENTS["accounts"][1:]
READY_S = 2.0  # a balancer's probe waits no longer
HURRY_S = 0.3


def name_of(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


@asynccontextmanager
async def nobody_may_connect(world: World) -> AsyncIterator[None]:
    """All sessions are ended and no new one is let in, as while a server shuts down and starts again."""
    name = name_of(world.url)
    admin = await asyncpg.connect(world.url.replace(f"/{name}", "/postgres"))
    try:
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", name)
        yield
    finally:
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await admin.close()


def try_again(answer: httpx.Response) -> None:
    """503, when, and whose request it was."""
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert len(answer.headers["x-fapi-interaction-id"]) == 36


async def test_without_a_database_every_protocol_says_to_try_again_with_the_same_key(world: World) -> None:
    client = world.client("parkco")
    token = await client.token()
    async with nobody_may_connect(world):
        own = await client.call("POST", "/partner/v1/redemptions", token=token, body={"Data": ORDER}, key="k")
        ob = await client.call("POST", CONSENT_PATH, token=token, body=CONSENT)
        ops = await world.ops("ops-maker", "GET", "/admin/v1/jobs")
        form = {"grant_type": "client_credentials", "scope": "discounts", **client.assertion()}
        proof = client.proof("POST", f"{ISSUER}/oauth/token")
        oauth = await world.http.post("/oauth/token", data=form, headers={"DPoP": proof})
        pushed = {"client_id": "parkco-server", "request_uri": f"{REQUEST_URI}{'a' * 43}"}
        page = await world.http.get("/oauth/authorize", params=pushed)
        for answer in (own, ob, ops, oauth, page):
            try_again(answer)
    for problem in (own, ops):
        assert problem.headers["content-type"] == "application/problem+json"
        assert problem.json()["code"] == "retry_with_same_key"
    assert (ob.json()["Code"], ob.json()["Errors"][0]["ErrorCode"]) == ("503 retry_with_same_key", "D034")
    assert oauth.json()["error"] == "temporarily_unavailable"
    assert page.headers["content-type"].startswith("text/html")
    made = await client.call("POST", "/partner/v1/redemptions", token=token, body={"Data": ORDER}, key="k")
    assert made.status_code == 201


AWAY = ("53100", "53200", "53300", "58030", "25006", "40001", "40P01", "55P03", "57014", "57P01", "57P03", "08006")


@pytest.mark.parametrize(("state", "times", "status"), [("40P01", 2, 201), ("40001", 2, 201), ("40P01", 3, 503)])
async def test_a_request_whose_transaction_gave_way_is_carried_out_again_a_few_times(
    world: World, state: str, times: int, status: int
) -> None:
    """Who gives way was rolled back for certain; a caller with a key would be told to send the same again."""
    client = world.client("parkco")
    async with failing(world, "consent", state, times=times):
        made = await client.call("POST", MANDATES, body=MANDATE, sign="jws", key="k")
    assert made.status_code == status, made.text
    again = await client.call("POST", MANDATES, body=MANDATE, sign="jws", key="k")
    assert again.status_code == 201
    if status == 201:
        assert again.json()["Data"]["ConsentId"] == made.json()["Data"]["ConsentId"]


async def test_without_a_key_it_is_not_carried_out_again(world: World) -> None:
    client = world.client("parkco")
    async with failing(world, "consent", "40P01", times=1):
        answer = await client.call("POST", CONSENT_PATH, body=CONSENT)
    try_again(answer)


BUGS = ("22012", "42703", "23514", "XX000")


async def change_tables(world: World, *statements: str) -> None:
    """As whoever installs the database: the gateway's own role may change no table."""
    admin = await asyncpg.connect(world.url)
    try:
        for statement in statements:
            await admin.execute(statement)
    finally:
        await admin.close()


@asynccontextmanager
async def failing(world: World, table: str, state: str, *, times: int = 1_000) -> AsyncIterator[None]:
    """Whoever writes into the table gets this of PostgreSQL's errors, so many times."""
    await change_tables(
        world,
        "CREATE SEQUENCE failures",  # which no rollback takes back
        "GRANT ALL ON SEQUENCE failures TO PUBLIC",
        f"CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF nextval('failures') <= {times} THEN RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = 'test'; END IF; "
        f"RETURN NEW; END $$",
        f"CREATE TRIGGER fail BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fail()",
    )
    try:
        yield
    finally:
        await change_tables(world, "DROP FUNCTION fail() CASCADE", "DROP SEQUENCE failures")


@pytest.mark.parametrize("state", AWAY)
async def test_what_is_the_server_s_trouble_is_answered_with_503(shared_world: World, state: str) -> None:
    async with failing(shared_world, "redemption", state):
        answer = await post(shared_world, "/redemptions", ORDER)
    try_again(answer)
    assert answer.json()["code"] == "retry_with_same_key"


@pytest.mark.parametrize("state", BUGS)
async def test_what_is_our_bug_is_answered_with_500(shared_world: World, state: str) -> None:
    client = shared_world.client("parkco")
    async with failing(shared_world, "consent", state):
        answer = await client.call("POST", CONSENT_PATH, body=CONSENT)
    assert (answer.status_code, answer.json()["Code"]) == (500, "500 gateway_error")
    assert absence(ValueError()) is None


def test_no_rule_says_500_in_any_protocol_and_an_absent_core_bank_says_when_to_come_again() -> None:
    """`configuration_stale` and an absent core bank were 500 on Open Banking paths, as bugs are."""
    said = {kind.code for kind in all_kinds(Refusal) if 500 in (kind.status, kind.ob_status, kind.oauth_status)}
    assert said == {UnexpectedFailure.code}
    for protocol in (Protocol.OB, Protocol.OWN, Protocol.OAUTH):
        told = render(CoreBankUnavailable(), protocol=protocol, interaction_id="i")
        assert (told.status, dict(told.headers)["retry-after"]) == (503, "5")


def test_whoever_is_told_that_we_cannot_now_is_told_when_to_come_again() -> None:
    """The login page's bank that did not answer was a 503 without a word of when."""
    ours = [kind for kind in all_kinds(Refusal) if kind.__module__.startswith("gateway.")]
    unavailable = [kind for kind in ours if 503 in (kind.status, kind.ob_status, kind.oauth_status)]
    assert len(unavailable) > 4
    assert [kind.__name__ for kind in unavailable if kind.retry_after_s is None] == []


def all_kinds(kind: type[Refusal]) -> set[type[Refusal]]:
    return {kind}.union(*map(all_kinds, kind.__subclasses__()))


async def test_a_full_disk_shows_where_balancers_and_dashboards_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with failing(world, "redemption", "53100"):
        try_again(await post(world, "/redemptions", ORDER))
        ready = await world.http.get("/readyz")
        assert (ready.status_code, ready.json()["missing"]) == (503, "disk")
        assert "parasol_disk_full 1.0" in (await world.http.get("/metrics")).text.splitlines()
        assert (await world.http.get("/healthz")).status_code == 200
    monkeypatch.setattr(pool, "DISK_FULL_S", 0.0)  # time goes by
    assert (await world.http.get("/readyz")).status_code == 200
    assert "parasol_disk_full 0.0" in (await world.http.get("/metrics")).text.splitlines()
    assert (await post(world, "/redemptions", ORDER)).status_code == 201


async def test_a_home_without_room_is_not_ready(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.rooms.HOME_FREE_BYTES", 1 << 62)
    ready = await world.http.get("/readyz")
    assert (ready.status_code, ready.json()["missing"]) == (503, "disk")


async def test_a_session_that_is_ended_in_the_middle_is_503_and_the_next_request_has_another(world: World) -> None:
    client = world.client("parkco")
    token = await client.token()
    other = await asyncpg.connect(world.url)
    async with other.transaction():
        await other.execute("LOCK TABLE consent IN ACCESS EXCLUSIVE MODE")
        asking = asyncio.create_task(client.call("GET", f"{CONSENT_PATH}/unknown", token=token))
        ended = False
        while not ended:
            ended = await other.fetchval(
                """SELECT coalesce(bool_or(pg_terminate_backend(pid)), false) FROM pg_stat_activity
                   WHERE wait_event_type = 'Lock' AND datname = current_database()"""
            )
            await other.execute("SELECT pg_sleep(0.01)")
        try_again(await asking)
    await other.close()
    assert (await client.call("GET", f"{CONSENT_PATH}/unknown", token=token)).status_code == 400


async def test_a_batch_without_a_database_fails_as_one_and_not_row_by_row() -> None:
    """Each row would wait for a connection in vain, one after the other."""
    asked: list[int] = []

    async def decide(batch: Sequence[int]) -> Sequence[int | Refusal]:
        asked.append(len(batch))
        await asyncio.sleep(0)
        raise DatabaseAway

    gatherer: Gatherer[int, int] = Gatherer(decide)
    answers = await asyncio.gather(*(gatherer.submit(number) for number in range(50)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {DatabaseAway}
    assert sum(asked) == 50
    assert isinstance(absence(DatabaseAway()), DatabaseAbsent)


@contextmanager
def frozen(home: Path) -> Iterator[None]:
    """PostgreSQL and all its sessions stand still, as on a host that hangs: connections are taken, nothing answers."""
    postmaster = psutil.Process(int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0]))
    stopped: list[int] = []
    try:
        for process in (postmaster, *postmaster.children(recursive=True)):
            os.kill(process.pid, signal.SIGSTOP)
            stopped.append(process.pid)
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.skipif("PARASOL_TEST_DATABASE_URL" in os.environ, reason="a server of somebody else is not frozen")
async def test_a_frozen_database_is_seen_within_two_seconds_and_answered_at_the_deadline(world: World) -> None:
    client = world.client("parkco")
    token = await client.token()
    known = await post(world, "/redemptions", ORDER, key="k")
    usual = world.house.edge.table
    world.house.edge.table = Table(
        replace(operation, deadline_s=HURRY_S) if operation.token == "client" else operation
        for operation in usual.operations
    )
    with frozen(world.home):
        ready, ready_s = await timed(world.http.get("/readyz"))
        assert (ready.status_code, ready.json()["missing"]) == (503, "database")
        assert ready_s < READY_S
        assert (await world.http.get("/healthz")).status_code == 200
        asking = (
            client.call("POST", "/partner/v1/redemptions", token=token, body={"Data": ORDER}, key="k"),
            client.call("GET", f"{CONSENT_PATH}/unknown", token=token),
        )
        for answer in await asyncio.gather(*asking):
            try_again(answer)
        world.clock.s += PICTURE_AGE_S + 0.1  # by now the picture is older than that
        again, again_s = await timed(world.http.get("/readyz"))  # with what was abandoned still in the air
        assert again.status_code == 503
        assert again_s < READY_S
    world.house.edge.table = usual
    await until_ready(world.http)
    found = await post(world, "/redemptions", ORDER, key="k")
    assert found.json() == known.json()


async def until_ready(http: httpx.AsyncClient, address: str = "") -> None:
    """Once the database answers, the picture has to be looked at again before anybody is sent here."""
    begun = time.monotonic()
    while (await http.get(f"{address}/readyz")).status_code != 200:
        assert time.monotonic() - begun < DEADLINE_S, "it stays not ready"
        await asyncio.sleep(0.05)


async def timed(asking: Awaitable[httpx.Response]) -> tuple[httpx.Response, float]:
    begun = time.monotonic()
    answer = await asking
    return answer, time.monotonic() - begun
