"""Signatures (§12) and trees (§3): ES256 by strict JWS, RFC 7638 thumbprints, RFC 6962 roots and inclusion paths."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from .canonical import Refused, members, shown, string, whole_value, written


def unbase64(text: Any, name: str) -> bytes:
    """Base64url without padding and without loose bits."""
    given = string(text, name, pattern="[A-Za-z0-9_-]*")
    try:
        raw = urlsafe_b64decode(given + "=" * (-len(given) % 4))
    except ValueError:
        raise Refused(f"{name} is not base64url") from None
    if base64(raw).decode() != given:
        raise Refused(f"{name} is not strict base64url: {shown(given[-4:])} has loose bits")
    return raw


def base64(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


@dataclass(frozen=True, slots=True)
class Key:
    """A public P-256 key; `thumbprint` is that of RFC 7638."""

    kid: str
    thumbprint: str
    public: ec.EllipticCurvePublicKey


def read_key(jwk: Any) -> Key:
    """RFC 7517, RFC 7518 §6.2; a key of another purpose is none."""
    if not isinstance(jwk, dict):
        raise Refused(f"a key is an object, found {shown(jwk)}")
    kid = string(jwk.get("kid"), "kid of a key")
    wanted = {"kty": "EC", "crv": "P-256", "use": jwk.get("use") and "sig", "alg": jwk.get("alg") and "ES256"}
    wanted["purpose"] = "statement"
    for name, value in wanted.items():
        if jwk.get(name) != value:
            raise Refused(f"key {shown(kid)}: {name} is {shown(jwk.get(name))}, expected {value}")
    if "d" in jwk:
        raise Refused(f"key {shown(kid)} holds a private half, which no statement may")
    x, y = (unbase64(jwk.get(name), f"{name} of key {shown(kid)}") for name in "xy")
    if len(x) != 32 or len(y) != 32:
        raise Refused(f"key {shown(kid)}: x and y have 32 bytes each, found {len(x)} and {len(y)}")
    try:
        numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), ec.SECP256R1())
        public = numbers.public_key()
    except ValueError:
        raise Refused(f"key {shown(kid)} is not a point of the curve P-256") from None
    needed = written({"crv": "P-256", "kty": "EC", "x": jwk["x"], "y": jwk["y"]})
    return Key(kid, base64(sha256(needed).digest()).decode(), public)


def check_jws(token: Any, payload: bytes, *, typ: str, detached: bool, keys: Mapping[str, Key]) -> Key:
    """ES256 (RFC 7515, RFC 7518 §3.4); returns whose signature it is. `detached`: nothing between the dots (App. F)."""
    parts = string(token, "the JWS").split(".")
    signed = base64(payload)
    if len(parts) != 3 or parts[1] != ("" if detached else signed.decode()):
        middle = "nothing" if detached else "payload"
        raise Refused(f"{shown(token)} is not header, {middle} and signature with two dots")
    key = _named_key(parts[0], typ=typ, keys=keys)
    raw = unbase64(parts[2], "the signature")
    if len(raw) != 64:
        raise Refused(f"an ES256 signature has 64 bytes, found {len(raw)}")
    hashed = sha256(parts[0].encode() + b"." + signed).digest()
    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    try:
        key.public.verify(der, hashed, ec.ECDSA(Prehashed(SHA256())))
    except InvalidSignature:
        raise Refused(f"key {shown(key.kid)} did not sign this") from None
    return key


def _named_key(encoded: str, *, typ: str, keys: Mapping[str, Key]) -> Key:
    """The key that a protected header of exactly this kind names."""
    header = whole_value(unbase64(encoded, "the JWS header"))
    alg, kid, found_typ = members(header, "alg kid typ", of="the JWS header")
    if alg != "ES256" or found_typ != typ:
        raise Refused(f"the JWS header says {shown(alg)} and {shown(found_typ)}, expected ES256 and {typ}")
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        raise Refused(f"the signing key {shown(kid)} is not in `keys`")
    return key


# --- trees ------------------------------------------------------------------------------------------------------
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    return sha256(b"\0" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def tree_root(level: list[bytes]) -> bytes:
    """Of leaf hashes, or of subtrees that are full but for the last: pairs level by level, an odd last one goes up as
    it is (RFC 6962 §2.1)."""
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        level = [sha256(b"\1" + one + two).digest() for one, two in zip(level[::2], level[1::2], strict=False)] + odd
    return level[0] if level else EMPTY_ROOT


def root_by_path(leaf: bytes, path: list[str], *, index: int, size: int) -> str:
    """Where an inclusion path leads (RFC 6962 §2.1.1)."""
    found, left, last = leaf_hash(leaf), path[::-1], size - 1
    while last:
        if index & 1 or index < last:
            if not left:
                raise Refused(f"the inclusion path has {len(path)} hashes, which are too few for a tree of {size}")
            other = bytes.fromhex(left.pop())
            found = node_hash(other, found) if index & 1 else node_hash(found, other)
        index, last = index >> 1, last >> 1
    if left:
        raise Refused(f"the inclusion path has {len(path)} hashes, which are too many for a tree of {size}")
    return found.hex()


def head_hash(head: object) -> str:
    """What the head of the next sealed day names as the one before."""
    return sha256(written(head)).hexdigest()
