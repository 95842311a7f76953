"""Payments when the core bank says no, or nothing: pending until it has been asked, and never sent twice."""

import pytest

from gateway.clock import now_ms
from tests.api.vrp_calls import PAYMENTS, fault, given, pay, payment_body, read, spent
from tests.conftest import World
from tests.tills import ASKED_AFTER_S


async def test_a_rejected_payment_says_why_and_leaves_the_limit_as_it_was(world: World) -> None:
    consent_id, token = await given(world)
    await fault(world, "reject")
    made = await pay(world, token, payment_body(consent_id, "200.00"))
    assert (made.status_code, made.json()["Data"]["Status"]) == (201, "RJCT")
    assert made.json()["Data"]["StatusReason"][0]["StatusReasonCode"] == "NARR"
    details = await read(world, f"{PAYMENTS}/{made.json()['Data']['DomesticVRPId']}/payment-details")
    assert details.json()["Data"]["PaymentStatus"][0]["StatusDetail"]["StatusReason"] == "NARR"
    assert (await pay(world, token, payment_body(consent_id, "200.00"))).json()["Data"]["Status"] == "ACSC"


async def settle_for_good(world: World) -> None:
    chore = next(chore for chore in world.house.chores if chore.name == "settle pending payments")
    began_ms = now_ms()
    for after_s in ASKED_AFTER_S:
        await chore.run(began_ms + after_s * 1_000)


@pytest.mark.parametrize(
    ("effect", "status", "minor", "orders"), [("lose_answer", "ACSC", 1250, 1), ("lose_request", "RJCT", 0, 0)]
)
async def test_a_payment_that_was_not_answered_stays_pending_until_the_bank_is_asked(
    world: World, effect: str, status: str, minor: int, orders: int
) -> None:
    consent_id, token = await given(world)
    await fault(world, effect)
    made = (await pay(world, token, payment_body(consent_id))).json()["Data"]
    assert made["Status"] == "PDNG"
    await settle_for_good(world)
    found = (await read(world, f"{PAYMENTS}/{made['DomesticVRPId']}")).json()["Data"]
    assert found["Status"] == status
    assert (await spent(world), len(await world.sql("SELECT 1 FROM sandbox_bank.bank_order"))) == (minor, orders)
    assert len(await world.sql("SELECT 1 FROM ledger_entry WHERE cause LIKE 'payment.collected:%'")) == orders


async def test_a_retry_after_a_lost_answer_finds_the_payment_settled(world: World) -> None:
    consent_id, token = await given(world)
    await fault(world, "lose_answer")
    body = payment_body(consent_id)
    answers = [(await pay(world, token, body, key="k1")).json()["Data"] for _ in range(2)]
    assert [answer["Status"] for answer in answers] == ["PDNG", "ACSC"]
    assert answers[0]["DomesticVRPId"] == answers[1]["DomesticVRPId"]
    assert await spent(world) == 1250
