"""Campaigns and redemptions through the front door: each yes and its nos, and that a no changes nothing."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.conftest import World

BASE = "/partner/v1"
ORDER: dict[str, Any] = {
    "OfferId": "first-park", "OrderAmount": {"Amount": "12.01", "Currency": "CNY"}, "CustomerToken": "idt_1_a",
    "Plate": "粤B12345", "SiteId": "lot-1", "OrderReference": "order 1",
}  # fmt: skip


async def post(
    world: World, path: str, data: Any, *, partner: str = "parkco", key: str | None = None
) -> httpx.Response:
    body = {"Data": data} if data is not None else None
    return await world.client(partner).call("POST", f"{BASE}{path}", body=body, key=key)


async def held(world: World, **more: Any) -> str:
    answer = await post(world, "/redemptions", {**ORDER, **more})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["Data"]["RedemptionId"])


async def traces(world: World) -> list[Any]:
    """Everything that a redemption leaves behind."""
    return [
        tuple(row.values())
        for table in ("redemption", "redemption_step", "ledger_entry")
        for row in await world.sql(f"SELECT * FROM {table} ORDER BY 1, 2, 3")
    ]


# --- the yes -------------------------------------------------------------------------------------------------------
async def test_an_offer_is_quoted_held_confirmed_and_reversed(world: World) -> None:
    quoted = await post(world, "/redemption-quotes", ORDER)
    [quote] = quoted.json()["Data"]["Quote"]
    assert quote["PayableAmount"] == {"Amount": "0.01", "Currency": "CNY"}
    redemption_id = await held(world, Quote=quote["Quote"], OrderReference="order 7")
    confirmed = await post(
        world, f"/redemptions/{redemption_id}/confirmation", {"OrderAmount": {"Amount": "10.01", "Currency": "CNY"}}
    )
    assert confirmed.status_code == 201
    data = confirmed.json()["Data"]
    assert (data["Status"], data["DiscountAmount"]["Amount"], data["OrderReference"]) == (
        "CONFIRMED",
        "10.00",
        "order 7",
    )
    assert [(leg["Party"], leg["Amount"]["Amount"]) for leg in data["Funding"]] == [
        ("bank", "6.00"),
        ("partner", "4.00"),
    ]
    back = await post(
        world, f"/redemptions/{redemption_id}/reversals", {"Amount": {"Amount": "10.00", "Currency": "CNY"}}
    )
    assert back.json()["Data"]["Status"] == "REVERSED"
    seen = await world.client("parkco").call("GET", f"{BASE}/redemptions/{redemption_id}")
    assert seen.json() == back.json()


async def test_offers_without_a_name_are_all_that_apply(world: World) -> None:
    everything = {name: value for name, value in ORDER.items() if name != "OfferId"}
    offers = (await post(world, "/redemption-quotes", everything)).json()["Data"]["Quote"]
    assert "first-park" in {offer["OfferId"] for offer in offers}
    assert await world.sql("SELECT 1 FROM counter") == []


async def test_campaigns_show_what_is_held_and_used(world: World) -> None:
    first = await held(world)
    await held(world, CustomerToken="idt_1_b", Plate="粤B00002", OrderReference="order 2")
    await post(world, f"/redemptions/{first}/confirmation", {})
    campaigns = (await world.client("parkco").call("GET", f"{BASE}/campaigns")).json()["Data"]["Campaign"]
    [campaign] = [c for c in campaigns if c["OfferId"] == "first-park"]
    assert (campaign["Budget"]["Used"]["Amount"], campaign["Budget"]["Held"]["Amount"]) == ("12.00", "12.00")
    assert campaign["Today"]["Used"]["Amount"] == "12.00"
    assert {f["Party"]: f["Used"]["Amount"] for f in campaign["Funding"]} == {"bank": "7.20", "partner": "4.80"}


async def test_a_released_hold_is_free_for_the_next(world: World) -> None:
    first = await held(world)
    released = await post(world, f"/redemptions/{first}/release", None)
    assert released.json()["Data"]["Status"] == "RELEASED"
    await held(world)


async def test_the_same_key_is_the_same_hold_even_at_once(world: World) -> None:
    answers = await asyncio.gather(*(post(world, "/redemptions", ORDER, key="k") for _ in range(4)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["Data"]["RedemptionId"] for answer in answers}) == 1
    assert len(await world.sql("SELECT 1 FROM redemption")) == 1


# --- the nos -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"OfferId": "nothing-of-ours"}, 404, "unknown_offer"),
        ({"OrderAmount": {"Amount": "0.00", "Currency": "CNY"}}, 400, "amount_not_positive"),
        ({"OrderAmount": {"Amount": "-1.00", "Currency": "CNY"}}, 400, "amount_malformed"),
        ({"OrderAmount": {"Amount": "1.001", "Currency": "CNY"}}, 400, "amount_malformed"),
        ({"OrderAmount": {"Amount": 12, "Currency": "CNY"}}, 400, "body_malformed"),
        ({"OrderAmount": {"Amount": "99999999.00", "Currency": "CNY"}}, 403, "policy_amount"),
        ({"OrderAmount": {"Amount": "12.00", "Currency": "EUR"}}, 403, "policy_currency"),
        ({"OrderAmount": {"Amount": "0.50", "Currency": "CNY"}}, 422, "offer_not_applicable"),
        ({"SiteId": "nowhere"}, 404, "unknown_site"),
        ({"CustomerToken": None}, 422, "offer_not_applicable"),
        ({"CustomerToken": "idt_1_invented"}, 422, "customer_unknown"),
        ({"OrderReference": None}, 400, "body_malformed"),
        ({"OrderReference": ""}, 400, "body_malformed"),
        ({"Plate": "?!"}, 400, "body_malformed"),
        ({"Plate": "?!?!"}, 400, "plate_malformed"),
        ({"OccurredAt": "2999-01-01T00:00:00Z"}, 400, "moment_in_future"),
        ({"OccurredAt": "2026-01-01T00:00:00"}, 400, "body_malformed"),
        ({"Quote": "e30.AAAA"}, 400, "quote_not_ours"),
        ({"Surprise": 1}, 400, "body_malformed"),
    ],
)
async def test_a_bad_hold_is_refused_by_name_and_changes_nothing(
    world: World, change: dict[str, Any], status: int, code: str
) -> None:
    answer = await post(world, "/redemptions", {**ORDER, **change})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert await traces(world) == []


async def test_limits_refuse_by_name(world: World) -> None:
    await held(world)
    same_customer = await post(world, "/redemptions", {**ORDER, "OrderReference": "order 2", "Plate": "粤B00002"})
    assert (same_customer.status_code, same_customer.json()["code"]) == (409, "customer_limit_reached")
    same_plate = await post(world, "/redemptions", {**ORDER, "OrderReference": "order 2", "CustomerToken": "idt_1_b"})
    assert (same_plate.status_code, same_plate.json()["code"]) == (409, "plate_limit_reached")
    assert len(await world.sql("SELECT 1 FROM redemption")) == 1


async def test_a_key_with_another_body_is_refused(world: World) -> None:
    await post(world, "/redemptions", ORDER, key="k")
    other = await post(world, "/redemptions", {**ORDER, "CustomerToken": "idt_1_b"}, key="k")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    assert len(await world.sql("SELECT 1 FROM redemption")) == 1


async def test_a_quote_is_for_its_own_order_and_its_own_partner(world: World) -> None:
    [quote] = (await post(world, "/redemption-quotes", ORDER)).json()["Data"]["Quote"]
    dearer = {**ORDER, "OrderAmount": {"Amount": "13.00", "Currency": "CNY"}, "Quote": quote["Quote"]}
    answer = await post(world, "/redemptions", dearer)
    assert (answer.status_code, answer.json()["code"]) == (422, "quote_differs")
    theirs = {
        "OfferId": "first-park",
        "OrderAmount": ORDER["OrderAmount"],
        "OrderReference": "1",
        "Quote": quote["Quote"],
    }
    foreign = await post(world, "/redemptions", theirs, partner="shopco")
    assert (foreign.status_code, foreign.json()["code"]) == (400, "quote_not_ours")
    assert await traces(world) == []


@pytest.mark.parametrize(
    ("step", "data"),
    [
        ("confirmation", {}),
        ("release", None),
        ("reversals", {"Amount": {"Amount": "1.00", "Currency": "CNY"}}),
    ],
)
async def test_steps_on_another_partners_redemption_or_none_are_refused(world: World, step: str, data: Any) -> None:
    redemption_id = await held(world)
    before = await traces(world)
    foreign = await post(world, f"/redemptions/{redemption_id}/{step}", data, partner="shopco")
    assert (foreign.status_code, foreign.json()["code"]) == (404, "unknown_resource")
    unknown = await post(world, f"/redemptions/rdm_nowhere/{step}", data)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_resource")
    assert await traces(world) == before


async def test_reading_another_partners_redemption_or_none_is_refused(world: World) -> None:
    redemption_id = await held(world)
    foreign = await world.client("shopco").call("GET", f"{BASE}/redemptions/{redemption_id}")
    assert (foreign.status_code, foreign.json()["code"]) == (404, "unknown_resource")
    unknown = await world.client("parkco").call("GET", f"{BASE}/redemptions/rdm_nowhere")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_resource")


async def test_steps_out_of_order_are_refused_and_change_nothing(world: World) -> None:
    redemption_id = await held(world)
    before = await traces(world)
    amount = {"Amount": {"Amount": "1.00", "Currency": "CNY"}}
    early = await post(world, f"/redemptions/{redemption_id}/reversals", amount)
    assert (early.status_code, early.json()["code"]) == (409, "redemption_not_confirmed")
    larger = {"OrderAmount": {"Amount": "12.02", "Currency": "CNY"}}
    above = await post(world, f"/redemptions/{redemption_id}/confirmation", larger)
    assert (above.status_code, above.json()["code"]) == (422, "order_above_hold")
    assert await traces(world) == before
    await post(world, f"/redemptions/{redemption_id}/confirmation", {})
    too_much = {"Amount": {"Amount": "12.01", "Currency": "CNY"}}
    excess = await post(world, f"/redemptions/{redemption_id}/reversals", too_much)
    assert (excess.status_code, excess.json()["code"]) == (422, "reversal_exceeds_redemption")
    late = await post(world, f"/redemptions/{redemption_id}/release", None)
    assert (late.status_code, late.json()["code"]) == (409, "redemption_already_confirmed")
