"""Detached signatures of messages (RFC 7515 Appendix F) as UK Open Banking 4.0.1 profiles them: asked for and given.

PS256; the protected header names the key and carries who signed, when, and under whose trust anchor; `crit` names
exactly these three claims. A payment stays provable long after its token is gone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.jsonio import canonical, members_repeat
from gateway.keyring import Keyring
from gateway.oauth.signature import SignatureMalformed, SignatureWrong, Signed, base64, unbase64, verifying_key
from gateway.partners.partner import App, AppKey
from gateway.refusal import Refusal

ALG = "PS256"
IAT, ISS, TAN = (f"http://openbanking.org.uk/{claim}" for claim in ("iat", "iss", "tan"))
SIGNATURE_LIMIT = 4096  # characters; RSA-4096 with our header has some 1,100
FUTURE_S = 10  # as far as a DPoP proof: a clock of a signer is kept
LIFE_S = 86_400  # a signature is as old as a retry with the same idempotency key may be
_HEADER = "$header.x-jws-signature"


class MessageSignatureMissing(Refusal):
    """Payments are signed."""

    code, ob_code, outcome = "message_signature_missing", "U019", "auth_invalid"
    title = "Send x-jws-signature: a detached JWS of the body"


class MessageSignatureMalformed(Refusal):
    """Not `header..signature` with a JSON header."""

    code, ob_code, outcome = "message_signature_malformed", "U018", "auth_invalid"
    title = "x-jws-signature is not a detached JWS"


class MessageClaimMissing(Refusal):
    """A claim that the profile asks for is not in the protected header."""

    code, ob_code, outcome = "message_claim_missing", "U017", "auth_invalid"
    title = "A claim is missing in the header of x-jws-signature"


class MessageClaimWrong(Refusal):
    """A claim with a value that cannot be accepted."""

    code, ob_code, outcome = "message_claim_wrong", "U016", "auth_invalid"
    title = "A claim in the header of x-jws-signature cannot be accepted"


class MessageSignatureWrong(Refusal):
    """The signature is not of this body by that key."""

    code, ob_code, outcome = "message_signature_wrong", "U015", "auth_invalid"
    title = "x-jws-signature does not verify over this body"


class _Header(msgspec.Struct, frozen=True):
    """Members that are not named here (`typ`, `cty`) change nothing."""

    alg: str | None = None
    kid: str | None = None
    crit: list[str] | None = None
    iat: int | None = msgspec.field(name=IAT, default=None)
    iss: str | None = msgspec.field(name=ISS, default=None)
    tan: str | None = msgspec.field(name=TAN, default=None)
    b64: Raw | UnsetType = UNSET


_header = msgspec.json.Decoder(_Header)


@dataclass(frozen=True, slots=True)
class MessageSignatures:
    """Checks what apps sign and signs what we answer. `issuer` is who we are, `anchor` whose register we trust."""

    keyring: Keyring
    issuer: str

    @property
    def anchor(self) -> str:
        return urlsplit(self.issuer).hostname or self.issuer

    def check(self, signature: str | None, body: bytes, *, app: App, now_ms: int) -> None:
        """Raises the refusal of the first rule that is broken."""
        if not signature:
            raise MessageSignatureMissing(path=_HEADER)
        signed = _read(signature, body)
        key = _check_claims(signed.header, app=app, anchor=self.anchor, now_ms=now_ms)
        try:
            signed.check(verifying_key(canonical(dict(key.jwk)), ALG))
        except (SignatureMalformed, SignatureWrong):
            raise MessageSignatureWrong(path=_HEADER) from None

    def sign(self, body: bytes, now_ms: int) -> str:
        """The x-jws-signature of an answer."""
        claims = {IAT: now_ms // 1000, ISS: self.issuer, TAN: self.anchor}
        return self.keyring.sign_detached("message", body, header={**claims, "crit": list(claims)})


def _read(signature: str, body: bytes) -> Signed[_Header, None]:
    head, dots, tail = signature.partition("..")
    if not head or not dots or not tail or len(signature) > SIGNATURE_LIMIT:
        raise MessageSignatureMalformed(path=_HEADER)
    try:
        raw = unbase64(head)
        header = _header.decode(raw)
        if members_repeat(raw):
            raise MessageSignatureMalformed("A member of the header came more than once", path=_HEADER)
        return Signed(header, None, f"{head}.{base64(body)}".encode(), unbase64(tail))
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise MessageSignatureMalformed(path=_HEADER) from None


def _check_claims(header: _Header, *, app: App, anchor: str, now_ms: int) -> AppKey:
    """The app's key that must have signed."""
    named = {"alg": header.alg, "kid": header.kid, "crit": header.crit, IAT: header.iat, ISS: header.iss,
             TAN: header.tan}  # fmt: skip
    missing = [name for name, value in named.items() if value is None]
    if missing:
        raise MessageClaimMissing(f"The header has no {missing[0]}", path=_HEADER)
    for fault in _faults(header, app=app, anchor=anchor, now_s=now_ms // 1000):
        raise MessageClaimWrong(fault, path=_HEADER)
    key = app.verifying_key(header.kid or "")
    if key is None:
        raise MessageClaimWrong("kid must name an active key of your app", path=_HEADER)
    return key


def _faults(header: _Header, *, app: App, anchor: str, now_s: int) -> Iterator[str]:
    if header.alg != ALG:
        yield f"alg must be {ALG}"
    if sorted(header.crit or ()) != [IAT, ISS, TAN]:
        yield f"crit must name {IAT}, {ISS} and {TAN}, once each"
    if header.b64 is not UNSET:
        yield "b64 must be left out"
    if header.iss != app.client_id:
        yield f"{ISS} must be your client_id"
    if header.tan != anchor:
        yield f"{TAN} must be {anchor}"
    if not -LIFE_S <= (header.iat or 0) - now_s <= FUTURE_S:
        yield f"{IAT} must lie in the past, by {LIFE_S // 3600} hours at most"
