"""Payments under a mandate through the public door: each yes and its nos."""

import asyncio
from typing import Any

import httpx
import pytest

from gateway.clock import now_ms, rfc3339
from gateway.ids import new_id
from gateway.money import Money
from gateway.payments.api import PaymentsApi
from gateway.payments.model import Order
from tests.api.vrp_calls import (
    CREDITOR,
    MANDATES,
    PAYMENTS,
    given,
    mandate_body,
    pay,
    payment_body,
    read,
    refused,
    spent,
)
from tests.conftest import World


async def test_a_payment_settles_and_reads_as_it_was_sent(world: World) -> None:
    consent_id, token = await given(world)
    body = payment_body(consent_id)
    made = await pay(world, token, body)
    assert made.status_code == 201, made.text
    data = made.json()["Data"]
    assert (data["Status"], data["Instruction"], data["Initiation"]) == ("ACSC", body["Data"]["Instruction"], {})
    found = await read(world, f"{PAYMENTS}/{data['DomesticVRPId']}")
    assert (found.status_code, found.json()["Data"], found.json()["Risk"]) == (200, data, body["Risk"])
    details = await read(world, f"{PAYMENTS}/{data['DomesticVRPId']}/payment-details")
    assert details.json()["Data"]["PaymentStatus"][0]["Status"] == "ACSC"
    assert await spent(world) == 1250
    [event] = await world.sql("SELECT partner, amount_minor, leaf FROM event WHERE type = 'payment.completed'")
    assert (event["partner"], event["amount_minor"]) == ("parkco", 1250)
    assert b"Parking" not in event["leaf"]


async def test_a_payment_is_seen_in_the_balance_at_once(world: World) -> None:
    reading = await world.customer_token("accounts")
    client = world.client("parkco")
    listed = await client.call("GET", "/open-banking/v4.0/aisp/accounts", token=reading)
    path = f"/open-banking/v4.0/aisp/accounts/{listed.json()['Data']['Account'][0]['AccountId']}/balances"
    before = (await client.call("GET", path, token=reading)).json()["Data"]["Balance"][0]["Amount"]["Amount"]
    consent_id, token = await given(world)
    await pay(world, token, payment_body(consent_id))
    after = (await client.call("GET", path, token=reading)).json()["Data"]["Balance"][0]["Amount"]["Amount"]
    assert (before, after) == ("1000000.00", "999987.50")


async def test_the_same_key_pays_once_also_at_the_same_time(world: World) -> None:
    consent_id, token = await given(world)
    body = payment_body(consent_id)
    answers = await asyncio.gather(*(pay(world, token, body, key="k1") for _ in range(4)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["Data"]["DomesticVRPId"] for answer in answers}) == 1
    again = await pay(world, token, body, key="k1")
    assert (again.status_code, again.json()["Data"]["Status"]) == (201, "ACSC")
    refused(await pay(world, token, payment_body(consent_id, "12.51"), key="k1"), status=409, code="U029")
    assert await spent(world) == 1250


@pytest.mark.parametrize(
    ("changes", "code", "path"),
    [
        ({"Initiation": {"CreditorAccount": CREDITOR}}, "U008", "Data.Initiation"),
        ({"Risk": {}}, "U008", "Risk"),
        ({"VRPType": "UK.OBIE.VRPType.Sweeping"}, "U008", "Data.VRPType"),
        ({"PSUAuthenticationMethod": "UK.OBIE.SCA"}, "U008", "Data.PSUAuthenticationMethod"),
        ({"PSUInteractionType": "InSession"}, "U008", "Data.PSUInteractionType"),
        ({"ConsentId": "cns_other"}, "U008", "Data.ConsentId"),
        ({"CreditorAccount": {**CREDITOR, "Identification": "shopco-settlement"}}, "U002",
         "Data.Instruction.CreditorAccount.Identification"),
        ({"InstructedAmount": {"Amount": "0.00", "Currency": "CNY"}}, "U002", None),
        ({"InstructedAmount": {"Amount": "200.01", "Currency": "CNY"}}, "U014",
         "Data.ControlParameters.MaximumIndividualAmount"),
        ({"Instruction": {}}, "U002", None),
    ],
)  # fmt: skip
async def test_a_payment_that_the_customer_did_not_allow_is_refused(
    world: World, changes: dict[str, Any], code: str, path: str | None
) -> None:
    consent_id, token = await given(world)
    refused(await pay(world, token, payment_body(consent_id, **changes)), status=400, code=code, path=path)
    assert (await spent(world), await world.sql("SELECT 1 FROM payment")) == (0, [])


async def test_another_creditor_than_the_mandates_is_refused(world: World) -> None:
    consent_id, token = await given(world, mandate_body(CreditorAccount=CREDITOR))
    initiation = {"CreditorAccount": CREDITOR}
    assert (await pay(world, token, payment_body(consent_id, Initiation=initiation))).status_code == 201
    other = {**CREDITOR, "Identification": "shopco-settlement"}
    body = payment_body(consent_id, Initiation=initiation, CreditorAccount=other)
    refused(await pay(world, token, body), status=400, code="U008", path="Data.Instruction.CreditorAccount")


async def test_a_payment_above_the_policys_amount_is_refused(world: World) -> None:
    wide = {"Amount": "9000.00", "Currency": "CNY"}
    limit = {"PeriodType": "Day", "PeriodAlignment": "Calendar", **wide}
    consent_id, token = await given(world, mandate_body(MaximumIndividualAmount=wide, PeriodicLimits=[limit]))
    refused(await pay(world, token, payment_body(consent_id, "5000.01")), status=403, code="U014")
    assert (await pay(world, token, payment_body(consent_id, "5000.00"))).status_code == 201


async def test_a_days_limit_holds_however_many_pay_at_once(world: World) -> None:
    consent_id, token = await given(world)
    answers = await asyncio.gather(*(pay(world, token, payment_body(consent_id, "110.00")) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 400, 400, 400]
    path = "Data.ControlParameters.PeriodicLimits[0].Amount"
    for answer in answers:
        if answer.status_code == 400:
            refused(answer, status=400, code="U014", path=path)
    assert await spent(world) == 22_000


async def test_a_mandate_that_has_not_begun_takes_nothing(world: World) -> None:
    tomorrow = rfc3339(now_ms() + 86_400_000)
    consent_id, token = await given(world, mandate_body(ValidFromDateTime=tomorrow))
    answer = await pay(world, token, payment_body(consent_id))
    refused(answer, status=400, code="U014", path="Data.ControlParameters.ValidFromDateTime")


async def test_nobody_reads_anothers_payment(world: World) -> None:
    consent_id, token = await given(world)
    payment_id = (await pay(world, token, payment_body(consent_id))).json()["Data"]["DomesticVRPId"]
    for tail in ("", "/payment-details"):
        refused(await read(world, f"{PAYMENTS}/{payment_id}{tail}", partner_id="shopco"), status=403, code="D002")
        refused(await read(world, f"{PAYMENTS}/pay_no{tail}"), status=400, code="U011")


# --- funds -------------------------------------------------------------------------------------------------------
async def ask_funds(world: World, consent_id: str, token: Any, amount: str) -> httpx.Response:
    question = {"ConsentId": consent_id, "Reference": "r", "InstructedAmount": {"Amount": amount, "Currency": "CNY"}}
    path = f"{MANDATES}/{consent_id}/funds-confirmation"
    return await world.client("parkco").call("POST", path, token=token, body={"Data": question}, sign="jws")


@pytest.mark.parametrize(("amount", "said"), [("100.00", "Available"), ("100.01", "NotAvailable")])
async def test_funds_are_confirmed_without_telling_the_balance(world: World, amount: str, said: str) -> None:
    consent_id, token = await given(world)
    await world.sql("UPDATE sandbox_bank.account SET balance_minor = 10000")
    answer = await ask_funds(world, consent_id, token, amount)
    assert answer.status_code == 201, answer.text
    assert answer.json()["Data"]["FundsAvailableResult"]["FundsAvailable"] == said
    assert await spent(world) == 0


@pytest.mark.parametrize(("paid", "most"), [("0", "200.00"), ("150.00", "150.00")])
async def test_funds_are_confirmed_for_no_more_than_could_be_paid_now(world: World, paid: str, most: str) -> None:
    """Or a partner with a mandate over 200 a call finds out whether there are a million, by halving."""
    consent_id, token = await given(world)
    if paid != "0":
        assert (await pay(world, token, payment_body(consent_id, paid))).status_code == 201
    assert (await ask_funds(world, consent_id, token, most)).status_code == 201
    above = most.replace(".00", ".01")
    refused(await ask_funds(world, consent_id, token, above), status=400, code="U014")
    refused(await ask_funds(world, consent_id, token, "999999.00"), status=403, code="U014")


async def test_funds_are_confirmed_for_the_tokens_own_mandate_only(world: World) -> None:
    consent_id, token = await given(world)
    other_id, _ = await given(world)
    question = {"ConsentId": consent_id, "InstructedAmount": {"Amount": "1.00", "Currency": "CNY"}}
    for path_id, body_id, status, code in ((other_id, other_id, 403, "D002"), (consent_id, other_id, 400, "U008")):
        path, body = f"{MANDATES}/{path_id}/funds-confirmation", {"Data": {**question, "ConsentId": body_id}}
        answer = await world.client("parkco").call("POST", path, token=token, body=body, sign="jws")
        refused(answer, status=status, code=code)


@pytest.mark.parametrize("initiation", [{}, {"CreditorAccount": CREDITOR}])
async def test_what_a_capability_collected_reads_as_a_payment_too(world: World, initiation: dict[str, Any]) -> None:
    consent_id, _ = await given(world, mandate_body(**initiation))
    order = Order(
        new_id("pay"), "parkco", consent_id, Money(800, "CNY"), "parkco-settlement", reference="ses_1", mcc="",
        request=None, keyed=None,
    )  # fmt: skip
    await world.house.rooms[PaymentsApi].till.pay(order, now_ms=now_ms())
    found = await read(world, f"{PAYMENTS}/{order.payment_id}")
    assert found.status_code == 200, found.text
    data = found.json()["Data"]
    assert (data["Status"], data["Initiation"], data["ConsentId"]) == ("ACSC", initiation, consent_id)
    assert data["Instruction"]["InstructedAmount"] == {"Amount": "8.00", "Currency": "CNY"}
    assert data["Instruction"]["CreditorAccount"]["Identification"] == "parkco-settlement"
