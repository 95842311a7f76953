"""Detached signatures of payments: what the app signs is checked claim by claim, what we sign anybody can check."""

import json
from typing import Any

import jwt
import pytest

from gateway.admission.message_signature import (
    IAT,
    ISS,
    TAN,
    MessageClaimMissing,
    MessageClaimWrong,
    MessageSignatureMalformed,
    MessageSignatureMissing,
    MessageSignatures,
    MessageSignatureWrong,
)
from gateway.database import Database
from gateway.keyring import KEK_BYTES, Keyring
from gateway.oauth.signature import base64
from gateway.partners.partner import KeyState
from gateway.refusal import Refusal
from tests.unit.oauth.signing import ISSUER, KEYS, NOW_S, app

BODY = '{"Data":{"停车":"费"}}'.encode()
CLAIMS = (IAT, ISS, TAN)
signatures = MessageSignatures(Keyring(bytes(KEK_BYTES)), ISSUER)


def signature(*, body: bytes = BODY, **changes: Any) -> str:
    """What an app sends; a change to None leaves the member out."""
    header: dict[str, Any] = {"alg": "PS256", "kid": "PS256", "crit": list(CLAIMS)}
    header |= {IAT: NOW_S, ISS: "parkco-app", TAN: "gateway.test"} | changes
    head = base64(json.dumps({name: value for name, value in header.items() if value is not None}).encode())
    signed = jwt.get_algorithm_by_name("PS256").sign(f"{head}.{base64(body)}".encode(), KEYS["PS256"])
    return f"{head}..{base64(signed)}"


def check(text: str | None, *, body: bytes = BODY, state: KeyState = KeyState.ACTIVE) -> None:
    signatures.check(text, body, app=app(state=state), now_ms=NOW_S * 1000)


def test_a_body_that_the_app_signed_passes() -> None:
    check(signature())
    check(signature(typ="JOSE", cty="application/json"))
    check(signature(), state=KeyState.RETIRING)
    check(signature(**{IAT: NOW_S - 86_000}))


@pytest.mark.parametrize("missing", [None, ""])
def test_a_payment_without_a_signature_is_refused(missing: str | None) -> None:
    with pytest.raises(MessageSignatureMissing):
        check(missing)


@pytest.mark.parametrize(
    "text",
    ["x", "..", "a..b", "e30.e30.e30", "e30..", "..e30", "e30...e30", "bm8..bm8", "W10..AA", "e30..!", "A" * 5000],
)
def test_what_is_no_detached_jws_is_refused(text: str) -> None:
    with pytest.raises((MessageSignatureMalformed, MessageClaimMissing)) as refused:
        check(text)
    assert refused.value.ob_code == ("U017" if text == "e30..e30" else "U018")


def test_a_compact_jws_with_its_payload_is_refused() -> None:
    head, _, tail = signature().partition("..")
    with pytest.raises(MessageSignatureMalformed):
        check(f"{head}.{base64(BODY)}.{tail}")


@pytest.mark.parametrize("name", ["alg", "kid", "crit", *CLAIMS])
def test_a_claim_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(MessageClaimMissing) as refused:
        check(signature(**{name: None}))
    assert name in refused.value.detail


@pytest.mark.parametrize(
    "wrong",
    [
        {"alg": "RS256"},
        {"alg": "none"},
        {"kid": "ES256-of-somebody"},
        {"crit": [IAT, ISS]},
        {"crit": [IAT, ISS, TAN, "b64"]},
        {"crit": [IAT, ISS, TAN, TAN]},
        {"b64": False},
        {ISS: "shopco-app"},
        {TAN: "elsewhere.test"},
        {IAT: NOW_S + 60},
        {IAT: NOW_S - 90_000},
    ],
    ids=str,
)
def test_a_claim_that_cannot_be_accepted_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(MessageClaimWrong):
        check(signature(**wrong))


def test_a_revoked_key_no_longer_signs() -> None:
    with pytest.raises(MessageClaimWrong):
        check(signature(), state=KeyState.REVOKED)


def test_another_body_or_another_kind_of_key_does_not_verify() -> None:
    with pytest.raises(MessageSignatureWrong):
        check(signature(), body=BODY + b" ")
    with pytest.raises(MessageSignatureWrong):
        check(signature(kid="ES256"))
    with pytest.raises(MessageSignatureWrong):
        check(signature()[:-8] + "AAAAAAAA")


def test_each_broken_rule_has_the_code_of_the_standard() -> None:
    kinds: dict[type[Refusal], str] = {
        MessageSignatureMissing: "U019", MessageSignatureMalformed: "U018", MessageClaimMissing: "U017",
        MessageClaimWrong: "U016", MessageSignatureWrong: "U015",
    }  # fmt: skip
    assert {kind: kind.ob_code for kind in kinds} == kinds


async def test_what_the_bank_signs_verifies_with_its_published_key(bare_database: Database) -> None:
    keyring = Keyring(bytes(KEK_BYTES))
    async with bare_database.transaction() as conn:
        await keyring.ensure(conn)
    head, _, tail = MessageSignatures(keyring, ISSUER).sign(BODY, NOW_S * 1000).partition("..")
    header = json.loads(jwt.utils.base64url_decode(head))
    assert header["crit"] == list(CLAIMS)
    assert (header["alg"], header[IAT], header[ISS], header[TAN]) == ("PS256", NOW_S, ISSUER, "gateway.test")
    jwk = next(key for key in keyring.jwks()["keys"] if key["kid"] == header["kid"])
    message = f"{head}.{base64(BODY)}".encode()
    verify = jwt.get_algorithm_by_name("PS256").verify
    assert verify(message, jwt.PyJWK(jwk).key, jwt.utils.base64url_decode(tail))
    assert not verify(message + b"x", jwt.PyJWK(jwk).key, jwt.utils.base64url_decode(tail))
