"""Signatures that callers make: compact JWS read strictly, verified with PS256, ES256 or EdDSA and nothing else.

msgspec reads, `cryptography` verifies, and a public key is imported once per JWK text, as partners sign with the same
key for months. Whatever a stranger sends ends in SignatureMalformed or SignatureWrong, never in another exception.
"""

import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from msgspec import UNSET, Raw, UnsetType

from gateway.jsonio import members_repeat

ALGORITHMS = ("PS256", "ES256", "EdDSA", "Ed25519")  # FAPI 2.0 §5.4.1, and Ed25519 by its name of RFC 9864
_RSA_BITS = 2048
_REMEMBERED_KEYS = (
    65_536  # of 5,000 partners a dozen each; one costs 3 KB when it is used, and 78 µs when it is not here
)
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_ES256 = ec.ECDSA(hashes.SHA256())
_PS256 = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
H = TypeVar("H")
C = TypeVar("C")


class SignatureMalformed(Exception):
    """Not a compact JWS with a header, claims and key that can be read."""


class SignatureWrong(Exception):
    """The signature is not the key's."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key that verifies with one algorithm; `jkt` is its RFC 7638 SHA-256 thumbprint."""

    alg: str
    jkt: str
    verify: Callable[[bytes, bytes], None]


@dataclass(frozen=True, slots=True)
class Signed(Generic[H, C]):
    """A compact JWS taken apart and not verified yet."""

    header: H
    claims: C
    message: bytes
    signature: bytes

    def check(self, key: VerifyingKey) -> None:
        """Raises SignatureWrong."""
        try:
            key.verify(self.signature, self.message)
        except (InvalidSignature, ValueError):
            raise SignatureWrong from None


class _Jwk(msgspec.Struct, frozen=True):
    """RFC 7518 §6: the members of a public key; the private ones are named to be refused."""

    kty: str
    crv: str = ""
    x: str = ""
    y: str = ""
    n: str = ""
    e: str = ""
    d: Raw | UnsetType = UNSET
    p: Raw | UnsetType = UNSET
    q: Raw | UnsetType = UNSET
    dp: Raw | UnsetType = UNSET
    dq: Raw | UnsetType = UNSET
    qi: Raw | UnsetType = UNSET
    oth: Raw | UnsetType = UNSET
    k: Raw | UnsetType = UNSET

    @property
    def private(self) -> bool:
        members = (self.d, self.p, self.q, self.dp, self.dq, self.qi, self.oth, self.k)
        return any(member is not UNSET for member in members)


_jwk = msgspec.json.Decoder(_Jwk)


class CompactReader(Generic[H, C]):
    """Reads compact JWS (RFC 7515 §7.1) whose header and claims have these shapes, up to `limit` characters.

    Clients sign with the same header for months, so a header is read once; what stands in it is frozen.
    """

    def __init__(self, header: type[H], claims: type[C], *, limit: int) -> None:
        self._header = msgspec.json.Decoder(header)
        self._claims = msgspec.json.Decoder(claims)
        self._limit = limit
        self._read_header = lru_cache(maxsize=_REMEMBERED_KEYS)(self._decode_header)

    def read(self, text: str) -> Signed[H, C]:
        """Raises SignatureMalformed."""
        if len(text) > self._limit or text.count(".") != 2:
            raise SignatureMalformed
        head, body, signature = text.split(".")
        try:
            raw = unbase64(body)
            claims = self._claims.decode(raw)
            if (b"\\" in raw or raw.count(b'"') != _quotes(claims)) and members_repeat(raw):
                raise SignatureMalformed
            return Signed(self._read_header(head), claims, f"{head}.{body}".encode("ascii"), unbase64(signature))
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise SignatureMalformed from None

    def _decode_header(self, text: str) -> H:
        raw = unbase64(text)
        header = self._header.decode(raw)
        if members_repeat(raw):
            raise SignatureMalformed
        return header


def _quotes(claims: Any) -> int:
    """How many there are in JSON that holds these claims once each, and no other: the common case, seen at a glance."""
    return sum([4 if value.__class__ is str else 2 for value in msgspec.structs.astuple(claims) if value is not None])


@lru_cache(maxsize=_REMEMBERED_KEYS)
def verifying_key(jwk_text: bytes, alg: str) -> VerifyingKey:
    """Raises SignatureMalformed for a key that is private, weak, not on its curve, or not of that algorithm."""
    try:
        jwk = _jwk.decode(jwk_text)
        if jwk.private:
            raise SignatureMalformed
        match alg, jwk.kty, jwk.crv:
            case "ES256", "EC", "P-256":
                thumbed = {"crv": jwk.crv, "kty": jwk.kty, "x": jwk.x, "y": jwk.y}
                return VerifyingKey(alg, _thumbprint(thumbed), _verify_es256(jwk))
            case "PS256", "RSA", _:
                return VerifyingKey(alg, _thumbprint({"e": jwk.e, "kty": jwk.kty, "n": jwk.n}), _verify_ps256(jwk))
            case (("EdDSA" | "Ed25519"), "OKP", "Ed25519"):
                key = ed25519.Ed25519PublicKey.from_public_bytes(unbase64(jwk.x))
                return VerifyingKey(alg, _thumbprint({"crv": jwk.crv, "kty": jwk.kty, "x": jwk.x}), key.verify)
    except (msgspec.DecodeError, ValueError, RecursionError):
        pass
    raise SignatureMalformed


def unbase64(text: str) -> bytes:
    """Strict base64url without padding (RFC 7515 §2). Raises ValueError."""
    if _BASE64URL.fullmatch(text) is None:
        raise ValueError("not base64url")
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def base64(raw: bytes) -> str:
    """base64url without padding."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _verify_es256(jwk: _Jwk) -> Callable[[bytes, bytes], None]:
    key = ec.EllipticCurvePublicNumbers(_number(jwk.x), _number(jwk.y), ec.SECP256R1()).public_key()

    def verify(signature: bytes, message: bytes) -> None:
        if len(signature) != 64:  # RFC 7518 §3.4: R and S, 32 bytes each
            raise InvalidSignature
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        key.verify(encode_dss_signature(r, s), message, _ES256)

    return verify


def _verify_ps256(jwk: _Jwk) -> Callable[[bytes, bytes], None]:
    key = rsa.RSAPublicNumbers(_number(jwk.e), _number(jwk.n)).public_key()
    if key.key_size < _RSA_BITS:
        raise ValueError(f"an RSA key has at least {_RSA_BITS} bits")
    return lambda signature, message: key.verify(signature, message, _PS256, hashes.SHA256())


def _thumbprint(members: dict[str, str]) -> str:
    """RFC 7638: the required members in lexical order, no blanks."""
    return base64(hashlib.sha256(msgspec.json.encode(members, order="sorted")).digest())


def _number(text: str) -> int:
    return int.from_bytes(unbase64(text), "big")
