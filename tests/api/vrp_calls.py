"""Short spellings of calls for mandates and payments, and what the bank's own book says afterwards."""

import json
from typing import Any

import httpx

from gateway.demo.client import Token
from tests.conftest import CONSENTS, World

BASE = "/open-banking/v4.0/pisp"
MANDATES, PAYMENTS = f"{BASE}/domestic-vrp-consents", f"{BASE}/domestic-vrps"
KIND, _, MANDATE = CONSENTS["payments"]
CREDITOR = {"SchemeName": "CN.CNAPS.AccountNumber", "Identification": "parkco-settlement", "Name": "ParkCo"}


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
