"""Parking through the front door: a plate under a mandate, in and out, debts, refunds; each yes and its nos."""

import asyncio
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from gateway.clock import now_ms
from gateway.consents import store as consents
from gateway.consents.consent import ConsentKind
from tests.conftest import World

BASE = "/partner/v1/parking"
PLATE = "粤B·12345"
CONTROL = {
    "MaximumIndividualAmount": {"Amount": "500.00", "Currency": "CNY"},
    "PeriodicLimits": [{"PeriodType": "Month", "PeriodAlignment": "Calendar", "Amount": "20000.00", "Currency": "CNY"}],
    "VRPType": ["UK.OBIE.VRPType.Other"],
    "PSUAuthenticationMethods": ["UK.OBIE.SCANotRequired"],
}


STARTED = datetime.now(UTC)


def hours_ago(hours: float) -> str:
    return (STARTED - timedelta(hours=hours)).isoformat()


async def post(
    world: World, path: str, data: dict[str, Any], *, partner: str = "parkco", key: str | None = None
) -> httpx.Response:
    return await world.client(partner).call("POST", f"{BASE}{path}", body={"Data": data}, key=key)


async def get(world: World, path: str, *, partner: str = "parkco") -> httpx.Response:
    return await world.client(partner).call("GET", f"{BASE}{path}")


async def done(awaitable: Any, status: int = 201) -> dict[str, Any]:
    answer = await awaitable
    assert answer.status_code == status, answer.text
    return dict(answer.json()["Data"])


async def customer(world: World, *, balance: str = "1000.00") -> str:
    """Somebody with an account in the sandbox bank."""
    person = {
        "Phone": f"+86138{secrets.randbelow(10**8):08}", "Name": "车主",
        "OpeningBalance": {"Amount": balance, "Currency": "CNY"},
    }  # fmt: skip
    answer = await world.http.post("/sandbox/v1/customers", json={"Customer": [person]})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["Data"]["Customer"][0]["CustomerId"])


async def consent(
    world: World, *, kind: ConsentKind = ConsentKind.DOMESTIC_VRP, partner: str = "parkco", balance: str = "1000.00"
) -> str:
    """A consent that its customer has approved."""
    client = world.client(partner)
    body = {"ControlParameters": CONTROL, "Initiation": {}, "Permissions": ["ReadAccountsBasic"]}
    async with world.house.database.transaction() as conn:
        made = await consents.create(
            conn, partner_id=partner, client_id=client.client_id, kind=kind, body=body, expires_ms=None, now_ms=now_ms()
        )
    who = {"CustomerId": await customer(world, balance=balance)}
    approved = await world.http.post(f"/sandbox/v1/consents/{made.consent_id}/authorisation", json=who)
    assert approved.status_code == 200, approved.text
    return made.consent_id


async def bound(world: World, *, plate: str = PLATE, balance: str = "1000.00") -> dict[str, Any]:
    mandate = await consent(world, balance=balance)
    return await done(post(world, "/vehicle-agreements", {"Plate": plate, "ConsentId": mandate}))


async def parked(world: World, *, plate: str = PLATE, hours: float = 3.0) -> str:
    session = await done(post(world, "/sessions", {"SiteId": "lot-1", "Plate": plate, "OccurredAt": hours_ago(hours)}))
    assert session["EntryState"] == "NORMAL", session
    return str(session["SessionId"])


async def charged(world: World, session_id: str, **data: Any) -> dict[str, Any]:
    return await done(post(world, f"/sessions/{session_id}/charges", data))


# --- the yes -------------------------------------------------------------------------------------------------------
async def test_a_car_comes_in_and_leaves_for_one_offer_and_gets_half_back(world: World) -> None:
    await bound(world)
    session_id = await parked(world, hours=4.0)
    left = hours_ago(1.0)
    quote = await done(post(world, f"/sessions/{session_id}/quotes", {"OccurredAt": left}))
    assert quote["FeeAmount"]["Amount"] == "36.00"
    assert quote["Offer"][0]["OfferId"] == "first-park"
    charge = await charged(world, session_id, OccurredAt=left)
    assert (charge["Status"], charge["OpenBarrier"], charge["PayableAmount"]["Amount"]) == ("SUCCESS", True, "16.00")
    assert (await done(get(world, f"/sessions/{session_id}"), 200))["Status"] == "LEFT"

    refund = await done(
        post(world, f"/charges/{charge['ChargeId']}/refunds", {"Amount": {"Amount": "18.00", "Currency": "CNY"}})
    )
    assert (refund["Status"], refund["CashAmount"]["Amount"], refund["DiscountAmount"]["Amount"]) == (
        "SUCCESS", "8.00", "10.00",
    )  # fmt: skip
    shown = await done(get(world, f"/charges/{charge['ChargeId']}"), 200)
    assert shown["RefundedAmount"]["Amount"] == "18.00"
    assert [entry["RefundId"] for entry in shown["Refund"]] == [refund["RefundId"]]
    booked = await world.sql("SELECT account, sum(amount_minor)::bigint AS minor FROM ledger_posting GROUP BY 1")
    assert {row["account"]: row["minor"] for row in booked} == {
        "core_clearing:bank:CNY": 800, "merchant_receipts:parkco:CNY": -800, "discount_expense:bank:CNY": 600,
        "funded_receivable:parkco:CNY": 400, "merchant_clearing:parkco:CNY": -1000,
    }  # fmt: skip


async def test_the_plate_is_never_stored_and_comes_back_masked(world: World) -> None:
    agreement = await bound(world)
    assert agreement["Plate"] == "粤B****5"
    await parked(world)
    for table in ("vehicle_agreement", "parking_session", "event", "audit"):
        for row in await world.sql(f"SELECT to_jsonb({table})::text AS row FROM {table}"):
            assert "12345" not in row["row"]
    again = await done(get(world, f"/vehicle-agreements/{agreement['AgreementId']}"), 200)
    assert again == agreement
    assert agreement["CustomerToken"].startswith("idt_1_")


async def test_a_repeated_charge_is_the_same_charge(world: World) -> None:
    await bound(world)
    session_id = await parked(world)
    answers = await asyncio.gather(*(post(world, f"/sessions/{session_id}/charges", {}, key="k") for _ in range(3)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["Data"]["ChargeId"] for answer in answers}) == 1
    assert len(await world.sql("SELECT 1 FROM parking_charge")) == 1
    assert len(await world.sql("SELECT 1 FROM redemption WHERE state <> 'RELEASED'")) == 1


async def test_a_short_stay_is_free(world: World) -> None:
    await bound(world)
    charge = await charged(world, await parked(world, hours=0.1), OccurredAt=hours_ago(0.0))
    assert (charge["Status"], charge["FeeAmount"]["Amount"]) == ("SUCCESS", "0.00")


async def test_lots_show_their_fees_and_how_many_are_inside(world: World) -> None:
    await bound(world)
    await parked(world)
    lots = {lot["SiteId"]: lot for lot in (await done(get(world, "/lots"), 200))["Lot"]}
    assert lots["lot-1"]["ParkedVehicles"] == 1
    assert lots["lot-1"]["FreeSpaces"] == lots["lot-1"]["Capacity"] - 1
    assert lots["lot-1"]["Tariff"]["TariffId"] == "city-centre"
    assert (await done(get(world, "/lots", partner="parkco"), 200))["Lot"][1]["ParkedVehicles"] == 0


# --- blocked at the entry ------------------------------------------------------------------------------------------
async def entry(world: World, plate: str = PLATE) -> tuple[str, str | None]:
    session = await done(post(world, "/sessions", {"SiteId": "lot-1", "Plate": plate, "OccurredAt": hours_ago(1)}))
    return session["EntryState"], session.get("BlockReason")


async def test_the_barrier_is_told_why_a_car_is_blocked(world: World) -> None:
    assert await entry(world) == ("BLOCKED", "NO_AGREEMENT")
    await bound(world)
    assert await entry(world) == ("NORMAL", None)
    assert await entry(world, "粤b12345") == ("BLOCKED", "ALREADY_PARKED"), "one spelling of a plate"


async def test_a_mandate_that_ended_blocks_and_a_new_one_opens(world: World) -> None:
    agreement = await bound(world)
    async with world.house.database.transaction() as conn:
        await consents.revoke(conn, agreement["ConsentId"], partner_id="parkco", actor="customer", now_ms=now_ms())
    await world.house.foundation.feed.catch_up()
    assert await entry(world) == ("BLOCKED", "MANDATE_ENDED")
    await bound(world)
    assert await entry(world) == ("NORMAL", None)


async def test_a_charge_that_cannot_be_taken_blocks_the_next_entry_until_it_is_paid(world: World) -> None:
    await bound(world, balance="0.00")
    session_id = await parked(world)
    failed = await charged(world, session_id)
    assert (failed["Status"], failed["OpenBarrier"]) == ("PAY_FAIL", False)
    assert (await done(get(world, f"/sessions/{session_id}"), 200))["Status"] == "OWING"
    assert await entry(world) == ("BLOCKED", "OVERDUE")
    [held] = await world.sql("SELECT state FROM redemption")
    assert held["state"] == "RELEASED"


async def test_a_full_lot_lets_nobody_in(world: World) -> None:
    await world.sql("INSERT INTO parking_lot VALUES ('parkco', 'lot-1', 1000000)")
    await bound(world)
    assert await entry(world) == ("BLOCKED", "LOT_FULL")
    [lot] = await world.sql("SELECT parked FROM parking_lot")
    assert lot["parked"] == 1_000_000


async def test_of_many_entries_of_one_plate_at_once_one_is_normal(world: World) -> None:
    await bound(world)
    states = await asyncio.gather(*(entry(world) for _ in range(6)))
    assert sorted(states, key=str).count(("NORMAL", None)) == 1
    [lot] = await world.sql("SELECT parked FROM parking_lot")
    assert lot["parked"] == 1


# --- the nos -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        ({"SiteId": "nowhere", "Plate": PLATE}, 404, "unknown_site"),
        ({"SiteId": "lot-1", "Plate": "?!?!"}, 400, "plate_malformed"),
        ({"SiteId": "lot-1", "Plate": PLATE, "OccurredAt": "2999-01-01T00:00:00Z"}, 400, "moment_in_future"),
        ({"SiteId": "lot-1", "Plate": PLATE, "OccurredAt": "yesterday"}, 400, "body_malformed"),
        ({"SiteId": "lot-1"}, 400, "body_malformed"),
        ({"SiteId": "lot-1", "Plate": PLATE, "Colour": "red"}, 400, "body_malformed"),
    ],
)
async def test_a_bad_entry_is_refused_by_name_and_changes_nothing(
    world: World, data: dict[str, Any], status: int, code: str
) -> None:
    answer = await post(world, "/sessions", data)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert await world.sql("SELECT 1 FROM parking_session UNION ALL SELECT 1 FROM idempotency") == []


async def test_only_an_authorised_mandate_of_ones_own_can_pay(world: World) -> None:
    async def refused(consent_id: str) -> tuple[int, str]:
        answer = await post(world, "/vehicle-agreements", {"Plate": PLATE, "ConsentId": consent_id})
        return answer.status_code, answer.json()["code"]

    assert await refused("cns_nowhere") == (404, "unknown_resource")
    assert await refused(await consent(world, partner="shopco")) == (404, "unknown_resource")
    assert await refused(await consent(world, kind=ConsentKind.ACCOUNT_ACCESS)) == (422, "consent_not_mandate")
    async with world.house.database.transaction() as conn:
        waiting = await consents.create(
            conn, partner_id="parkco", client_id="parkco-app", kind=ConsentKind.DOMESTIC_VRP, body={}, expires_ms=None,
            now_ms=now_ms(),
        )  # fmt: skip
    assert await refused(waiting.consent_id) == (403, "consent_not_in_force")
    await bound(world)
    assert await refused(await consent(world)) == (409, "plate_already_bound")
    assert len(await world.sql("SELECT 1 FROM vehicle_agreement")) == 1


async def test_another_partners_things_are_out_of_reach(world: World) -> None:
    agreement = await bound(world)
    session_id = await parked(world)
    charge = await charged(world, session_id)
    for path in (
        f"/vehicle-agreements/{agreement['AgreementId']}", f"/sessions/{session_id}", f"/charges/{charge['ChargeId']}",
    ):  # fmt: skip
        foreign = await get(world, path, partner="shopco")
        assert foreign.status_code == 403, "shopco's policy opens no parking, and the thing is parkco's"
        unknown = await get(world, path[:-4] + "0000")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_resource")


async def test_charges_out_of_order_are_refused(world: World) -> None:
    await bound(world)
    session_id = await parked(world, hours=1)
    early = await post(world, f"/sessions/{session_id}/charges", {"OccurredAt": hours_ago(2)})
    assert (early.status_code, early.json()["code"]) == (400, "left_before_entry")
    no_offer = await post(world, f"/sessions/{session_id}/charges", {"OfferId": "nothing-of-ours"})
    assert (no_offer.status_code, no_offer.json()["code"]) == (404, "unknown_offer")
    charge = await charged(world, session_id)
    again = await post(world, f"/sessions/{session_id}/charges", {})
    assert (again.status_code, again.json()["code"]) == (409, "session_not_open")
    too_much = {"Amount": {"Amount": "999.00", "Currency": "CNY"}}
    excess = await post(world, f"/charges/{charge['ChargeId']}/refunds", too_much)
    assert (excess.status_code, excess.json()["code"]) == (422, "refund_exceeds_charge")
    nothing = await post(
        world, f"/charges/{charge['ChargeId']}/refunds", {"Amount": {"Amount": "0.00", "Currency": "CNY"}}
    )
    assert (nothing.status_code, nothing.json()["code"]) == (400, "amount_not_positive")
    assert await world.sql("SELECT 1 FROM parking_refund") == []


async def test_a_blocked_entry_cannot_be_quoted_or_charged(world: World) -> None:
    session = await done(post(world, "/sessions", {"SiteId": "lot-1", "Plate": PLATE, "OccurredAt": hours_ago(1)}))
    for step in ("quotes", "charges"):
        answer = await post(world, f"/sessions/{session['SessionId']}/{step}", {})
        assert (answer.status_code, answer.json()["code"]) == (409, "session_not_open")
