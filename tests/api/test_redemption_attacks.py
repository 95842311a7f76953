"""What a partner may try to get more, or pay less, than its contract says: through the front door, and in vain."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from gateway.consents.consent import ConsentKind
from gateway.jsonio import decode
from tests.api.test_parking import bound, charged, consent, parked
from tests.api.test_redemptions import ORDER, held, post, traces
from tests.conftest import World


async def refused(awaitable: Any) -> tuple[int, str]:
    answer = await awaitable
    return answer.status_code, answer.json()["code"]


async def test_two_hundred_invented_customers_get_nothing(world: World) -> None:
    tries = (
        post(world, "/redemptions", {**ORDER, "CustomerToken": f"idt_1_invented{n}", "OrderReference": f"o{n}"})
        for n in range(200)
    )
    answers = await asyncio.gather(*tries)
    found = Counter((answer.status_code, answer.json()["code"]) for answer in answers)
    assert found == {(422, "customer_unknown"): 200}
    assert await traces(world) == []


async def test_a_customer_of_another_partner_is_unknown(world: World) -> None:
    await world.sql("DELETE FROM known_customer WHERE partner_id = 'parkco' AND token = 'idt_1_a'")
    assert await refused(post(world, "/redemptions", ORDER)) == (422, "customer_unknown")
    await world.sql("INSERT INTO known_customer VALUES ('parkco', 'idt_1_a', 1, 'feed', 1)")
    await held(world)


async def test_who_has_bound_a_vehicle_is_known(world: World) -> None:
    agreement = await bound(world)
    await held(world, CustomerToken=agreement["CustomerToken"])
    [row] = await world.sql("SELECT source FROM known_customer WHERE token = $1", agreement["CustomerToken"])
    assert row["source"] in ("vehicle", "consent")


async def test_who_has_given_a_consent_is_known_to_that_partner_only(world: World) -> None:
    await consent(world, kind=ConsentKind.ACCOUNT_ACCESS, partner="shopco")
    [row] = await world.sql("SELECT partner_id, token FROM known_customer WHERE source = 'consent'")
    assert row["partner_id"] == "shopco"
    stolen = {**ORDER, "CustomerToken": row["token"]}
    assert await refused(post(world, "/redemptions", stolen)) == (422, "customer_unknown")
    order = {
        "OfferId": "spend-200", "OrderAmount": {"Amount": "200.00", "Currency": "CNY"}, "CustomerToken": row["token"],
        "OrderReference": "1",
    }  # fmt: skip
    assert (await post(world, "/redemptions", order, partner="shopco")).status_code == 201


async def test_one_order_cannot_be_sold_two_offers(world: World) -> None:
    first = await held(world)
    other = {"CustomerToken": "idt_1_b", "Plate": "粤B00002"}
    assert await refused(post(world, "/redemptions", {**ORDER, **other})) == (409, "order_has_offer")
    await post(world, f"/redemptions/{first}/release", None)
    second = await held(world, **other)
    await post(world, f"/redemptions/{second}/confirmation", {})
    assert await refused(post(world, "/redemptions", ORDER)) == (409, "order_has_offer")
    await held(world, OrderReference="order 2")


async def test_another_partner_may_have_an_order_of_the_same_name(world: World) -> None:
    await held(world)
    theirs = {
        "OfferId": "spend-200", "OrderAmount": {"Amount": "200.00", "Currency": "CNY"}, "CustomerToken": "idt_1_a",
        "OrderReference": ORDER["OrderReference"],
    }  # fmt: skip
    answer = await post(world, "/redemptions", theirs, partner="shopco")
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    ("final", "expected"),
    [
        ({"OrderAmount": {"Amount": "0.99", "Currency": "CNY"}}, (422, "offer_not_applicable")),
        ({"OrderAmount": {"Amount": "12.01", "Currency": "EUR"}}, (400, "currency_differs")),
        ({"SiteId": "nowhere"}, (404, "unknown_site")),
        ({"SiteId": ""}, (400, "body_malformed")),
        ({"OrderAmount": {"Amount": "12.02", "Currency": "CNY"}}, (422, "order_above_hold")),
    ],
)
async def test_a_final_order_that_the_offer_is_not_for_gets_nothing(
    world: World, final: dict[str, Any], expected: tuple[int, str]
) -> None:
    redemption_id = await held(world)
    before = await traces(world)
    assert await refused(post(world, f"/redemptions/{redemption_id}/confirmation", final)) == expected
    assert await traces(world) == before


async def test_what_was_asked_of_the_final_order_is_sealed(world: World) -> None:
    redemption_id = await held(world)
    order = {"OrderAmount": {"Amount": "10.01", "Currency": "CNY"}, "SiteId": "lot-2"}
    confirmed = await post(world, f"/redemptions/{redemption_id}/confirmation", order)
    assert confirmed.json()["Data"]["SiteId"] == "lot-2"
    [row] = await world.sql("SELECT leaf FROM event WHERE type = 'redemption.confirmed'")
    data = decode(row["leaf"], dict[str, Any])["data"]
    assert {name: data[name] for name in ("order_minor", "site", "mcc", "order_reference")} == {
        "order_minor": 1001, "site": "lot-2", "mcc": "7523", "order_reference": "order 1",
    }  # fmt: skip
    assert data["seed"].endswith(f"|{redemption_id}")
    assert data["cap_left_minor"] == {"partner": 200_000_000}


async def test_a_partner_cannot_empty_its_own_cap_with_holds(world: World) -> None:
    await world.sql("INSERT INTO counter (name, taken, used) VALUES ($1, $2, $2)",
                    "fund|parkco-2025|first-park|CNY|partner", 200_000_000 - 480)  # fmt: skip
    for number in range(20):
        await held(world, CustomerToken=f"idt_1_{number}", Plate=f"粤B1{number:04d}", OrderReference=f"o{number}")
    redemption_id = await held(world)
    done = (await post(world, f"/redemptions/{redemption_id}/confirmation", {})).json()["Data"]
    assert {leg["Party"]: leg["Amount"]["Amount"] for leg in done["Funding"]} == {"bank": "7.20", "partner": "4.80"}
    campaigns = (await world.client("parkco").call("GET", "/partner/v1/campaigns")).json()["Data"]["Campaign"]
    [campaign] = [campaign for campaign in campaigns if campaign["OfferId"] == "first-park"]
    assert [funder.get("Left", {}).get("Amount") for funder in campaign["Funding"]] == [None, "0.00"]


async def test_a_reversal_in_another_currency_is_refused(world: World) -> None:
    redemption_id = await held(world)
    await post(world, f"/redemptions/{redemption_id}/confirmation", {})
    amount = {"Amount": {"Amount": "1.00", "Currency": "EUR"}}
    assert await refused(post(world, f"/redemptions/{redemption_id}/reversals", amount)) == (400, "currency_differs")


async def test_the_discount_of_a_parking_charge_is_out_of_its_partners_hands(world: World) -> None:
    await bound(world)
    charge = await charged(world, await parked(world))
    assert charge["Status"] == "SUCCESS"
    path = f"/redemptions/{charge['RedemptionId']}"
    before = await traces(world)
    amount = {"Amount": {"Amount": "1.00", "Currency": "CNY"}}
    for step, body in (("confirmation", {}), ("release", None), ("reversals", amount)):
        assert await refused(post(world, f"{path}/{step}", body)) == (409, "redemption_bound")
    assert await traces(world) == before
