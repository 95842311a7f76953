"""A DPoP proof: every check of RFC 9449 §4.3 with its yes and its no, and the attacks it is there to stop."""

import json
from base64 import urlsafe_b64encode
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.jsonio import members_repeat
from gateway.oauth.dpop import Proof, ProofInvalid, access_token_hash, verify_proof
from tests.unit.oauth.signing import ISSUER, KEYS, NOW_S, proof, public_jwk

URL = f"{ISSUER}/oauth/token"


def check(text: str, **more: Any) -> Proof:
    return verify_proof(text, **{"method": "POST", "url": URL, "now_s": NOW_S, "access_token": None, **more})


def b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def unsigned(header: bytes, claims: bytes = b'{"jti":"j","htm":"POST","htu":"x","iat":1}') -> str:
    return f"{b64(header)}.{b64(claims)}.{b64(b'signature')}"


@pytest.mark.parametrize("alg", KEYS)
def test_a_proof_holds_with_each_algorithm(alg: str) -> None:
    assert check(proof(alg=alg)).jti == "j1"


def test_the_thumbprint_is_the_keys_own() -> None:
    assert check(proof(alg="ES256")).jkt != check(proof(alg="EdDSA")).jkt
    assert len(check(proof()).jkt) == 43


def test_unknown_members_are_tolerated() -> None:
    check(proof(nonce="n", extra={"a": 1}))


@pytest.mark.parametrize("htu", [URL + "?a=1", URL + "#f", "HTTP://GATEWAY.TEST:80/oauth/token"])
def test_the_target_is_compared_as_an_address_not_as_text(htu: str) -> None:
    check(proof(htu=htu))


@pytest.mark.parametrize(
    "htu", [f"{ISSUER}/oauth/par", "http://evil.test/oauth/token", "https://gateway.test/oauth/token",
            "http://gateway.test:8080/oauth/token", "http://gateway.test:99999/oauth/token", ""]
)  # fmt: skip
def test_a_proof_for_another_address_is_refused(htu: str) -> None:
    with pytest.raises(ProofInvalid):
        check(proof(htu=htu))


def test_a_proof_for_another_method_is_refused() -> None:
    with pytest.raises(ProofInvalid):
        check(proof(), method="GET")


@pytest.mark.parametrize("age", [-10, 0, 60])
def test_a_proof_within_the_window_holds(age: int) -> None:
    check(proof(iat=NOW_S - age))


@pytest.mark.parametrize("age", [-11, 61, 10**9, -(10**300)])
def test_a_proof_outside_the_window_is_refused(age: int) -> None:
    with pytest.raises(ProofInvalid):
        check(proof(iat=NOW_S - age))


def test_the_ath_of_the_token_holds() -> None:
    check(proof(ath=access_token_hash("token")), access_token="token")


@pytest.mark.parametrize("ath", [None, access_token_hash("another token"), ""])
def test_an_ath_mismatch_is_refused(ath: str | None) -> None:
    with pytest.raises(ProofInvalid):
        check(proof(ath=ath), access_token="token")


@pytest.mark.parametrize("name", ["jti", "htm", "htu", "iat"])
def test_a_proof_without_a_required_claim_is_refused(name: str) -> None:
    with pytest.raises(ProofInvalid):
        check(proof(**{name: None}))


@pytest.mark.parametrize("jti", ["", "x" * 257])
def test_a_jti_of_no_use_is_refused(jti: str) -> None:
    with pytest.raises(ProofInvalid):
        check(proof(jti=jti))


@pytest.mark.parametrize("header", [{"typ": "JWT"}, {"typ": ""}, {"crit": ["exp"], "exp": 1}])
def test_a_header_of_another_kind_is_refused(header: dict[str, Any]) -> None:
    with pytest.raises(ProofInvalid):
        check(proof(header=header))


def test_a_proof_signed_with_another_key_than_it_shows_is_refused() -> None:
    claims = {"jti": "j1", "htm": "POST", "htu": URL, "iat": NOW_S}
    other = {"typ": "dpop+jwt", "jwk": {**public_jwk("ES256"), "x": public_jwk("EdDSA")["x"]}}
    with pytest.raises(ProofInvalid):
        check(jwt.encode(claims, KEYS["ES256"], algorithm="ES256", headers=other))


def test_alg_none_is_refused() -> None:
    claims = {"jti": "j1", "htm": "POST", "htu": URL, "iat": NOW_S}
    with pytest.raises(ProofInvalid):
        check(jwt.encode(claims, None, algorithm="none", headers={"typ": "dpop+jwt", "jwk": public_jwk("ES256")}))


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_the_public_key_taken_for_an_hmac_secret_is_refused() -> None:
    claims = {"jti": "j1", "htm": "POST", "htu": URL, "iat": NOW_S}
    header = {"typ": "dpop+jwt", "jwk": public_jwk("ES256")}
    with pytest.raises(ProofInvalid):
        check(jwt.encode(claims, public_jwk("ES256")["x"], algorithm="HS256", headers=header))


def test_rs256_is_refused() -> None:
    claims = {"jti": "j1", "htm": "POST", "htu": URL, "iat": NOW_S}
    header = {"typ": "dpop+jwt", "jwk": public_jwk("PS256")}
    with pytest.raises(ProofInvalid):
        check(jwt.encode(claims, KEYS["PS256"], algorithm="RS256", headers=header))


@pytest.mark.parametrize("secret", ["d", "p", "q", "k", "oth"])
def test_a_private_key_in_the_header_is_refused(secret: str) -> None:
    with pytest.raises(ProofInvalid):
        check(proof(header={"jwk": {**public_jwk("ES256"), secret: "AA"}}))


@pytest.mark.parametrize(
    "jwk",
    [b"null", b"[]", b'{"kty":"RSA"}', b'{"kty":"EC","crv":"P-256","x":5,"y":5}', b'{"kty":"EC","crv":"P-384"}',
     b'{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}', b'{"kty":"OKP","crv":"Ed25519","x":"AA"}',
     b'{"kty":"oct","k":"AA"}', b'{"kty":"RSA","n":"AQAB","e":"AQAB"}', b'{"a":' + b"[" * 1300 + b"]" * 1300 + b"}"],
)  # fmt: skip
@pytest.mark.parametrize("alg", ["ES256", "PS256", "EdDSA"])
def test_a_key_of_no_use_is_refused_and_breaks_nothing(jwk: bytes, alg: str) -> None:
    header = b'{"typ":"dpop+jwt","alg":"' + alg.encode() + b'","jwk":' + jwk + b"}"
    with pytest.raises(ProofInvalid):
        check(unsigned(header))


@pytest.mark.parametrize(
    "text", ["", "a.b", "a.b.c", "a.b.c.d", "..", "é.é.é", "x" * 5000, proof() + "=", proof() + "!"]
)
def test_what_is_no_compact_jws_is_refused(text: str) -> None:
    with pytest.raises(ProofInvalid):
        check(text)


@pytest.mark.parametrize("user", ["gateway.test@evil.test", "u:p@gateway.test", "@gateway.test", "u@gateway.test:80"])
def test_a_target_with_a_user_in_it_is_refused(user: str) -> None:
    with pytest.raises(ProofInvalid):
        check(proof(htu=f"http://{user}/oauth/token"))


def signed(header: bytes, claims: bytes) -> str:
    """With a key of the caller's own, over members written by hand."""
    text = f"{b64(header)}.{b64(claims)}"
    return f"{text}.{b64(jwt.get_algorithm_by_name('ES256').sign(text.encode(), KEYS['ES256']))}"


HEADER = json.dumps({"typ": "dpop+jwt", "alg": "ES256", "jwk": public_jwk("ES256")})
CLAIMS = json.dumps({"jti": "j", "htm": "POST", "htu": URL, "iat": NOW_S})


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        (HEADER, CLAIMS[:-1] + ', "jti": "other"}'),
        (HEADER, CLAIMS[:-1] + ',"jti"\t:"other"}'),
        (HEADER, CLAIMS[:-1] + r', "\u006ati": "other"}'),
        (HEADER, CLAIMS[:-1] + f', "iat": {NOW_S}}}'),
        (HEADER, CLAIMS[:-1] + ', "x": {"a": 1, "a": 2}}'),
        (HEADER, CLAIMS[:-1] + ', "x": [{"a": ":", "a": ":"}]}'),
        (HEADER[:-1] + ', "alg": "ES256"}', CLAIMS),
        (HEADER.replace('"kty"', '"kty": "EC", "kty"'), CLAIMS),
    ],
)
def test_a_member_that_came_twice_is_refused(header: str, claims: str) -> None:
    check(signed(HEADER.encode(), CLAIMS.encode()))
    with pytest.raises(ProofInvalid):
        check(signed(header.encode(), claims.encode()))


@settings(max_examples=300, deadline=None)
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('ab:",\\\n é{}'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('ab:"\\'), inner),
))  # fmt: skip
def test_json_without_repeated_members_is_never_taken_for_one_with_them(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert not members_repeat(text.encode())
    twice = f'{{"k": {json.dumps(value)}, "k": {json.dumps(value)}}}'
    assert members_repeat(twice.encode())


NAMES = st.sampled_from(["typ", "alg", "jwk", "kty", "crv", "x", "y", "n", "e", "jti", "htm", "htu", "iat"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
)


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_whatever_json_a_stranger_sends_is_a_refusal(value: Any) -> None:
    raw = json.dumps(value).encode()
    with pytest.raises(ProofInvalid):
        check(unsigned(raw, raw))
