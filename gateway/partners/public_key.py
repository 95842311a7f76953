"""Which keys a partner may register: public ones only, strong ones only (FAPI 2.0 §5.4; RFC 7517, 7638)."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from gateway.jsonio import canonical

RSA_BITS = 2048  # FAPI 2.0 §5.4.1: at least
_PRIVATE = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth", "k"))
_ALGORITHMS = {"RSA": ("PS256",), "EC": ("ES256",), "OKP": ("EdDSA", "Ed25519")}
_KINDS: dict[str, type[RSAKey] | type[ECKey] | type[OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
_REQUIRED = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}  # RFC 7638 §3.2
_CURVES = {"EC": "P-256", "OKP": "Ed25519"}
_MEMBERS = frozenset(("kty", "kid", "use", "alg", "crv", "x", "y", "n", "e"))


class KeyUnfit(Exception):
    """A key that is not registered; `member` is the JWK member at fault."""

    def __init__(self, member: str, reason: str) -> None:
        super().__init__(f"{member}: {reason}")
        self.member = member
        self.reason = reason


def check_public_key(jwk: Mapping[str, Any]) -> None:
    """Raises KeyUnfit."""
    if private := sorted(_PRIVATE & jwk.keys()):
        raise KeyUnfit(private[0], "is private key material; send the public half only, and make a new key")
    if unknown := sorted(jwk.keys() - _MEMBERS):
        raise KeyUnfit(unknown[0], "is not a member of a public key that we read")
    kind = jwk.get("kty")
    if kind not in _KINDS:
        raise KeyUnfit("kty", f"is {kind!r}; use EC (P-256), OKP (Ed25519) or RSA (2048 bits or more)")
    if jwk.get("use", "sig") != "sig":
        raise KeyUnfit("use", "is not sig; these keys only verify signatures")
    if jwk.get("alg", _ALGORITHMS[kind][0]) not in _ALGORITHMS[kind]:
        raise KeyUnfit("alg", f"is {jwk['alg']!r}; a key of kind {kind} signs with {' or '.join(_ALGORITHMS[kind])}")
    if kind in _CURVES and jwk.get("crv") != _CURVES[kind]:
        raise KeyUnfit("crv", f"is {jwk.get('crv')!r}; use {_CURVES[kind]}")
    try:
        if kind == "RSA" and (bits := _bits(jwk)) < RSA_BITS:
            raise KeyUnfit("n", f"has {bits} bits; use {RSA_BITS} or more")
        _ = _KINDS[kind].import_key(dict(jwk)).raw_value  # decodes the numbers; a point off the curve ends here
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise KeyUnfit("kty", f"is not a usable {kind} key: {error}") from None


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """RFC 7638, SHA-256, base64url."""
    digest = sha256(canonical({member: jwk[member] for member in _REQUIRED[jwk["kty"]]})).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def _bits(jwk: Mapping[str, Any]) -> int:
    """Length of the modulus."""
    text = jwk["n"]
    return int.from_bytes(urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big").bit_length()
