"""Mandates (VRP consents) through the public door: each yes and its nos."""

from typing import Any

import pytest

from tests.api.vrp_calls import (
    CREDITOR,
    KIND,
    MANDATE,
    MANDATES,
    ask_mandate,
    given,
    mandate_body,
    pay,
    payment_body,
    read,
    refused,
    spent,
)
from tests.conftest import CONSENTS, ISSUER, World


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
    [account] = await world.sql(
        """SELECT identification AS number FROM sandbox_bank.account a JOIN sandbox_bank.customer c USING (customer_id)
           WHERE c.login = 'demo-1'"""
    )
    chosen = f"{account['number'][:6]}******{account['number'][-4:]}"
    assert found.json()["Data"] == {
        **data,
        "Status": "AUTH",
        "StatusUpdateDateTime": found.json()["Data"]["StatusUpdateDateTime"],
        "DebtorAccount": {"SchemeName": "CN.UnionPay.PAN", "Identification": chosen},
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
        ({"ValidToDateTime": "2099-01-01T00:00:00"}, "U003", None),
        ({"ValidFromDateTime": "2099-01-02T00:00:00Z", "ValidToDateTime": "2099-01-01T00:00:00Z"}, "U002", None),
        ({"CreditorAccount": {**CREDITOR, "Identification": "shopco-settlement"}}, "U002",
         "Data.Initiation.CreditorAccount.Identification"),
        ({"Unheard": 1}, "U002", None),
        ({"SupplementaryData": {"Plate": "沪A12345"}}, "U002", None),
        ({"SupplementaryData": {"Note": "x"}}, "U002", None),
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
