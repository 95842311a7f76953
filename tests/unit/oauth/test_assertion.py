"""A client assertion: each rule of private_key_jwt under FAPI 2.0 with its yes and its no."""

import json
from dataclasses import replace
from typing import Any

import jwt
import pytest

from gateway.oauth.assertion import Authenticated, verify_assertion
from gateway.oauth.refusals import ClientNotAuthenticated
from gateway.oauth.signature import base64
from gateway.partners.partner import App, KeyState
from tests.unit.oauth.signing import ISSUER, KEYS, NOW_S, app, assertion, public_jwk


def check(text: str, *, client: App | None = None, client_id: str | None = None) -> Authenticated:
    known = client or app()
    return verify_assertion(
        text, apps={known.client_id: known}, issuer=ISSUER, now_s=NOW_S, client_id=client_id
    )  # fmt: skip


def refused(text: str, **more: Any) -> None:
    with pytest.raises(ClientNotAuthenticated):
        check(text, **more)


@pytest.mark.parametrize("alg", KEYS)
def test_a_client_authenticates_with_each_algorithm(alg: str) -> None:
    who = check(assertion(alg=alg), client_id="parkco-app")
    assert (who.app.client_id, who.kid, who.jti, who.expires_s) == ("parkco-app", alg, "a1", NOW_S + 60)


def test_without_a_kid_the_key_that_verifies_is_found() -> None:
    assert check(assertion(alg="PS256", header={})).kid == "PS256"


def test_a_retiring_key_still_authenticates() -> None:
    check(assertion(), client=app(state=KeyState.RETIRING))


@pytest.mark.parametrize("state", [KeyState.PENDING, KeyState.REVOKED])
@pytest.mark.parametrize("header", [{"kid": "ES256"}, {}])
def test_a_key_that_is_not_in_force_is_refused(state: KeyState, header: dict[str, str]) -> None:
    refused(assertion(header=header), client=app(state=state))


@pytest.mark.parametrize(
    "aud",
    [
        [ISSUER],
        [ISSUER, "https://other.example"],
        f"{ISSUER}/oauth/token",
        f"{ISSUER}/oauth/par",
        f"{ISSUER}/",
        "",
        None,
    ],
    ids=["array", "array of two", "token endpoint", "par endpoint", "trailing slash", "empty", "missing"],
)
def test_an_audience_that_is_not_the_issuer_as_one_string_is_refused(aud: Any) -> None:
    refused(assertion(aud=aud))


@pytest.mark.parametrize(
    "claims", [{"iss": "other"}, {"sub": "other"}, {"iss": "other", "sub": "other"}, {"iss": None}]
)
def test_an_assertion_about_another_client_is_refused(claims: dict[str, Any]) -> None:
    refused(assertion(**claims))


def test_a_client_id_that_differs_from_the_assertions_is_refused() -> None:
    refused(assertion(), client_id="shopco-app")


@pytest.mark.parametrize("ahead", [-3600, 0, 30])
def test_a_clock_that_is_a_little_ahead_is_accepted(ahead: int) -> None:
    check(assertion(iat=NOW_S + ahead, nbf=NOW_S + ahead))


@pytest.mark.parametrize("claims", [
    {"exp": None}, {"exp": NOW_S}, {"exp": NOW_S - 1}, {"exp": NOW_S + 3601}, {"iat": NOW_S + 60}, {"nbf": NOW_S + 60},
    {"jti": None}, {"jti": ""}, {"jti": "x" * 257}, {"jti": 5}, {"exp": "soon"},
])  # fmt: skip
def test_times_and_ids_of_no_use_are_refused(claims: dict[str, Any]) -> None:
    text = jwt.encode(
        {name: value for name, value in {
            "iss": "parkco-app", "sub": "parkco-app", "aud": ISSUER, "jti": "a1", "exp": NOW_S + 60, **claims,
        }.items() if value is not None},
        KEYS["ES256"], algorithm="ES256", headers={"kid": "ES256"}, json_encoder=None,
    )  # fmt: skip
    refused(text)


CLAIMS = {"iss": "parkco-app", "sub": "parkco-app", "aud": ISSUER, "jti": "a1", "exp": NOW_S + 60}


def test_alg_none_is_refused() -> None:
    refused(jwt.encode(CLAIMS, None, algorithm="none", headers={"kid": "ES256"}))


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_the_public_key_taken_for_an_hmac_secret_is_refused() -> None:
    refused(jwt.encode(CLAIMS, public_jwk("ES256")["x"], algorithm="HS256", headers={"kid": "ES256"}))


def test_rs256_is_refused() -> None:
    refused(jwt.encode(CLAIMS, KEYS["PS256"], algorithm="RS256", headers={"kid": "PS256"}))


def test_another_clients_key_is_refused() -> None:
    stranger = replace(app(), client_id="shopco-app")
    refused(assertion(iss="shopco-app", sub="shopco-app"), client=replace(stranger, keys=()))


def test_a_client_of_another_method_is_refused() -> None:
    refused(assertion(), client=app(auth_method="tls_client_auth"))


def test_a_changed_assertion_is_refused() -> None:
    head, body, signature = assertion().split(".")
    refused(f"{head}.{body[:-2]}AA.{signature}")
    refused(f"{head}.{body}.{signature[:-6]}AAAAAA")


def test_crit_is_refused() -> None:
    refused(assertion(header={"kid": "ES256", "crit": ["x"], "x": 1}))


@pytest.mark.parametrize("text", ["", "a.b.c", "x" * 9000])
def test_what_is_no_jwt_is_refused(text: str) -> None:
    refused(text)


def test_a_fractional_end_is_remembered_to_its_last_moment() -> None:
    """Good until the next whole second of our clock: forgotten before, its jti could be spent again."""
    assert check(assertion(exp=NOW_S + 59.2)).expires_s == NOW_S + 60
    assert check(assertion(exp=NOW_S + 0.5)).expires_s == NOW_S + 1


@pytest.mark.parametrize("member", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_time_that_is_no_number_is_refused(member: str, value: str) -> None:
    claims = {"iss": "parkco-app", "sub": "parkco-app", "aud": ISSUER, "jti": "a1", "exp": NOW_S + 60, member: 12345}
    refused(signed(json.dumps(claims).replace("12345", value)))


def test_a_claim_that_came_twice_is_refused() -> None:
    claims = json.dumps({"iss": "parkco-app", "sub": "parkco-app", "aud": ISSUER, "jti": "a1", "exp": NOW_S + 60})
    check(signed(claims))
    refused(signed(claims[:-1] + ', "aud": "http://elsewhere.test", "aud": "http://gateway.test"}'))


HEADER = b'{"alg":"ES256","kid":"ES256"}'


def signed(claims: str) -> str:
    """Members written by hand."""
    text = f"{base64(HEADER)}.{base64(claims.encode())}"
    return f"{text}.{base64(jwt.get_algorithm_by_name('ES256').sign(text.encode(), KEYS['ES256']))}"
