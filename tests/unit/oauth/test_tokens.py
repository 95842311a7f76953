"""Access tokens: minted by joserfc, read by PyJWT; whatever is not exactly ours is refused."""

import json
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jwt
import pytest
from joserfc import jws
from joserfc.jwk import ECKey

from gateway.consents.store import TOKEN_LIFE_MS
from gateway.oauth.tokens import (
    ACCESS_TOKEN_LIFETIME_S,
    AccessTokenInvalid,
    TokenContent,
    mint_access_token,
    verify_access_token,
)

ISSUER = "https://bank.example"
CONTENT = TokenContent(
    "parkco-app", "cus_1", frozenset(("accounts", "payments")), "grt_1", {"jkt": "thumb"}, "kid-1", "cns_1"
)


@dataclass
class OneKey:
    """A keyring of one key."""

    key: ECKey
    purpose: str = "token"
    state: str = "signing"

    @property
    def public_jwk(self) -> Any:
        return MappingProxyType({**self.key.as_dict(private=False), "kid": "k", "use": "sig", "alg": "ES256"})

    def sign(self, purpose: str, payload: bytes, *, header: Any) -> str:
        return jws.serialize_compact({"alg": "ES256", "kid": "k", **header}, payload, self.key, algorithms=["ES256"])

    def public_key(self, kid: str) -> Any:
        return self if kid == "k" else None


KEY = ECKey.generate_key("P-256")
RING = OneKey(KEY)


def mint(**more: Any) -> str:
    given = {"issuer": ISSUER, "audience": ISSUER, "now_s": int(time.time()), **more}
    return mint_access_token(RING, CONTENT, **given)


def read(token: str, *, ring: OneKey = RING, audience: str = ISSUER, issuer: str = ISSUER) -> Any:
    return verify_access_token(token, keys=ring, issuer=issuer, audience=audience)


def claims_of(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


def test_a_token_says_what_it_was_minted_with() -> None:
    token = read(mint())
    assert (token.client_id, token.subject, token.grant_id) == ("parkco-app", "cus_1", "grt_1")
    assert (token.auth_key, token.consent_id, token.jkt, token.x5t_s256) == ("kid-1", "cns_1", "thumb", None)
    assert token.scopes == {"accounts", "payments"}


def test_a_token_has_the_members_of_rfc_9068() -> None:
    claims = claims_of(mint())
    assert {"iss", "exp", "aud", "sub", "client_id", "iat", "jti", "scope"} <= claims.keys()
    assert claims["exp"] - claims["iat"] == 300


@pytest.mark.parametrize("age", [301, 100_000])
def test_an_expired_token_is_refused(age: int) -> None:
    with pytest.raises(AccessTokenInvalid):
        read(mint(now_s=int(time.time()) - age))


@pytest.mark.parametrize("more", [{"audience": "https://other"}, {"issuer": "https://other"}])
def test_a_token_of_or_for_somebody_else_is_refused(more: dict[str, str]) -> None:
    with pytest.raises(AccessTokenInvalid):
        read(mint(**more))


def test_a_key_for_something_else_signs_no_token() -> None:
    with pytest.raises(AccessTokenInvalid):
        read(mint(), ring=OneKey(KEY, purpose="statement"))


def test_an_unknown_kid_is_refused() -> None:
    with pytest.raises(AccessTokenInvalid):
        read(jwt.encode(claims_of(mint()), KEY.raw_value, algorithm="ES256", headers={"kid": "z", "typ": "at+jwt"}))


def test_another_key_under_our_kid_is_refused() -> None:
    with pytest.raises(AccessTokenInvalid):
        read(mint(), ring=OneKey(ECKey.generate_key("P-256")))


def test_an_id_token_or_assertion_is_no_access_token() -> None:
    with pytest.raises(AccessTokenInvalid):
        read(RING.sign("token", json.dumps(claims_of(mint())).encode(), header={"typ": "JWT"}))


def test_alg_none_is_refused() -> None:
    header = {"kid": "k", "typ": "at+jwt"}
    with pytest.raises(AccessTokenInvalid):
        read(jwt.encode(claims_of(mint()), None, algorithm="none", headers=header))


def test_the_public_key_taken_for_an_hmac_secret_is_refused() -> None:
    secret = RING.public_jwk["x"]
    header = {"kid": "k", "typ": "at+jwt"}
    with pytest.raises(AccessTokenInvalid):
        read(jwt.encode(claims_of(mint()), secret, algorithm="HS256", headers=header))


@pytest.mark.parametrize("name", ["cnf", "gid", "client_id", "scope", "exp", "sub", "aud"])
def test_a_token_without_a_required_claim_is_refused(name: str) -> None:
    claims = {key: value for key, value in claims_of(mint()).items() if key != name}
    with pytest.raises(AccessTokenInvalid):
        read(RING.sign("token", json.dumps(claims).encode(), header={"typ": "at+jwt"}))


def test_an_audience_array_is_refused() -> None:
    claims = {**claims_of(mint()), "aud": [ISSUER, "https://other"]}
    with pytest.raises(AccessTokenInvalid):
        read(RING.sign("token", json.dumps(claims).encode(), header={"typ": "at+jwt"}))


def test_a_changed_token_is_refused() -> None:
    head, body, signature = mint().split(".")
    claims = json.dumps({**claims_of(mint()), "scope": "settlement"}).encode()
    changed = urlsafe_b64encode(claims).rstrip(b"=").decode()
    assert changed != body
    with pytest.raises(AccessTokenInvalid):
        read(f"{head}.{changed}.{signature}")


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c", "é.é.é", "x" * 5000, "e30.e30.e30"])
def test_what_is_no_jwt_is_refused(text: str) -> None:
    with pytest.raises(AccessTokenInvalid):
        read(text)


def test_a_revocation_is_remembered_for_longer_than_a_token_lives() -> None:
    assert ACCESS_TOKEN_LIFETIME_S * 1000 < TOKEN_LIFE_MS
