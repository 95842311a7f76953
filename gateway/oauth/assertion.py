"""Client authentication by private_key_jwt (RFC 7523 §3 as FAPI 2.0 §5.3.2.1 narrows it): one pure check.

The audience is the issuer as one string: an array, or the address of an endpoint, would let an assertion made for
another server be used here. Whether the jti was spent is asked elsewhere.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.jsonio import canonical
from gateway.oauth.refusals import ClientNotAuthenticated
from gateway.oauth.signature import CompactReader, SignatureMalformed, SignatureWrong, Signed, verifying_key
from gateway.partners.partner import App, AppKey

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_LIMIT = 8192  # characters
JTI_LIMIT = 256  # characters
FUTURE_S = 30  # iat and nbf may lie this far ahead: clocks differ; 60 s and more must be refused
LIFETIME_S = 3600  # exp may lie this far ahead: a spent jti is remembered until then


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Who called, with which of its keys; `jti` is to be spent once per client, until `expires_s`."""

    app: App
    kid: str
    jti: str
    expires_s: int


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str | None = None
    crit: Raw | UnsetType = UNSET


class _Claims(msgspec.Struct, frozen=True):
    iss: str
    sub: str
    aud: str  # one string; an array does not fit this shape
    jti: str
    exp: int | float
    iat: int | float | None = None
    nbf: int | float | None = None


_assertions = CompactReader(_Header, _Claims, limit=ASSERTION_LIMIT)


def verify_assertion(
    assertion: str, *, apps: Mapping[str, App], issuer: str, now_s: int, client_id: str | None
) -> Authenticated:
    """Check everything but the jti's first use. `client_id` is the form's, where it has one.

    Raises ClientNotAuthenticated.
    """
    try:
        signed = _assertions.read(assertion)
    except SignatureMalformed:
        raise ClientNotAuthenticated("client_assertion is not a JWT with iss, sub, jti, exp and one aud") from None
    claims = signed.claims
    if claims.iss != claims.sub or (client_id is not None and client_id != claims.sub):
        raise ClientNotAuthenticated("iss, sub and client_id must be the same client")
    app = apps.get(claims.sub)
    if app is None or app.auth_method != "private_key_jwt":
        raise ClientNotAuthenticated("This client is not registered for private_key_jwt")
    key = _signer(signed, app)
    _check_claims(claims, issuer=issuer, now_s=now_s)
    return Authenticated(app, key.kid, claims.jti, math.ceil(claims.exp))  # no second less than it is good


def _signer(signed: Signed[_Header, _Claims], app: App) -> AppKey:
    """The key that made it: the one that `kid` names, or, without a kid, the one of the app's that verifies."""
    header = signed.header
    if header.crit is not UNSET:
        raise ClientNotAuthenticated("The assertion's header has crit, which is not understood")
    for key in _candidates(app, header.kid):
        try:
            signed.check(verifying_key(canonical(dict(key.jwk)), header.alg))
        except (SignatureMalformed, SignatureWrong):
            continue
        return key
    raise ClientNotAuthenticated("No active key of this client made the signature; use PS256, ES256 or EdDSA")


def _candidates(app: App, kid: str | None) -> Iterable[AppKey]:
    if kid is None:
        return (key for key in app.keys if key.state.verifies)
    named = app.verifying_key(kid)
    return () if named is None else (named,)


def _check_claims(claims: _Claims, *, issuer: str, now_s: int) -> None:
    if claims.aud != issuer:
        raise ClientNotAuthenticated(f"aud must be {issuer}, as one string")
    if claims.exp <= now_s or claims.exp > now_s + LIFETIME_S:
        raise ClientNotAuthenticated(f"exp must lie ahead, by {LIFETIME_S} s at most")
    if any(moment is not None and moment > now_s + FUTURE_S for moment in (claims.iat, claims.nbf)):
        raise ClientNotAuthenticated(f"iat or nbf lies more than {FUTURE_S} s ahead of our clock")
    if not 1 <= len(claims.jti) <= JTI_LIMIT:
        raise ClientNotAuthenticated(f"jti has 1 to {JTI_LIMIT} characters")
