"""DPoP proofs (RFC 9449 §4.3): one pure check, on the hot path of every DPoP read.

Whether the jti was spent is asked elsewhere: this is a function of its arguments.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.oauth.signature import CompactReader, SignatureMalformed, SignatureWrong, base64, verifying_key
from gateway.refusal import Refusal

PROOF_LIMIT = 4096  # characters; an RSA-4096 proof has some 1,800
JTI_LIMIT = 256  # characters
PAST_S, FUTURE_S = 60, 10  # iat may lie this far back (slow networks) and ahead (clocks): FAPI 2.0 §5.3.2.1
_REMEMBERED = 4096  # tokens and targets; one that is not here costs 2 µs, however many partners there are


class ProofInvalid(Refusal):
    """The DPoP proof does not prove this request. 401 at a resource, 400 at the authorization server."""

    status: ClassVar[int] = 401
    code, ob_code, outcome = "dpop_proof_invalid", "U006", "auth_invalid"
    oauth_error = "invalid_dpop_proof"
    title = "The DPoP proof is not valid for this request"


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that holds: `jkt` is the RFC 7638 thumbprint of its key, `jti` is to be spent once per key."""

    jkt: str
    jti: str
    iat: int


class _Header(msgspec.Struct, frozen=True):
    typ: str
    alg: str
    jwk: Raw
    crit: Raw | UnsetType = UNSET


class _Claims(msgspec.Struct, frozen=True):
    jti: str
    htm: str
    htu: str
    iat: int | float
    ath: str | None = None


_proofs = CompactReader(_Header, _Claims, limit=PROOF_LIMIT)


def verify_proof(proof: str, *, method: str, url: str, now_s: int, access_token: str | None) -> Proof:
    """Check everything but the jti's first use. `url` is our own spelling of the target, without query.

    `access_token` is given at a resource: then `ath` must be its hash. Raises ProofInvalid.
    """
    try:
        signed = _proofs.read(proof)
        header, claims = signed.header, signed.claims
        key = verifying_key(bytes(header.jwk), header.alg)
        signed.check(key)
    except SignatureMalformed:
        raise ProofInvalid("Send one compact JWS in the DPoP header: PS256, ES256 or EdDSA, public jwk") from None
    except SignatureWrong:
        raise ProofInvalid("The DPoP proof's signature does not fit the key in its header") from None
    if header.typ.lower() not in ("dpop+jwt", "application/dpop+jwt") or header.crit is not UNSET:
        raise ProofInvalid("The DPoP proof's typ is not dpop+jwt, or its header has crit")
    _check_claims(claims, method=method, url=url, now_s=now_s, access_token=access_token)
    return Proof(key.jkt, claims.jti, int(claims.iat))


def _check_claims(claims: _Claims, *, method: str, url: str, now_s: int, access_token: str | None) -> None:
    if not 1 <= len(claims.jti) <= JTI_LIMIT:
        raise ProofInvalid(f"The DPoP proof's jti has 1 to {JTI_LIMIT} characters")
    if claims.htm != method:
        raise ProofInvalid(f"The DPoP proof was made for {claims.htm}, the request is {method}")
    if claims.htu != url and normal_target(claims.htu) != normal_target(url):
        raise ProofInvalid(f"The DPoP proof was made for another address than {url}")
    if not -FUTURE_S <= now_s - claims.iat <= PAST_S:
        raise ProofInvalid(f"The DPoP proof's iat is not within {PAST_S} s before and {FUTURE_S} s after our clock")
    if access_token is not None and claims.ath != access_token_hash(access_token):
        raise ProofInvalid("The DPoP proof's ath is not the hash of the access token")


@lru_cache(maxsize=_REMEMBERED)
def access_token_hash(access_token: str) -> str:
    """RFC 9449 §4.2: base64url SHA-256 of the ASCII token."""
    return base64(hashlib.sha256(access_token.encode("ascii", "replace")).digest())


@lru_cache(maxsize=_REMEMBERED)
def normal_target(url: str) -> str:
    """RFC 9449 §4.3 check 9 with RFC 3986 §6.2.2: scheme and host in lower case, default port and query dropped."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ProofInvalid("The DPoP proof's htu is not an address") from None
    if "@" in parts.netloc:  # who reads the part before it as the host sends the proof elsewhere
        raise ProofInvalid("The DPoP proof's htu has a user in it")
    default = {"https": 443, "http": 80}.get(parts.scheme.lower())
    host = (parts.hostname or "").lower()
    return f"{parts.scheme.lower()}://{host}{'' if port in (None, default) else f':{port}'}{parts.path or '/'}"
