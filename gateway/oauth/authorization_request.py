"""The checks of a pushed authorization request: FAPI 2.0 §5.3.2.2, RFC 9126, 7636, 9396, 9449 §10."""

import re
from typing import Annotated, Literal

import msgspec

from gateway.consents.consent import ConsentKind
from gateway.oauth.asking import Asking, Details, allowed_scopes
from gateway.oauth.refusals import (
    DetailsRefused,
    RequestInvalid,
    RequestObjectRefused,
    ResponseTypeRefused,
    ScopeRefused,
)

STATE_LIMIT = 1000  # characters; comes back unchanged
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)  # base64url of 32 bytes
DETAIL_TYPES = {
    "account-access-consent": ConsentKind.ACCOUNT_ACCESS,
    "domestic-vrp-consent": ConsentKind.DOMESTIC_VRP,
}


class _Detail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """RFC 9396 §5: an unknown member is refused, as nobody would act on it."""

    type: Literal["account-access-consent", "domestic-vrp-consent"]
    consent_id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,128}$")]


_details = msgspec.json.Decoder(tuple[_Detail])


def refuse_request_uri(asking: Asking) -> None:
    """RFC 9126 §2.1 step 2: a pushed request does not point at another one."""
    if "request_uri" in asking.form:
        raise RequestInvalid("request_uri has no place in a pushed request")


def refuse_request_object(asking: Asking) -> None:
    if "request" in asking.form:
        raise RequestObjectRefused()


def check_response_type(asking: Asking) -> None:
    if asking.required("response_type") != "code":
        raise ResponseTypeRefused()


def check_response_mode(asking: Asking) -> None:
    if asking.form.get("response_mode", "query") != "query":
        raise RequestInvalid("response_mode is query, or left out")


def check_redirect_uri(asking: Asking) -> None:
    """Exactly one of the registered addresses, query included: no prefix, no other port, no other case."""
    if asking.required("redirect_uri") not in asking.app.redirect_uris:
        raise RequestInvalid("redirect_uri is not one that is registered for this client, letter by letter")


def check_code_challenge(asking: Asking) -> None:
    if asking.form.get("code_challenge_method") != "S256":
        raise RequestInvalid("code_challenge_method must be S256")
    if _CHALLENGE.fullmatch(asking.required("code_challenge")) is None:
        raise RequestInvalid("code_challenge must be the base64url SHA-256 of the verifier, 43 characters")


def check_state(asking: Asking) -> None:
    if len(asking.form.get("state", "")) > STATE_LIMIT:
        raise RequestInvalid(f"state has more than {STATE_LIMIT} characters")


def check_dpop_jkt(asking: Asking) -> None:
    """RFC 9449 §10.1: the parameter and the proof, where both are there, name the same key."""
    named = asking.form.get("dpop_jkt")
    if named is not None and asking.sender is not None and asking.sender.jkt != named:
        raise RequestInvalid("dpop_jkt is not the thumbprint of the DPoP proof's key")
    if named is not None and _CHALLENGE.fullmatch(named) is None:
        raise RequestInvalid("dpop_jkt is a base64url SHA-256 thumbprint of 43 characters")


def read_details(asking: Asking) -> None:
    """One consent, and the scope that such a consent is for."""
    text = asking.form.get("authorization_details")
    if text is None:
        raise DetailsRefused()
    try:
        (detail,) = _details.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError):
        known = " or ".join(DETAIL_TYPES)
        raise DetailsRefused(f"Send a JSON array of one object with type ({known}) and consent_id") from None
    kind = DETAIL_TYPES[detail.type]
    if asking.scopes not in (frozenset(), {kind.scope}):
        raise ScopeRefused(f"The scope of a {detail.type} is {kind.scope} alone")
    if kind.scope not in allowed_scopes(asking.app, asking.snapshot):
        raise ScopeRefused(f"{kind.scope} is not open to this client")
    asking.scopes = frozenset((kind.scope,))
    asking.details = Details(kind, detail.consent_id)
