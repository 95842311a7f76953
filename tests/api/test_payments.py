"""Mandates and payments through the public door: each yes and its nos; every answer is signed and the standard's."""

import asyncio
import json
from base64 import urlsafe_b64encode
from typing import Any

import httpx
import pytest
from joserfc import jws
from joserfc.errors import BadSignatureError
from joserfc.jwk import KeySet
from joserfc.registry import HeaderParameter

from gateway.clock import now_ms, rfc3339
from gateway.demo.client import Token
from gateway.payments.paying import GRACE_MS
from tests.conftest import CONSENTS, ISSUER, World

BASE = "/open-banking/v4.0/pisp"
MANDATES, PAYMENTS = f"{BASE}/domestic-vrp-consents", f"{BASE}/domestic-vrps"
KIND, _, MANDATE = CONSENTS["payments"]
CREDITOR = {"SchemeName": "CN.CNAPS.AccountNumber", "Identification": "parkco-settlement", "Name": "ParkCo"}
OB_CLAIMS = "http://openbanking.org.uk/"


def mandate_body(**changes: Any) -> dict[str, Any]:
    """The usual mandate with other control parameters or initiation."""
    body = json.loads(json.dumps(MANDATE))
    for name, value in changes.items():
        body["Data"]["Initiation" if name == "CreditorAccount" else "ControlParameters"][name] = value
    return body


def payment_body(consent_id: str, amount: str = "12.50", **changes: Any) -> dict[str, Any]:
    """A payment under a mandate; `changes` are members of Data or of Instruction."""
    instruction = {
        "InstructionIdentification": "i-1", "EndToEndIdentification": "e-1",
        "InstructedAmount": {"Amount": amount, "Currency": "CNY"}, "CreditorAccount": CREDITOR,
        "RemittanceInformation": {"Unstructured": ["Parking, lot 1"]},
        **{name: changes.pop(name) for name in list(changes) if name in ("CreditorAccount", "InstructedAmount")},
    }  # fmt: skip
    data = {
        "ConsentId": consent_id, "PSUAuthenticationMethod": "UK.OBIE.SCANotRequired",
        "VRPType": "UK.OBIE.VRPType.Other", "Initiation": {}, "Instruction": instruction,
    }  # fmt: skip
    risk = changes.pop("Risk", MANDATE["Risk"])
    return {"Data": {**data, **changes}, "Risk": risk}


async def ask_mandate(world: World, body: dict[str, Any], *, partner_id: str = "parkco", **more: Any) -> httpx.Response:
    return await world.client(partner_id).call("POST", MANDATES, body=body, sign="jws", **more)


async def given(world: World, body: dict[str, Any] | None = None) -> tuple[str, Token]:
    """A mandate that demo customer 1 has given, and the token under it."""
    made = await ask_mandate(world, body or MANDATE)
    assert made.status_code == 201, made.text
    consent_id = made.json()["Data"]["ConsentId"]
    return consent_id, await world.client("parkco").approve(consent_id, kind=KIND, scope="payments")


async def pay(world: World, token: Token, body: dict[str, Any], **more: Any) -> httpx.Response:
    return await world.client("parkco").call("POST", PAYMENTS, token=token, body=body, **{"sign": "jws", **more})


async def read(world: World, path: str, *, partner_id: str = "parkco") -> httpx.Response:
    return await world.client(partner_id).call("GET", path)


async def spent(world: World) -> int:
    """What demo customer 1's account has lost to payments, by the bank's book."""
    [row] = await world.sql(
        """SELECT coalesce(-sum(m.amount_minor), 0) AS minor FROM sandbox_bank.movement m
           JOIN sandbox_bank.account a USING (account_id) JOIN sandbox_bank.customer c USING (customer_id)
           WHERE c.login = 'demo-1' AND m.movement_id NOT LIKE 'opening-%'"""
    )
    return int(row["minor"])


async def fault(world: World, effect: str) -> None:
    await world.sql("INSERT INTO sandbox_bank.fault (effect, remaining) VALUES ($1, 1)", effect)


def refused(response: httpx.Response, *, status: int, code: str, path: str | None = None) -> None:
    assert response.status_code == status, response.text
    [error] = response.json()["Errors"]
    assert error["ErrorCode"] == code, response.text
    if path is not None:
        assert error["Path"] == path
    assert response.headers["x-jws-signature"]


# --- mandates ----------------------------------------------------------------------------------------------------
async def test_a_mandate_awaits_its_customer_and_reads_as_it_was_asked_for(world: World) -> None:
    body = mandate_body(
        CreditorAccount=CREDITOR, ValidToDateTime="2099-01-01T00:00:00+08:00",
        PSUInteractionTypes=["OffSession"], SupplementaryData={"Plate": "沪A***45"},
    )  # fmt: skip
    made = await ask_mandate(world, body)
    assert made.status_code == 201, made.text
    data = made.json()["Data"]
    assert (data["Status"], data["Initiation"], made.json()["Risk"]) == (
        "AWAU",
        body["Data"]["Initiation"],
        body["Risk"],
    )
    assert data["ControlParameters"] == body["Data"]["ControlParameters"]
    consent_id = data["ConsentId"]
    await world.client("parkco").approve(consent_id, kind=KIND, scope="payments")
    found = await read(world, f"{MANDATES}/{consent_id}")
    assert found.status_code == 200
    assert found.json()["Data"] == {
        **data,
        "Status": "AUTH",
        "StatusUpdateDateTime": found.json()["Data"]["StatusUpdateDateTime"],
    }
    assert found.json()["Links"]["Self"] == f"{ISSUER}{MANDATES}/{consent_id}"


async def test_the_same_key_makes_one_mandate_and_another_body_is_refused(world: World) -> None:
    made = [await ask_mandate(world, MANDATE, key="k1") for _ in range(2)]
    assert made[0].json()["Data"]["ConsentId"] == made[1].json()["Data"]["ConsentId"]
    other = await ask_mandate(world, mandate_body(CreditorAccount=CREDITOR), key="k1")
    refused(other, status=409, code="U029")
    assert (await world.sql("SELECT count(*) FROM consent"))[0][0] == 1


@pytest.mark.parametrize(
    ("changes", "code", "path"),
    [
        ({"PeriodicLimits": []}, "U002", None),
        ({"MaximumIndividualAmount": {"Amount": "0.00", "Currency": "CNY"}}, "U002", None),
        ({"MaximumIndividualAmount": {"Amount": "1.234", "Currency": "CNY"}}, "U002", None),
        ({"MaximumIndividualAmount": {"Amount": "-1.00", "Currency": "CNY"}}, "U002", None),
        ({"MaximumIndividualAmount": {"Amount": "1.00", "Currency": "EUR"}}, "U002", None),
        ({"PeriodicLimits": [{"PeriodType": "Fortnight", "PeriodAlignment": "Calendar", "Amount": "1.00",
                              "Currency": "CNY"}]}, "U002", "Data.ControlParameters.PeriodicLimits[0].PeriodAlignment"),
        ({"PeriodicLimits": [{"PeriodType": "Decade", "PeriodAlignment": "Consent", "Amount": "1.00",
                              "Currency": "CNY"}]}, "U002", None),
        ({"ValidToDateTime": "2001-01-01T00:00:00Z"}, "U003", None),
        ({"ValidToDateTime": "2099-01-01T00:00:00"}, "U002", None),
        ({"ValidFromDateTime": "2099-01-02T00:00:00Z", "ValidToDateTime": "2099-01-01T00:00:00Z"}, "U002", None),
        ({"CreditorAccount": {**CREDITOR, "Identification": "shopco-settlement"}}, "U002",
         "Data.Initiation.CreditorAccount.Identification"),
        ({"Unheard": 1}, "U002", None),
    ],
)  # fmt: skip
async def test_a_mandate_that_cannot_be_kept_is_refused(
    shared_world: World, changes: dict[str, Any], code: str, path: str | None
) -> None:
    before = await shared_world.sql("SELECT count(*) FROM consent")
    refused(await ask_mandate(shared_world, mandate_body(**changes)), status=400, code=code, path=path)
    assert await shared_world.sql("SELECT count(*) FROM consent") == before


async def test_a_deleted_mandate_is_no_more_and_neither_is_its_token(world: World) -> None:
    consent_id, token = await given(world)
    gone = await world.client("parkco").call("DELETE", f"{MANDATES}/{consent_id}")
    assert (gone.status_code, gone.content) == (204, b"")
    refused(await read(world, f"{MANDATES}/{consent_id}"), status=400, code="U011")
    refused(await world.client("parkco").call("DELETE", f"{MANDATES}/{consent_id}"), status=400, code="U011")
    await world.house.foundation.feed.catch_up()
    assert (await pay(world, token, payment_body(consent_id))).status_code == 401
    assert await spent(world) == 0


async def test_nobody_reads_or_ends_anothers_mandate(world: World) -> None:
    consent_id, _ = await given(world)
    for method in ("GET", "DELETE"):
        answer = await world.client("shopco").call(method, f"{MANDATES}/{consent_id}")
        refused(answer, status=403, code="D002")
        refused(await world.client("parkco").call(method, f"{MANDATES}/cns_no"), status=400, code="U011")
    assert (await read(world, f"{MANDATES}/{consent_id}")).json()["Data"]["Status"] == "AUTH"


async def test_an_account_consent_is_no_mandate(world: World) -> None:
    _, path, body = CONSENTS["accounts"]
    made = await world.client("parkco").call("POST", path, body=body)
    refused(await read(world, f"{MANDATES}/{made.json()['Data']['ConsentId']}"), status=400, code="U011")


# --- funds -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("amount", "said"), [("1000000.00", "Available"), ("1000000.01", "NotAvailable")])
async def test_funds_are_confirmed_without_telling_the_balance(world: World, amount: str, said: str) -> None:
    consent_id, token = await given(world)
    question = {"ConsentId": consent_id, "Reference": "r", "InstructedAmount": {"Amount": amount, "Currency": "CNY"}}
    path = f"{MANDATES}/{consent_id}/funds-confirmation"
    answer = await world.client("parkco").call("POST", path, token=token, body={"Data": question}, sign="jws")
    assert answer.status_code == 201, answer.text
    assert answer.json()["Data"]["FundsAvailableResult"]["FundsAvailable"] == said
    assert await spent(world) == 0


async def test_funds_are_confirmed_for_the_tokens_own_mandate_only(world: World) -> None:
    consent_id, token = await given(world)
    other_id, _ = await given(world)
    question = {"ConsentId": consent_id, "InstructedAmount": {"Amount": "1.00", "Currency": "CNY"}}
    for path_id, body_id, status, code in ((other_id, other_id, 403, "D002"), (consent_id, other_id, 400, "U008")):
        path, body = f"{MANDATES}/{path_id}/funds-confirmation", {"Data": {**question, "ConsentId": body_id}}
        answer = await world.client("parkco").call("POST", path, token=token, body=body, sign="jws")
        refused(answer, status=status, code=code)


# --- payments ----------------------------------------------------------------------------------------------------
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


# --- a bank that says no, or nothing -----------------------------------------------------------------------------
async def test_a_rejected_payment_says_why_and_leaves_the_limit_as_it_was(world: World) -> None:
    consent_id, token = await given(world)
    await fault(world, "reject")
    made = await pay(world, token, payment_body(consent_id, "200.00"))
    assert (made.status_code, made.json()["Data"]["Status"]) == (201, "RJCT")
    assert made.json()["Data"]["StatusReason"][0]["StatusReasonCode"] == "NARR"
    details = await read(world, f"{PAYMENTS}/{made.json()['Data']['DomesticVRPId']}/payment-details")
    assert details.json()["Data"]["PaymentStatus"][0]["StatusDetail"]["StatusReason"] == "NARR"
    assert (await pay(world, token, payment_body(consent_id, "200.00"))).json()["Data"]["Status"] == "ACSC"


async def settle(world: World, *, after_ms: int) -> None:
    chore = next(chore for chore in world.house.chores if chore.name == "settle pending payments")
    await chore.run(now_ms() + after_ms)


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
    await settle(world, after_ms=GRACE_MS)
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


# --- signatures --------------------------------------------------------------------------------------------------
async def test_answers_and_refusals_are_signed_by_the_bank(world: World) -> None:
    consent_id, token = await given(world)
    keys = KeySet.import_key_set((await world.http.get("/oauth/jwks")).json())
    for answer in (
        await pay(world, token, payment_body(consent_id)),
        await pay(world, token, payment_body(consent_id, "0.00")),
        await read(world, f"{MANDATES}/{consent_id}"),
    ):
        verified = verify_detached(answer.headers["x-jws-signature"], answer.content, keys)
        assert verified["alg"] == "PS256"
        assert verified["crit"] == [f"{OB_CLAIMS}{claim}" for claim in ("iat", "iss", "tan")]
        with pytest.raises(BadSignatureError):
            verify_detached(answer.headers["x-jws-signature"], answer.content + b" ", keys)


def verify_detached(signature: str, content: bytes, keys: KeySet) -> dict[str, Any]:
    """What any partner would do: put the body back between the dots, and check it with the bank's public keys."""
    head, _, proof = signature.partition("..")
    body = urlsafe_b64encode(content).rstrip(b"=").decode()
    registry = jws.JWSRegistry(algorithms=["PS256"], strict_check_header=False)
    registry.header_registry.update({f"{OB_CLAIMS}{claim}": _claim(claim) for claim in ("iat", "iss", "tan")})
    return jws.deserialize_compact(f"{head}.{body}.{proof}", keys, registry=registry).headers()


def _claim(name: str) -> HeaderParameter:
    return HeaderParameter(name, "int" if name == "iat" else "str", True)


async def test_a_message_that_its_app_has_not_signed_is_refused(world: World) -> None:
    client, content = world.client("parkco"), json.dumps(MANDATE).encode()
    json_type = {"Content-Type": "application/json"}
    signatures = {
        None: "U019", "": "U019", "a.b.c": "U018", client.detached_signature(content + b" "): "U015",
        world.client("shopco").detached_signature(content): "U016",
    }  # fmt: skip
    for signature, code in signatures.items():
        headers = json_type if signature is None else {**json_type, "x-jws-signature": signature}
        refused(await client.call("POST", MANDATES, content=content, headers=headers), status=400, code=code)
    assert await world.sql("SELECT 1 FROM consent") == []


async def test_a_payment_changed_after_it_was_signed_moves_nothing(world: World) -> None:
    consent_id, token = await given(world)
    client = world.client("parkco")
    signed, sent = (json.dumps(payment_body(consent_id, amount)).encode() for amount in ("1.00", "100.00"))
    headers = {"Content-Type": "application/json", "x-jws-signature": client.detached_signature(signed)}
    answer = await client.call("POST", PAYMENTS, token=token, content=sent, headers=headers)
    refused(answer, status=400, code="U015")
    assert (await spent(world), await world.sql("SELECT 1 FROM payment")) == (0, [])
