"""Three real workers on one port: what one of them learns, all of them know; what one has spent, none takes again."""

import asyncio
import json
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from gateway.database.embedded import start_embedded
from gateway.demo.client import PartnerClient, Token
from gateway.demo.stage import Operator
from tests.conftest import know_test_customers, memory_folder
from tests.faults.serving import serving

WORKERS = 3
ASKED = 24  # fresh connections at once: whichever worker is awake takes one, so hardly any is left out
SECOND_S = 1.0
READ = "/partner/v1/campaigns"


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, Path, int]]:
    """The address, the home, and the process: one gateway for the module."""
    with (
        tempfile.TemporaryDirectory(prefix="parasol-workers-", dir=memory_folder()) as folder,
        serving(Path(folder), workers=WORKERS) as gateway,
    ):
        know_customers_of_holds(gateway.home)
        yield gateway.address, gateway.home, gateway.process.pid


def know_customers_of_holds(home: Path) -> None:
    """As if parkco had referred everybody whom these tests hold an offer for."""
    cluster = start_embedded(home)
    try:
        asyncio.run(know_test_customers(cluster.get_uri(), [f"w{number}" for number in range(340)]))
    finally:
        cluster.cleanup()


@asynccontextmanager
async def partner(served: tuple[str, Path, int]) -> AsyncIterator[PartnerClient]:
    """A client that makes a fresh connection for every call, so that every worker is asked."""
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(limits=limits, timeout=20, trust_env=False) as http:
        credentials = json.loads((served[1] / "sandbox" / "parkco.json").read_text())
        yield PartnerClient(http, credentials)


async def statuses(client: PartnerClient, token: Token, path: str = READ) -> set[int]:
    answers = await asyncio.gather(*(client.call("GET", path, token=token) for _ in range(ASKED)))
    return {answer.status_code for answer in answers}


async def within_a_second(look: Callable[[], Awaitable[set[int]]], wanted: set[int]) -> None:
    """From now on until every worker says so; the last look begins before the second is over."""
    started = time.monotonic()
    while True:
        begun = time.monotonic() - started
        found = await look()
        if found == wanted:
            return
        assert begun < SECOND_S, f"after {begun:.2f} s the workers say {found}"


def operator(served: tuple[str, Path, int], client: PartnerClient) -> Operator:
    keys = {entry["id"]: entry["key"] for entry in json.loads((served[1] / "sandbox" / "operators.json").read_text())}
    return Operator(client.http, served[0], keys["ops-maker"])


async def test_suspending_a_partner_stops_its_tokens_on_every_worker_within_a_second(
    served: tuple[str, Path, int],
) -> None:
    async with partner(served) as client:
        token = await client.token()
        assert await statuses(client, token) == {200}
        ops = operator(served, client)
        assert (await ops.call("POST", "/partners/parkco/suspension", {"Reason": "test"})).status_code == 200
        await within_a_second(lambda: statuses(client, token), {403})
        assert (await ops.call("POST", "/partners/parkco/reinstatement", {"Reason": "test"})).status_code == 200
        await within_a_second(lambda: statuses(client, token), {200})


async def test_a_given_back_token_stops_on_every_worker_within_a_second(served: tuple[str, Path, int]) -> None:
    async with partner(served) as client:
        token = await client.grant(grant_type="client_credentials", scope="discounts")
        assert await statuses(client, token) == {200}
        form = {"token": token.value, **client.assertion()}
        assert (await client.http.post(f"{client.issuer}/oauth/revoke", data=form)).status_code == 200
        await within_a_second(lambda: statuses(client, token), {401})


async def test_a_proof_is_taken_once_among_all_workers(served: tuple[str, Path, int]) -> None:
    async with partner(served) as client:
        token = await client.token()
        proof = client.proof("GET", client.issuer + READ, access_token=token.value)
        sent = [client.call("GET", READ, token=token, headers={"DPoP": proof}) for _ in range(ASKED)]
        found = [answer.status_code for answer in await asyncio.gather(*sent)]
        assert sorted(found) == [200] + [401] * (ASKED - 1)


async def test_an_assertion_is_taken_once_among_all_workers(served: tuple[str, Path, int]) -> None:
    async with partner(served) as client:
        url, form = f"{client.issuer}/oauth/token", {"grant_type": "client_credentials", **client.assertion()}
        sent = [client.http.post(url, data=form, headers={"DPoP": client.proof("POST", url)}) for _ in range(ASKED)]
        assert [answer.status_code for answer in await asyncio.gather(*sent)].count(200) == 1


def hold(number: int) -> dict[str, Any]:
    order = {"OfferId": "first-park", "OrderAmount": {"Amount": "30.00", "Currency": "CNY"}, "SiteId": "lot-1"}
    who = {"CustomerToken": f"idt_1_w{number}", "Plate": f"沪B{number:05d}", "OrderReference": f"order {number}"}
    return {"Data": {**order, **who}}


async def test_one_idempotency_key_is_one_effect_whichever_workers_it_reaches(served: tuple[str, Path, int]) -> None:
    async with partner(served) as client:
        await client.token()
        sent = [client.call("POST", "/partner/v1/redemptions", body=hold(1), key="one-key") for _ in range(ASKED)]
        answers = await asyncio.gather(*sent)
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["Data"]["RedemptionId"] for answer in answers}) == 1
        other = await client.call("POST", "/partner/v1/redemptions", body=hold(2), key="one-key")
        assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")


async def test_a_killed_worker_takes_no_answer_back_and_is_replaced(served: tuple[str, Path, int]) -> None:
    """kill -9 in the middle of holds: what was answered is there, what was not can be asked again with its key."""
    async with partner(served) as client:
        await client.token()

        async def take(number: int) -> str | None:
            try:
                answer = await client.call("POST", "/partner/v1/redemptions", body=hold(number), key=f"k{number}")
            except httpx.HTTPError:
                return None
            return str(answer.json()["Data"]["RedemptionId"]) if answer.status_code == 201 else None

        taking = [asyncio.create_task(take(number)) for number in range(100, 340)]
        await asyncio.wait(taking, return_when=asyncio.FIRST_COMPLETED)
        os.kill(_worker(served), signal.SIGKILL)
        answered = [found for found in await asyncio.gather(*taking) if found]
        assert answered
        for redemption_id in answered:
            found = await client.call("GET", f"/partner/v1/redemptions/{redemption_id}")
            assert found.json()["Data"]["Status"] == "HELD"
        repeated = await take(100)
        assert repeated == (taking[0].result() or repeated)


def _worker(served: tuple[str, Path, int]) -> int:
    """A process that listens on the port."""
    port = int(served[0].rpartition(":")[2])
    for child in psutil.Process(served[2]).children(recursive=True):
        if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in child.net_connections()):
            return child.pid
    raise AssertionError("nobody listens")
