"""Access tokens: RFC 9068 JWTs, bound to the sender's key or certificate, verified by another stack than signs them."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jwt

from gateway.jsonio import encode
from gateway.refusal import Refusal

ACCESS_TOKEN_LIFETIME_S = 300  # five minutes: what a revocation that nobody hears of can cost at most
TOKEN_LIMIT = 4096  # characters; ours have some 800
REVOKED = "revoked"  # of a bank key; one that is only retiring stays good for what it signed, until that expires
_ALGORITHMS = ["ES256"]
_REQUIRED = ["iss", "aud", "exp", "iat", "jti", "sub", "client_id", "scope", "cnf", "gid"]


class AccessTokenInvalid(Refusal):
    """Not signed by us, expired, or meant for somebody else."""

    status, code, ob_code, outcome = 401, "token_not_accepted", "U006", "auth_invalid"
    oauth_error = "invalid_token"
    title = "The access token is not accepted"


class Signer(Protocol):
    """The part of the keyring that signs tokens."""

    def sign(self, purpose: str, payload: bytes, *, header: Mapping[str, Any]) -> str: ...


class PublicKeys(Protocol):
    """The part of the keyring that knows public keys."""

    def public_key(self, kid: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """What a token says, once its signature holds. Exactly one of `jkt` and `x5t_s256` is there."""

    client_id: str
    subject: str
    scopes: frozenset[str]
    expires_s: int
    grant_id: str
    auth_key: str | None
    consent_id: str | None
    jkt: str | None
    x5t_s256: str | None


@dataclass(frozen=True, slots=True)
class TokenContent:
    """What a new token is to say. `cnf` is {"jkt": …} or {"x5t#S256": …} (RFC 7800)."""

    client_id: str
    subject: str
    scopes: frozenset[str]
    grant_id: str
    cnf: Mapping[str, str]
    auth_key: str | None = None
    consent_id: str | None = None


def mint_access_token(signer: Signer, content: TokenContent, *, issuer: str, audience: str, now_s: int) -> str:
    """A signed `at+jwt` that lives ACCESS_TOKEN_LIFETIME_S."""
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": audience,
        "iat": now_s,
        "exp": now_s + ACCESS_TOKEN_LIFETIME_S,
        "jti": uuid.uuid4().hex,
        "sub": content.subject,
        "client_id": content.client_id,
        "scope": " ".join(sorted(content.scopes)),
        "cnf": dict(content.cnf),
        "gid": content.grant_id,
    }
    if content.auth_key is not None:
        claims["akid"] = content.auth_key
    if content.consent_id is not None:
        claims["consent_id"] = content.consent_id
    return signer.sign("token", encode(claims), header={"typ": "at+jwt"})


def verify_access_token(token: str, *, keys: PublicKeys, issuer: str, audience: str) -> VerifiedToken:
    """Signature, type, issuer, audience and times by PyJWT, algorithms named. Raises AccessTokenInvalid."""
    if len(token) > TOKEN_LIMIT:
        raise AccessTokenInvalid("This is not one of our access tokens")
    try:
        header = jwt.get_unverified_header(token)
        signing = keys.public_key(str(header.get("kid")))
        if signing is None or signing.purpose != "token" or header.get("typ") != "at+jwt":
            raise AccessTokenInvalid("This is not one of our access tokens")
        if signing.state == REVOKED:
            raise AccessTokenInvalid("The key that signed this access token was revoked; ask for a new token")
        claims = jwt.decode(
            token,
            jwt.PyJWK(dict(signing.public_jwk)).key,
            algorithms=_ALGORITHMS,
            audience=audience,
            issuer=issuer,
            options={"require": _REQUIRED, "strict_aud": True},
        )
    except jwt.ExpiredSignatureError:
        raise AccessTokenInvalid("The access token has expired; ask the token endpoint for a new one") from None
    except (jwt.InvalidTokenError, json.JSONDecodeError):
        raise AccessTokenInvalid("This is not one of our access tokens") from None
    return _verified(claims)


def _verified(claims: Mapping[str, Any]) -> VerifiedToken:
    cnf = claims["cnf"]
    return VerifiedToken(
        client_id=claims["client_id"],
        subject=claims["sub"],
        scopes=frozenset(claims["scope"].split()),
        expires_s=claims["exp"],
        grant_id=claims["gid"],
        auth_key=claims.get("akid"),
        consent_id=claims.get("consent_id"),
        jkt=cnf.get("jkt"),
        x5t_s256=cnf.get("x5t#S256"),
    )
