"""Requests that wait too long: each is answered at its own deadline, no neighbour is, and nothing is done twice."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import httpx
import pytest

from gateway.admission.deadline import Deadlines
from gateway.call import DEADLINE_S
from gateway.database import pool
from gateway.database.deadlines import LOOK_S
from gateway.edge import Table
from gateway.payments.paying import ANSWER_WAIT_S
from gateway.routes import OPERATIONS
from tests.api.test_redemptions import ORDER, post
from tests.conftest import World

HURRY_S = 0.3
SLACK_S = 2 * LOOK_S + 0.6  # the timer's own, and a machine that others use
PATIENCE_S = 20.0
SOMEBODY_WAITS = """SELECT EXISTS (
    SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database())"""
ID = "93bac548-d2de-4546-b106-880a5018460d"


@contextmanager
def in_a_hurry(world: World) -> Iterator[None]:
    """The same operations with little time; a request has the deadline of the moment that it came in."""
    usual = world.house.edge.table
    world.house.edge.table = Table(replace(operation, deadline_s=HURRY_S) for operation in usual.operations)
    yield
    world.house.edge.table = usual


@asynccontextmanager
async def locked(world: World, table: str) -> AsyncIterator[None]:
    """Nobody else reads or writes that table."""
    other = await asyncpg.connect(world.url)
    try:
        async with other.transaction():
            await other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await other.close()


async def until(world: World, question: str) -> None:
    """Until the database, on a session of ours, says yes."""
    admin = await asyncpg.connect(world.url)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await admin.fetchval(question):
                await admin.execute("SELECT pg_sleep(0.01)")
    finally:
        await admin.close()


def given_up(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, "retry_with_same_key"), answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["instance"] == f"urn:uuid:{answer.headers['x-fapi-interaction-id']}"


def order(number: int) -> dict[str, Any]:
    return {
        **ORDER,
        "OrderReference": f"order {number}",
        "CustomerToken": f"idt_1_{number}",
        "Plate": f"粤B{number:05}",
    }


async def test_a_request_that_waits_for_the_database_is_answered_at_its_deadline(world: World) -> None:
    client = world.client("parkco")
    token = await client.token()
    async with locked(world, "redemption"):
        with in_a_hurry(world):
            begun = time.monotonic()
            answer = await client.call(
                "GET", "/partner/v1/redemptions/rdm_1", token=token, headers={"x-fapi-interaction-id": ID}
            )
            assert HURRY_S <= time.monotonic() - begun < HURRY_S + SLACK_S
        given_up(answer)
        assert answer.headers["x-fapi-interaction-id"] == ID
    page = (await world.http.get("/metrics")).text
    assert 'parasol_requests_total{code="503",operation="GetRedemption",outcome="deadline"' in page


async def test_what_a_request_gives_up_leaves_the_pool_whole(world: World) -> None:
    """More of them than there are connections: each was cut and none is missing afterwards."""
    client = world.client("parkco")
    token = await client.token()
    size = world.house.foundation.settings.pool_size
    async with locked(world, "redemption"):
        with in_a_hurry(world):
            answers = await asyncio.gather(
                *(client.call("GET", "/partner/v1/redemptions/rdm_1", token=token) for _ in range(2 * size))
            )
        for answer in answers:
            given_up(answer)
        assert (
            await world.http.get("/readyz")
        ).status_code == 200  # a connection is to be had, while others still wait
    async with AsyncExitStack() as stack:
        for _ in range(size):
            await stack.enter_async_context(world.house.database.connection())
    assert (await client.call("GET", "/partner/v1/redemptions/rdm_1", token=token)).status_code == 404


async def test_a_deadline_cancels_one_request_of_a_batch_and_none_of_its_neighbours(world: World) -> None:
    """The first is in a batch that is being decided, the second and third wait together for the next one."""
    await world.client("parkco").token()
    async with asyncio.TaskGroup() as group:
        async with locked(world, "counter"):
            with in_a_hurry(world):
                first = group.create_task(post(world, "/redemptions", order(1), key="k1"))
                await until(world, SOMEBODY_WAITS)
                second = group.create_task(post(world, "/redemptions", order(2), key="k2"))
                await asyncio.sleep(0)
            third = group.create_task(post(world, "/redemptions", order(3), key="k3"))
            await asyncio.wait((first, second))
            assert not third.done()
    given_up(first.result())
    given_up(second.result())
    assert third.result().status_code == 201, third.result().text


async def test_a_write_that_was_given_up_and_committed_is_found_by_its_key(world: World) -> None:
    await world.client("parkco").token()
    async with locked(world, "counter"):
        with in_a_hurry(world):
            given_up(await post(world, "/redemptions", ORDER, key="k"))
    await until(world, "SELECT count(*) = 1 FROM redemption")  # it was on its way and went through
    again = await post(world, "/redemptions", ORDER, key="k")
    assert again.status_code == 201
    assert len(await world.sql("SELECT 1 FROM redemption")) == 1


async def test_who_gets_no_connection_in_time_is_told_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "ACQUIRE_S", HURRY_S)
    client = world.client("parkco")
    token = await client.token()
    consent = "/open-banking/v4.0/aisp/account-access-consents/unknown"
    async with AsyncExitStack() as stack:
        for _ in range(world.house.foundation.settings.pool_size):
            await stack.enter_async_context(world.house.database.connection())
        answer = await client.call("GET", consent, token=token)
        assert (answer.status_code, answer.json()["Code"]) == (503, "503 retry_with_same_key")
        assert "retry-after" in answer.headers
    assert (await client.call("GET", consent, token=token)).status_code == 400  # unknown, as the standard says it


# --- the deadlines themselves ------------------------------------------------------------------------------------
async def test_a_cancellation_that_somebody_swallows_is_repeated() -> None:
    deadlines, swallowed = Deadlines(), 0
    deadlines.start(0)
    try:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed == 3:
                    raise
    except asyncio.CancelledError as error:
        refusal = deadlines.refusal_of(error, operation="Test", interaction_id=ID)
    assert (refusal.code, refusal.outcome) == ("retry_with_same_key", "deadline")
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0  # nothing of it is left for whoever awaits next


async def test_a_cancellation_by_somebody_else_is_nobody_s_deadline() -> None:
    deadlines = Deadlines()

    async def request() -> None:
        deadlines.start(DEADLINE_S)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError as error:
            deadlines.refusal_of(error, operation="Test", interaction_id=ID)

    task = asyncio.create_task(request())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_request_that_is_answered_in_time_is_forgotten() -> None:
    deadlines = Deadlines()
    deadlines.start(0)
    deadlines.stop()
    await asyncio.sleep(2 * LOOK_S)  # the next look finds nobody


def test_every_operation_has_a_deadline_and_few_have_more_than_the_usual() -> None:
    assert all(operation.deadline_s > 0 for operation in OPERATIONS)
    longer = {operation.id for operation in OPERATIONS if operation.deadline_s > DEADLINE_S}
    asks_the_bank = {"domesticVrpPost", "ChargeParking", "RefundParkingCharge"}
    assert longer == {"UploadReferralBatchFile", "OpenAccounts", *asks_the_bank}
    assert all(operation.deadline_s > ANSWER_WAIT_S for operation in OPERATIONS if operation.id in asks_the_bank)
