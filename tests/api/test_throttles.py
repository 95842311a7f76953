"""Strangers who come too often: each address by itself, with a time to come back; whoever is known is not held up."""

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from gateway.admission.addresses import RULES, AddressRule
from gateway.demo.client import PartnerClient
from gateway.policies.policy import Rate
from tests.conftest import ISSUER, World

SMALL = {
    "client": AddressRule(Rate(1, 3), refused_only=True),
    "page": AddressRule(Rate(1, 3), refused_only=False),
    "log-in": AddressRule(Rate(1, 3), refused_only=True),
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, world: World) -> World:
    """The same door with rates that a test can reach."""
    for kind, rule in SMALL.items():
        monkeypatch.setitem(RULES, kind, rule)
    return world


@asynccontextmanager
async def a_stranger(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """From an address that no test has used: the table is shared by all of them, as it is by workers."""
    address = f"198.18.{random.randrange(256)}.{random.randrange(256)}"
    transport = httpx.ASGITransport(app=world.house.edge, client=(address, 40000))
    async with httpx.AsyncClient(transport=transport, base_url=ISSUER) as http:
        yield http


async def token(world: World, http: httpx.AsyncClient) -> None:
    credentials = json.loads((world.home / "sandbox" / "parkco.json").read_text())
    await PartnerClient(http, credentials).grant(grant_type="client_credentials", scope="discounts")


@pytest.mark.parametrize("path", ["/oauth/token", "/oauth/par", "/oauth/introspect", "/oauth/revoke"])
async def test_an_address_that_is_refused_too_often_is_told_when_to_come_back(small: World, path: str) -> None:
    async with a_stranger(small) as http:
        found = [await http.post(path, data={"client_id": "x"}) for _ in range(5)]
    assert [answer.status_code for answer in found] == [401, 401, 401, 429, 429]
    assert int(found[-1].headers["retry-after"]) >= 1
    assert found[-1].json()["error"] == "temporarily_unavailable"


async def test_a_partners_server_is_not_held_up_by_what_it_does_right(small: World) -> None:
    async with a_stranger(small) as http:
        for _ in range(8):
            await token(small, http)


async def test_a_throttled_address_throttles_nobody_else(small: World) -> None:
    async with a_stranger(small) as http, a_stranger(small) as other:
        for _ in range(4):
            answer = await http.post("/oauth/token", data={"client_id": "parkco-app"})
        assert answer.status_code == 429
        await token(small, other)


@pytest.mark.parametrize("path", ["/r/x", "/oauth/authorize?client_id=a&request_uri=b", "/consents"])
async def test_pages_count_every_visit_of_an_address(small: World, path: str) -> None:
    async with a_stranger(small) as http:
        found = [(await http.get(path)).status_code for _ in range(5)]
    assert 429 not in found[:3]
    assert found[3:] == [429, 429]


async def test_operators_keys_are_not_tried_in_series(small: World) -> None:
    async with a_stranger(small) as http:
        found = [(await http.post("/console/login", data={"key": "pop_x"})).status_code for _ in range(5)]
    assert found[-1] == 429
