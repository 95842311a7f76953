"""How late a partner may tell what has happened: fifteen minutes for a price, the contract's days for a stay."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import msgspec
import pytest

from gateway.call import Call, Grant
from gateway.clock import MomentTooLate, now_ms, rfc3339
from gateway.discounts.quote import QuoteDiffers
from gateway.jsonio import decode
from gateway.partners.snapshot import Snapshot
from gateway.partners.store import know_customers
from gateway.routes import OPERATIONS
from tests.api.moment_calls import HOLD, ORDER, hold
from tests.api.test_parking import PLATE, bound, done, hours_ago, parked, post
from tests.conftest import World

MINUTE_MS, DAY_MS = 60_000, 86_400_000
QUOTES = "/partner/v1/redemption-quotes"


def ago(ms: int) -> str:
    return rfc3339(now_ms() - ms)


async def facts(world: World) -> list[int]:
    """What must not move when a request is refused."""
    tables = ("event", "redemption", "parking_session", "parking_charge", "redemption_step")
    return [(await world.sql(f"SELECT count(*) FROM {table}"))[0][0] for table in tables]


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.json()["path"] == "$.Data.OccurredAt"


async def held(world: World, occurred_at: str, **more: Any) -> httpx.Response:
    return await hold(world, "", {"Data": {**HOLD["Data"], "OccurredAt": occurred_at, **more}}, {})


async def entered(world: World, occurred_at: str, *, key: str | None = None) -> httpx.Response:
    return await post(world, "/sessions", {"SiteId": "lot-1", "Plate": PLATE, "OccurredAt": occurred_at}, key=key)


# --- prices ----------------------------------------------------------------------------------------------------------
async def test_a_hold_sixteen_minutes_late_is_too_late(world: World) -> None:
    before = await facts(world)
    answer = await held(world, ago(16 * MINUTE_MS))
    refused(answer, 422, "too_late")
    assert "15 minutes" in answer.json()["detail"]
    assert await facts(world) == before


async def test_a_hold_fourteen_minutes_late_is_taken(world: World) -> None:
    answer = await held(world, ago(14 * MINUTE_MS))
    assert answer.status_code == 201, answer.text


async def test_a_quote_sixteen_minutes_late_is_too_late_and_one_of_fourteen_is_given(world: World) -> None:
    client = world.client("parkco")
    late = await client.call("POST", QUOTES, body={"Data": {**ORDER, "OccurredAt": ago(16 * MINUTE_MS)}})
    refused(late, 422, "too_late")
    given = await client.call("POST", QUOTES, body={"Data": {**ORDER, "OccurredAt": ago(14 * MINUTE_MS)}})
    assert given.status_code == 201, given.text


async def test_a_quote_is_kept_for_its_five_minutes_whatever_its_moment(world: World) -> None:
    moment = now_ms()
    asked = {**ORDER, "OfferId": "first-park", "CustomerToken": "idt_1_q", "Plate": PLATE, "OrderReference": "o-q",
             "OccurredAt": rfc3339(moment - 14 * MINUTE_MS)}  # fmt: skip
    async with world.house.database.transaction() as conn:
        await know_customers(conn, [("parkco", "idt_1_q")], source="consent", now_ms=moment)
    [quoted] = (await at(world, "QuoteRedemption", moment, data=asked))["Data"]["Quote"]
    later, promised = moment + 4 * MINUTE_MS, {**asked, "Quote": quoted["Quote"]}
    with pytest.raises(MomentTooLate):
        await at(world, "HoldRedemption", later, data=asked)
    with pytest.raises(QuoteDiffers):
        await at(world, "HoldRedemption", later, data={**promised, "OccurredAt": rfc3339(moment - DAY_MS)})
    kept = await at(world, "HoldRedemption", later, data=promised)
    assert kept["Data"]["OccurredAt"] == asked["OccurredAt"]


async def test_a_retry_of_a_hold_finds_it_however_late(world: World) -> None:
    moment = now_ms()
    asked = {**ORDER, "OfferId": "first-park", "CustomerToken": "idt_1_r", "Plate": PLATE, "OrderReference": "o-r",
             "OccurredAt": ago(MINUTE_MS)}  # fmt: skip
    async with world.house.database.transaction() as conn:
        await know_customers(conn, [("parkco", "idt_1_r")], source="consent", now_ms=moment)
    first = await at(world, "HoldRedemption", moment, data=asked)
    again = await at(world, "HoldRedemption", moment + DAY_MS, data=asked)
    assert again["Data"]["RedemptionId"] == first["Data"]["RedemptionId"]


async def test_a_clock_may_run_a_minute_ahead_and_no_more(world: World) -> None:
    assert (await held(world, ago(-50_000))).status_code == 201
    refused(await held(world, ago(-70_000)), 400, "moment_in_future")


# --- stays -----------------------------------------------------------------------------------------------------------
async def test_a_car_that_entered_in_year_one_is_refused_and_poisons_nothing(world: World) -> None:
    await bound(world)
    before = await facts(world)
    refused(await entered(world, "0001-01-01T00:00:00+14:00"), 400, "moment_out_of_range")
    assert await facts(world) == before
    assert (await done(entered(world, hours_ago(1))))["EntryState"] == "NORMAL", "the plate is still to come in"


async def test_a_stay_told_within_late_days_is_taken(world: World) -> None:
    await bound(world)
    session = await done(entered(world, ago(3 * DAY_MS - MINUTE_MS)))
    path = f"/sessions/{session['SessionId']}"
    left = {"OccurredAt": ago(3 * DAY_MS - 2 * MINUTE_MS)}
    assert (await post(world, f"{path}/quotes", left)).status_code == 201
    assert (await done(post(world, f"{path}/charges", left)))["Status"] == "SUCCESS"


async def test_an_entry_told_after_late_days_is_too_late(world: World) -> None:
    await bound(world)
    before = await facts(world)
    answer = await entered(world, ago(3 * DAY_MS + MINUTE_MS))
    refused(answer, 422, "too_late")
    assert "3 days" in answer.json()["detail"]
    assert await facts(world) == before


@pytest.mark.parametrize("step", ["quotes", "charges"])
async def test_an_exit_told_after_late_days_is_too_late(world: World, step: str) -> None:
    await bound(world)
    session_id, before = await parked(world), await facts(world)
    await world.sql("UPDATE parking_session SET entered_at_ms = entered_at_ms - $1", 30 * DAY_MS)
    refused(
        await post(world, f"/sessions/{session_id}/{step}", {"OccurredAt": ago(4 * DAY_MS)}), 422, "too_late"
    )  # fmt: skip
    assert await facts(world) == before


async def test_a_stay_of_many_years_has_a_fee(world: World) -> None:
    await bound(world)
    session_id = await parked(world)
    await world.sql("UPDATE parking_session SET entered_at_ms = $1", 946_684_800_000)
    answer = await post(world, f"/sessions/{session_id}/quotes", {})
    assert (answer.status_code, answer.json()["code"]) == (403, "policy_amount"), answer.text


async def test_a_car_leaves_at_once_though_the_clock_at_the_entry_runs_ahead(world: World) -> None:
    await bound(world)
    session = await done(entered(world, ago(-50_000)))
    path = f"/sessions/{session['SessionId']}"
    early = await post(world, f"{path}/charges", {"OccurredAt": ago(0)})
    assert (early.status_code, early.json()["code"]) == (400, "left_before_entry")
    assert (await done(post(world, f"{path}/charges", {})))["FeeAmount"]["Amount"] == "0.00"


async def test_a_debt_is_tried_again_however_late(world: World) -> None:
    """The exit was told in time, once: the same body, days afterwards, is no new exit."""
    await bound(world, balance="0.00")
    session_id = await parked(world)
    told = {"OccurredAt": hours_ago(1)}
    assert (await done(post(world, f"/sessions/{session_id}/charges", told)))["Status"] == "PAY_FAIL"
    later = await at(world, "ChargeParking", now_ms() + 10 * DAY_MS, data=told, SessionId=session_id)
    assert later["Data"]["Status"] == "PAY_FAIL"


async def test_a_retry_of_an_entry_finds_its_stay_however_late(world: World) -> None:
    await bound(world)
    moment = now_ms()
    told = {"SiteId": "lot-1", "Plate": PLATE, "OccurredAt": rfc3339(moment)}
    first = await at(world, "EnterParking", moment, data=told, key="k-1")
    again = await at(world, "EnterParking", moment + 10 * DAY_MS, data=told, key="k-1")
    assert again["Data"] == first["Data"]


async def test_the_contract_in_force_says_how_late(world: World) -> None:
    snapshot = world.house.foundation.snapshot()
    [*_, contract] = snapshot.contracts["parkco"]
    hasty = replace_settle(contract, late_days=1)
    await bound(world)
    told = {"SiteId": "lot-1", "Plate": PLATE, "OccurredAt": ago(2 * DAY_MS)}
    picture = replace(snapshot, contracts={"parkco": (hasty,)})
    with pytest.raises(MomentTooLate, match="1 day"):
        await at(world, "EnterParking", now_ms(), data=told, picture=lambda: picture)
    assert (await at(world, "EnterParking", now_ms(), data=told))["Data"]["EntryState"] == "NORMAL"


def replace_settle(contract: Any, **settle: Any) -> Any:
    return msgspec.structs.replace(contract, settle=msgspec.structs.replace(contract.settle, **settle))


async def at(
    world: World, operation_id: str, moment_ms: int, *, data: Any, key: str = "k",
    picture: Callable[[], Snapshot] | None = None, **path: str,
) -> dict[str, Any]:  # fmt: skip
    """What parkco's call answers at that moment: the same room, and a call that has been admitted then."""
    known = world.house.foundation.snapshot()
    partner, operation = known.partners["parkco"], next(row for row in OPERATIONS if row.id == operation_id)
    raw = json.dumps({"Data": data}).encode()
    call = Call(
        operation=operation, now_ms=moment_ms, interaction_id="i", partner=partner, app=partner.apps[0],
        policy=known.policies["parkco"], grant=Grant("g", "c", frozenset(), "c", None), path=path, query={},
        headers={}, body=decode(raw, operation.body), raw_body=raw, idempotency_key=key, request_hash=raw[:32],
    )  # fmt: skip
    room = world.house.rooms[operation.room]
    if picture is not None:
        room = replace(room, snapshot=picture)
    answer = await operation.endpoint(room, call)
    return dict(answer.payload)
