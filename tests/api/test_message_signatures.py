"""Signed messages through the public door: what partners must sign, and what the bank signs."""

import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from joserfc import jws
from joserfc.errors import BadSignatureError
from joserfc.jwk import KeySet
from joserfc.registry import HeaderParameter

from tests.api.vrp_calls import MANDATE, MANDATES, PAYMENTS, given, pay, payment_body, read, refused, spent
from tests.conftest import World

OB_CLAIMS = "http://openbanking.org.uk/"


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


async def test_a_signed_payment_with_two_amounts_is_refused(world: World) -> None:
    """msgspec takes the last one, another reader the first: nobody could say which one was signed."""
    consent_id, token = await given(world)
    client = world.client("parkco")
    amount = '"InstructedAmount": {"Amount": "1.00", "Currency": "CNY"}'
    once = json.dumps(payment_body(consent_id, "1.00"))
    assert amount in once
    twice = once.replace(amount, amount.replace("1.00", "100.00") + ", " + amount).encode()
    headers = {"Content-Type": "application/json", "x-jws-signature": client.detached_signature(twice)}
    answer = await client.call("POST", PAYMENTS, token=token, content=twice, headers=headers)
    refused(answer, status=400, code="U002")
    assert await world.sql("SELECT 1 FROM payment") == []
