"""DPoP proofs (RFC 9449 §4.3): one pure check, on the hot path of every DPoP read, so it goes straight to the metal.

msgspec reads header and claims, `cryptography` verifies; public keys are remembered by their JWK text, since a partner
proves with the same key for months. Whether the jti was spent is asked elsewhere: this is a function of its arguments.
"""

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from gateway.refusal import Refusal

PROOF_LIMIT = 4096  # characters; an RSA-4096 proof has some 1,800
JTI_LIMIT = 256  # characters
PAST_S, FUTURE_S = 60, 10  # iat may lie this far back (slow networks) and ahead (clocks): FAPI 2.0 §5.3.2.1
_RSA_BITS = 2048
_REMEMBERED_KEYS = 4096


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
    jwk: msgspec.Raw


class _Claims(msgspec.Struct, frozen=True):
    jti: str
    htm: str
    htu: str
    iat: int | float
    ath: str | None = None


@dataclass(frozen=True, slots=True)
class _ProofKey:
    """A public key out of a proof's header: how it verifies, and its thumbprint."""

    alg: str
    jkt: str
    verify: Callable[[bytes, bytes], None]


_header = msgspec.json.Decoder(_Header)
_claims = msgspec.json.Decoder(_Claims)
_ES256 = ec.ECDSA(hashes.SHA256())
_PS256 = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)


def verify_proof(proof: str, *, method: str, url: str, now_s: int, access_token: str | None) -> Proof:
    """Check everything but the jti's first use. `url` is our own spelling of the target, without query.

    `access_token` is given at a resource: then `ath` must be its hash. Raises ProofInvalid.
    """
    if len(proof) > PROOF_LIMIT or proof.count(".") != 2:
        raise ProofInvalid("Send one compact JWS in the DPoP header")
    head, body, signature = proof.split(".")
    try:
        header = _header.decode(_unbase64(head))
        claims = _claims.decode(_unbase64(body))
        key = _proof_key(bytes(header.jwk), header.alg)
        raw_signature = _unbase64(signature)
    except (msgspec.DecodeError, Base64Error, ValueError):
        raise ProofInvalid("The DPoP proof is malformed: header, claims or key cannot be read") from None
    if header.typ.lower() not in ("dpop+jwt", "application/dpop+jwt"):
        raise ProofInvalid("The DPoP proof's typ is not dpop+jwt")
    try:
        key.verify(raw_signature, f"{head}.{body}".encode("ascii"))
    except (InvalidSignature, ValueError):
        raise ProofInvalid("The DPoP proof's signature does not fit the key in its header") from None
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


@lru_cache(maxsize=_REMEMBERED_KEYS)
def access_token_hash(access_token: str) -> str:
    """RFC 9449 §4.2: base64url SHA-256 of the ASCII token."""
    digest = hashlib.sha256(access_token.encode("ascii", "replace")).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


@lru_cache(maxsize=_REMEMBERED_KEYS)
def normal_target(url: str) -> str:
    """RFC 9449 §4.3 check 9 with RFC 3986 §6.2.2: scheme and host in lower case, default port and query dropped."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ProofInvalid("The DPoP proof's htu is not an address") from None
    default = {"https": 443, "http": 80}.get(parts.scheme.lower())
    host = (parts.hostname or "").lower()
    return f"{parts.scheme.lower()}://{host}{'' if port in (None, default) else f':{port}'}{parts.path or '/'}"


@lru_cache(maxsize=_REMEMBERED_KEYS)
def _proof_key(jwk_text: bytes, alg: str) -> _ProofKey:
    """Raises ValueError for a key that is private, weak, or not of that algorithm."""
    jwk: dict[str, Any] = msgspec.json.decode(jwk_text, type=dict[str, Any])
    if jwk.keys() & {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}:
        raise ValueError("a proof's header holds the public half only")
    match alg, jwk.get("kty"), jwk.get("crv"):
        case "ES256", "EC", "P-256":
            return _ProofKey(alg, _thumbprint(jwk, "crv", "kty", "x", "y"), _verify_es256(jwk))
        case "PS256", "RSA", _:
            return _ProofKey(alg, _thumbprint(jwk, "e", "kty", "n"), _verify_ps256(jwk))
        case (("EdDSA" | "Ed25519"), "OKP", "Ed25519"):
            key = ed25519.Ed25519PublicKey.from_public_bytes(_unbase64(jwk["x"]))
            return _ProofKey(alg, _thumbprint(jwk, "crv", "kty", "x"), key.verify)
    raise ValueError(f"a proof is made with ES256, PS256 or EdDSA, not {alg!r}")


def _verify_es256(jwk: dict[str, Any]) -> Callable[[bytes, bytes], None]:
    numbers = ec.EllipticCurvePublicNumbers(_number(jwk["x"]), _number(jwk["y"]), ec.SECP256R1())
    key = numbers.public_key()

    def verify(signature: bytes, message: bytes) -> None:
        if len(signature) != 64:
            raise InvalidSignature
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        key.verify(encode_dss_signature(r, s), message, _ES256)

    return verify


def _verify_ps256(jwk: dict[str, Any]) -> Callable[[bytes, bytes], None]:
    key = rsa.RSAPublicNumbers(_number(jwk["e"]), _number(jwk["n"])).public_key()
    if key.key_size < _RSA_BITS:
        raise ValueError(f"an RSA key has at least {_RSA_BITS} bits")
    return lambda signature, message: key.verify(signature, message, _PS256, hashes.SHA256())


def _thumbprint(jwk: dict[str, Any], *names: str) -> str:
    """RFC 7638: the required members in lexical order, no blanks."""
    members = {name: jwk[name] for name in names}
    digest = hashlib.sha256(msgspec.json.encode(members, order="sorted")).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def _number(text: str) -> int:
    return int.from_bytes(_unbase64(text), "big")


def _unbase64(text: str) -> bytes:
    """Strict base64url without padding (RFC 7515 §2)."""
    if "=" in text or "+" in text or "/" in text:
        raise ValueError("not base64url")
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
