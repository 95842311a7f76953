"""The sandbox bank's counter over HTTP: who opens, activates, spends; each yes and its nos; none outside a sandbox."""

from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gateway.app import open_house
from gateway.clock import now_ms, rfc3339
from gateway.payments.paying import FIRST_TRY_MS
from tests.api.vrp_calls import PAYMENTS, fault, given, pay, payment_body, read, spent
from tests.conftest import ISSUER, World, settings_for

CUSTOMERS, EVENTS = "/sandbox/v1/customers", "/sandbox/v1/customer-events"
ORDERS = "/sandbox/v1/orders"
PHONE = "+8613911112222"
WHEN = "2026-01-02T03:04:05+08:00"


async def open_account(world: World, **more: Any) -> httpx.Response:
    return await world.http.post(CUSTOMERS, json={"Customer": [{"Phone": PHONE, **more}]})


def event(**changes: Any) -> dict[str, Any]:
    spend = {
        "EventId": "e-1", "Kind": "SPEND", "Phone": PHONE, "OccurredDateTime": WHEN,
        "Amount": {"Amount": "42.00", "Currency": "CNY"},
    }  # fmt: skip
    return {name: value for name, value in (spend | changes).items() if value is not None}


async def tell(world: World, *events: dict[str, Any]) -> httpx.Response:
    return await world.http.post(EVENTS, json={"Event": list(events)})


async def feed(world: World) -> list[Any]:
    return [tuple(row) for row in await world.sql(
        "SELECT kind, amount_minor, occurred_ms FROM sandbox_bank.customer_event ORDER BY seq"
    )]  # fmt: skip


async def test_somebody_opens_an_account_and_can_log_in(world: World) -> None:
    opened = await open_account(
        world, Name="王五", OccurredDateTime=WHEN, OpeningBalance={"Amount": "88.00", "Currency": "CNY"}
    )
    assert opened.status_code == 201, opened.text
    [customer] = opened.json()["Data"]["Customer"]
    again = await open_account(world, Name="somebody else")
    assert again.json()["Data"]["Customer"] == [customer]
    [row] = await world.sql(
        """SELECT login, balance_minor, name FROM sandbox_bank.account JOIN sandbox_bank.customer USING (customer_id)
           WHERE customer_id = $1""",
        customer["CustomerId"],
    )
    assert tuple(row) == (customer["Login"], 8_800, "王五")
    assert await feed(world) == [("ACCOUNT_OPENED", 0, 1_767_294_245_000)]


async def test_somebody_who_comes_twice_in_one_call_is_one_customer(world: World) -> None:
    body = {"Customer": [{"Phone": PHONE, "Name": "王五"}, {"Phone": "139-1111-2222", "Name": "somebody else"}]}
    opened = (await world.http.post(CUSTOMERS, json=body)).json()["Data"]["Customer"]
    assert opened[0] == opened[1]
    assert len(await feed(world)) == 1
    assert [
        row["name"] for row in await world.sql("SELECT name FROM sandbox_bank.customer WHERE phone = $1", PHONE)
    ] == ["王五"]


async def test_events_reach_the_goal_feed_once_and_in_order(world: World) -> None:
    await open_account(world, OccurredDateTime=WHEN)
    card = event(EventId="e-0", Kind="CARD_ACTIVATED", Amount=None)
    told = await tell(world, card, event())
    assert (told.status_code, told.json()["Data"]) == (202, {"Accepted": 2, "Known": 0})
    told = await tell(world, event(), event(EventId="e-2", Phone="139 1111 2222"))
    assert told.json()["Data"] == {"Accepted": 1, "Known": 1}
    kinds = [(kind, minor) for kind, minor, _ in await feed(world)]
    assert kinds == [("ACCOUNT_OPENED", 0), ("CARD_ACTIVATED", 0), ("SPEND", 4_200), ("SPEND", 4_200)]


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"Phone": "12"}, 400, "phone_malformed"),
        ({"Phone": "+8613900009999"}, 404, "unknown_resource"),
        ({"Kind": "ACCOUNT_OPENED"}, 400, "body_malformed"),
        ({"OccurredDateTime": "2026-01-02T03:04:05"}, 400, "body_malformed"),
        pytest.param({"OccurredDateTime": rfc3339(now_ms() + 86_400_000)}, 400, "moment_in_future", id="tomorrow"),
        ({"Amount": {"Amount": "1.001", "Currency": "CNY"}}, 400, "amount_malformed"),
        ({"Amount": {"Amount": "1.00", "Currency": "EUR"}}, 400, "currency_not_kept"),
        ({"EventId": ""}, 400, "body_malformed"),
        ({"EventId": "e" * 101}, 400, "body_malformed"),
        ({"Unheard": 1}, 400, "body_malformed"),
    ],
    ids=str,
)
async def test_an_event_that_cannot_be_true_refuses_the_whole_call(
    world: World, changes: dict[str, Any], status: int, code: str
) -> None:
    await open_account(world)
    before = await feed(world)
    refused = await tell(world, event(EventId="good"), event(**changes))
    assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text
    assert PHONE not in refused.text
    assert await feed(world) == before


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"Customer":[]}', b'{"Customer":[{}]}', b'{"Customer":[{"Phone":"x"}]}'], ids=str
)
async def test_an_opening_that_cannot_be_read_opens_nothing(shared_world: World, body: bytes) -> None:
    before = await shared_world.sql("SELECT count(*) FROM sandbox_bank.customer")
    assert (await shared_world.http.post(CUSTOMERS, content=body)).status_code == 400
    assert await shared_world.sql("SELECT count(*) FROM sandbox_bank.customer") == before


async def test_five_hundred_come_at_once_and_not_one_more(shared_world: World) -> None:
    people = [{"Phone": f"+86137{number:08}"} for number in range(501)]
    too_many = await shared_world.http.post(CUSTOMERS, json={"Customer": people})
    assert (too_many.status_code, too_many.json()["code"]) == (400, "too_many_items")
    opened = await shared_world.http.post(CUSTOMERS, json={"Customer": people[:500]})
    assert len({one["CustomerId"] for one in opened.json()["Data"]["Customer"]}) == 500


async def pending(world: World) -> str:
    """A payment that the bank has taken and not decided."""
    consent_id, token = await given(world)
    await fault(world, "pend")
    made = await pay(world, token, payment_body(consent_id))
    assert made.json()["Data"]["Status"] == "PDNG"
    return str(made.json()["Data"]["DomesticVRPId"])


@pytest.mark.parametrize(
    ("body", "status", "minor"),
    [(None, "ACSC", 1250), ({"Decision": "SETTLE"}, "ACSC", 1250), ({"Decision": "REJECT"}, "RJCT", 0)],
)
async def test_a_pending_order_is_decided_and_the_gateway_finds_out(
    world: World, body: dict[str, str] | None, status: str, minor: int
) -> None:
    payment_id = await pending(world)
    decided = await world.http.post(f"{ORDERS}/{payment_id}/decision", json=body)
    assert (decided.status_code, decided.json()["Data"]["Status"]) == (200, status), decided.text
    chore = next(chore for chore in world.house.chores if chore.name == "settle pending payments")
    await chore.run(now_ms() + FIRST_TRY_MS)
    found = (await read(world, f"{PAYMENTS}/{payment_id}")).json()["Data"]
    assert (found["Status"], await spent(world)) == (status, minor)


async def test_a_decided_order_stays_as_it_was_decided(world: World) -> None:
    payment_id = await pending(world)
    first = await world.http.post(f"{ORDERS}/{payment_id}/decision", json={"Decision": "REJECT"})
    again = await world.http.post(f"{ORDERS}/{payment_id}/decision", json={"Decision": "SETTLE"})
    assert (
        again.json() == first.json() == {"Data": {"OrderId": payment_id, "Status": "RJCT", "StatusReasonCode": "NARR"}}
    )
    assert await spent(world) == 0


@pytest.mark.parametrize(
    ("body", "status", "code"), [("{}", 404, "unknown_resource"), ('{"Decision":"MAYBE"}', 400, "body_malformed")]
)
async def test_what_is_no_order_or_no_decision_is_refused(
    shared_world: World, body: str, status: int, code: str
) -> None:
    refused = await shared_world.http.post(f"{ORDERS}/unknown/decision", content=body)
    assert (refused.status_code, refused.json()["code"]) == (status, code)


async def test_outside_a_sandbox_there_is_no_counter(home: Path, database_url: str) -> None:
    settings = msgspec.structs.replace(settings_for(home, database_url), sandbox=False)
    async with open_house(settings) as house:
        transport = httpx.ASGITransport(app=house.edge)
        async with httpx.AsyncClient(transport=transport, base_url=ISSUER) as http:
            for path in (CUSTOMERS, EVENTS, "/sandbox/v1/consents/cns_1/authorisation", f"{ORDERS}/o/decision"):
                assert (await http.post(path, json={})).status_code == 404
