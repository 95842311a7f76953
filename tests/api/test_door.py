"""What a stranger or a partner can try at the door: spellings of a path, methods, queries, other people's ids."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import metrics
from gateway.app import open_house
from gateway.call import Protocol, TokenKind
from gateway.clock import now_ms
from gateway.partners.apply import apply
from gateway.routes import OPERATIONS, POLICY_OPERATIONS
from tests.api.referral_calls import CSV, csv_file, declaration
from tests.conftest import ISSUER, ROOT, PictureClock, World, settings_for

V1 = "/partner/v1"


async def page_of(world: World) -> str:
    return (await world.http.get("/metrics")).text


# --- metrics ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["BREW", "G\udce9T", 'X"} 1\nfoo', "A" * 5000])
async def test_a_made_up_method_is_no_label_and_the_metrics_page_survives_it(world: World, method: str) -> None:
    scope = {
        "type": "http", "method": method, "path": "/healthz", "raw_path": b"/healthz", "query_string": b"",
        "headers": [], "client": ("192.0.2.1", 1),
    }  # fmt: skip
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await world.house.edge(scope, asyncio.Event().wait, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 405
    page = await page_of(world)
    assert method not in page
    assert 'http_request_method="_OTHER"' in page


def test_a_label_that_cannot_be_written_is_folded_and_the_page_is_still_there() -> None:
    """Whatever a capability may let through one day: one bad label must not hide all numbers of all workers."""
    registry = metrics.Registry()
    for label in ("\udce9", "x" * 1000):
        registry.count("parasol_goals_total", goal=label)
    registry.count("parasol_goals_total", goal="spend")
    page = metrics.render(registry).decode()
    assert 'parasol_goals_total{goal="other"} 2.0' in page
    assert 'parasol_goals_total{goal="spend"} 1.0' in page


async def refusals_of(world: World, **labels: str) -> float:
    found = 0.0
    for line in (await page_of(world)).splitlines():
        if line.startswith("parasol_requests_total{") and all(f'{k}="{v}"' in line for k, v in labels.items()):
            found += float(line.rpartition(" ")[2])
    return found


async def test_a_refused_request_keeps_its_partner_and_operation_in_the_metrics(world: World) -> None:
    client = world.client("shopco")
    token = await client.token()

    async def one_more(ask: Callable[[], Awaitable[object]], **labels: str) -> bool:
        before = await refusals_of(world, **labels)
        await ask()
        return await refusals_of(world, **labels) == before + 1

    async def read(path: str) -> None:
        await client.call("GET", f"{V1}/{path}", token=token)

    async def ask_for_a_token(form: dict[str, str]) -> None:
        await world.http.post("/oauth/token", data=form)

    assert await one_more(
        partial(read, "redemptions/rdm_nothing"), partner="shopco", operation="GetRedemption", code="404"
    )
    assert await one_more(partial(read, "parking/lots"), partner="shopco", operation="ListParkingLots", code="403")
    await world.suspend("shopco")
    assert await one_more(
        partial(read, "campaigns"), partner="shopco", operation="ListCampaigns", outcome="partner_state"
    )
    form = {"grant_type": "client_credentials", **client.assertion()}
    assert await one_more(partial(ask_for_a_token, form), partner="shopco", operation="Token", outcome="partner_state")
    assert await one_more(partial(ask_for_a_token, {"grant_type": "x"}), partner="", operation="Token", code="401")


# --- paths and methods -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "path", ["/%68ealthz", "/partner/v1/%63ampaigns", "/partner%2Fv1/campaigns", "/oauth/jwk%73",
             "/static/parasol%2ecss", "/open-banking/v4.0/aisp/account%73", "/healthz/", "//healthz",
             "/partner/v1//campaigns"],
)  # fmt: skip
async def test_a_second_spelling_of_a_path_is_not_found(world: World, path: str) -> None:
    assert (await world.http.get(ISSUER + path)).status_code == 404  # "//healthz" alone would name a host


async def test_an_encoded_slash_does_not_reach_another_operation(world: World) -> None:
    """A proxy that filters /partner/v1/redemptions/* sees one segment; so must we."""
    client = world.client("parkco")
    answer = await client.call("GET", f"{V1}/redemptions%2Frdm_1")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_path")


PUBLIC = [op for op in OPERATIONS if op.method == "GET" and op.token is TokenKind.NONE and "{" not in op.path]


@pytest.mark.parametrize("operation", PUBLIC, ids=[op.id for op in PUBLIC])
async def test_head_answers_as_get_does_without_a_body(world: World, operation: Any) -> None:
    got, head = await world.http.get(operation.path), await world.http.head(operation.path)
    assert head.status_code == got.status_code
    assert head.content == b""
    assert head.headers.get("content-type") == got.headers.get("content-type")


async def test_head_needs_a_proof_of_its_own(world: World) -> None:
    client = world.client("parkco")
    token = await client.token()
    assert (await client.call("HEAD", f"{V1}/campaigns", token=token)).status_code == 200
    other = client.proof("GET", f"{ISSUER}{V1}/campaigns", access_token=token.value)
    assert (await client.call("HEAD", f"{V1}/campaigns", token=token, headers={"DPoP": other})).status_code == 401


@pytest.mark.parametrize(
    "path", ["/healthz", "/nothing", "/console", "/portal", "/oauth/jwks", "/partner/v1/campaigns", "/r/x",
             "/static/parasol.css", "/open-banking/v4.0/aisp/accounts", "/admin/v1/audit"],
)  # fmt: skip
async def test_every_answer_forbids_guessing_its_type(world: World, path: str) -> None:
    answer = await world.http.get(path)
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]


# --- queries ---------------------------------------------------------------------------------------------------------
OWN_READS = [op for op in OPERATIONS if op.method == "GET" and op.strict_query]


@pytest.mark.parametrize("operation", OWN_READS, ids=[op.id for op in OWN_READS])
async def test_a_query_field_that_nobody_reads_is_refused_on_our_own_apis(world: World, operation: Any) -> None:
    path = re.sub(r"\{\w+\}", "unknown-id", operation.path) + "?NoSuchField=1"
    if operation.protocol is Protocol.OPS:
        answer = await world.ops("ops-maker", "GET", path)
    else:
        accept = {"Accept": "*/*"}
        answer = await world.client("parkco").call("GET", path, headers=accept)
    assert (answer.status_code, answer.json()["code"]) == (400, "query_malformed")
    assert answer.json()["path"] == "$query.NoSuchField"


@pytest.mark.parametrize(
    "path", ["/oauth/jwks", "/.well-known/oauth-authorization-server", "/portal", "/console", "/healthz"]
)
@pytest.mark.parametrize("query", ["utm_source=x", "flag", "a=1&a=2", "a=%00", "=", "&".join("abcdefgh" * 9)])
async def test_a_query_field_that_nobody_reads_is_ignored_elsewhere(world: World, path: str, query: str) -> None:
    assert (await world.http.get(f"{path}?{query}")).status_code == 200


async def test_a_request_uri_that_came_twice_is_none(world: World) -> None:
    for query in ("", "?client_id=parkco-app", "?request_uri=a&request_uri=b&client_id=parkco-app", "?scope=payments"):
        page = await world.http.get(f"/oauth/authorize{query}")
        assert page.status_code == 400
        assert "Push it first" in page.text


# --- other people's things -------------------------------------------------------------------------------------------
async def things_of(world: World) -> list[tuple[str, str, Any]]:
    """One of each kind that parkco can make, as (method, path, body) with its id in it."""
    client = world.client("parkco")
    order = {"OfferId": "first-park", "OrderAmount": {"Amount": "30.00", "Currency": "CNY"}, "SiteId": "lot-1",
             "CustomerToken": "idt_1_a", "Plate": "沪A12345", "OrderReference": "o1"}  # fmt: skip
    held = await client.call("POST", f"{V1}/redemptions", body={"Data": order}, key="k1")
    batch = await client.call("POST", f"{V1}/referral-batches", body=declaration(csv_file("x")))
    link = await client.call("POST", f"{V1}/referral-links", body={"Data": {"Landing": "open-account"}}, key="k2")
    redemption = held.json()["Data"]["RedemptionId"]
    batch_id, link_id = batch.json()["Data"]["BatchId"], link.json()["Data"]["LinkId"]
    return [
        ("GET", f"{V1}/redemptions/{redemption}", None),
        ("POST", f"{V1}/redemptions/{redemption}/release", None),
        ("GET", f"{V1}/referral-batches/{batch_id}", None),
        ("GET", f"{V1}/referral-batches/{batch_id}/results", None),
        ("PUT", f"{V1}/referral-batches/{batch_id}/file", csv_file("x")),
        ("GET", f"{V1}/referral-links/{link_id}", None),
    ]


def without_instance(answer: httpx.Response) -> dict[str, Any]:
    return {name: value for name, value in answer.json().items() if name != "instance"}


async def test_another_partners_id_answers_word_for_word_as_an_unknown_one(world: World) -> None:
    thief = world.client("shopco")
    for number, (method, path, content) in enumerate(await things_of(world)):
        unknown = re.sub(r"/(rdm|rbt|lnk)_\w+", r"/\1_0000000000000000000000", path)
        assert unknown != path
        sent = {"content": content, "headers": CSV} if content else {}
        foreign = await thief.call(method, path, key=f"f{number}", **sent)
        nothing = await thief.call(method, unknown, key=f"n{number}", **sent)
        assert foreign.status_code == 404
        assert without_instance(foreign) == without_instance(nothing)


# --- addresses behind a proxy ----------------------------------------------------------------------------------------
@asynccontextmanager
async def behind_a_proxy(home: Path, url: str, *, peer: str) -> AsyncIterator[World]:
    """A gateway that trusts proxies at 10.0.0.0/8, asked by `peer`; parkco's policy opens 203.0.113.0/24 alone."""
    settings = settings_for(home, url, trusted_proxies="10.0.0.0/8")
    clock = PictureClock()
    async with open_house(settings, clock_s=clock) as house:
        transport = httpx.ASGITransport(app=house.edge, client=(peer, 40000))
        async with httpx.AsyncClient(transport=transport, base_url=ISSUER) as http:
            yield World(house, http, home, url, clock)


@pytest.mark.parametrize(
    ("peer", "told", "admitted"),
    [
        ("10.1.2.3", "203.0.113.7", True),
        ("10.1.2.3", "203.0.113.7, 10.9.9.9", True),
        ("10.1.2.3", "::ffff:203.0.113.7", True),
        ("203.0.113.7", None, True),
        ("10.1.2.3", "198.51.100.1", False),
        ("10.1.2.3", "203.0.113.7, 198.51.100.1", False),  # the caller wrote the first one itself
        ("10.1.2.3", "203.0.113.7, nonsense", False),
        ("10.1.2.3", "203.0.113.7,", False),
        ("10.1.2.3", None, False),
        ("198.51.100.1", "203.0.113.7", False),  # no proxy of ours
    ],
)
async def test_a_policys_networks_hold_the_address_that_the_trusted_proxy_saw(
    home: Path, database_url: str, tmp_path: Path, peer: str, told: str | None, admitted: bool
) -> None:
    for folder in ("partners", "policies"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    file = tmp_path / "policies" / "parking-operator.toml"
    file.write_text(file.read_text().replace("[allow]", '[allow]\nnetworks = ["203.0.113.0/24"]'))
    async with behind_a_proxy(home, database_url, peer=peer) as world:
        await apply(world.house.database, tmp_path, POLICY_OPERATIONS, actor="test", reason="test", now_ms=now_ms())
        await world.house.foundation.feed.catch_up()
        headers = {"X-Forwarded-For": told} if told is not None else {}
        answer = await world.client("parkco").call("GET", f"{V1}/campaigns", headers=headers)
        assert answer.status_code == (200 if admitted else 403)
        if not admitted:
            assert answer.json()["code"] == "policy_ip"
