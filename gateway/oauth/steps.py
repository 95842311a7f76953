"""The checks of every endpoint that a client calls, on one screen: steps × endpoints, from top to bottom.

A step looks at the request alone; what needs rows comes after, in the endpoint. Each is a few lines, here or in
`authorization_request.py`.
"""

import hashlib

from gateway.oauth import authorization_request as ar
from gateway.oauth.asking import Asking, Once, Sender, Step, allowed_scopes, read_form
from gateway.oauth.assertion import ASSERTION_TYPE, verify_assertion
from gateway.oauth.dpop import ProofInvalid, verify_proof
from gateway.oauth.refusals import (
    ClientNotAuthenticated,
    ClientSuspended,
    ClientThrottled,
    GrantTypeRefused,
    ProofMissing,
    RequestInvalid,
    ScopeRefused,
)
from gateway.oauth.signature import base64
from gateway.partners.partner import PartnerState
from gateway.policies.policy import Rate

GRANT_TYPES = ("client_credentials", "authorization_code", "refresh_token")
PROOF_KEEP_MS = 120_000  # a proof is acceptable from 60 s before to 10 s after its iat; twice that is safely longer
LEAST = Rate(10, 50)  # of a client at these endpoints, however small its policy's rate
TOKEN_TEXT_LIMIT = 4096  # characters of a token that somebody asks about


# --- who calls ---------------------------------------------------------------------------------------------------
def take_form(asking: Asking) -> None:
    asking.form = read_form(asking.call)


def refuse_secrets(asking: Asking) -> None:
    """No shared secrets: FAPI 2.0 §5.3.2.1; and one way to authenticate only (RFC 6749 §2.3)."""
    if "authorization" in asking.call.headers or "client_secret" in asking.form:
        raise ClientNotAuthenticated("Authenticate with private_key_jwt in the form, and in no other way")


def authenticate_client(asking: Asking) -> None:
    if asking.form.get("client_assertion_type") != ASSERTION_TYPE or "client_assertion" not in asking.form:
        raise ClientNotAuthenticated("client_assertion_type and client_assertion are missing or of another kind")
    caller = asking.caller = verify_assertion(
        asking.form["client_assertion"],
        apps=asking.snapshot.apps,
        issuer=asking.issuer,
        now_s=asking.now_s,
        client_id=asking.form.get("client_id"),
    )
    asking.call.name_partner(caller.app.partner_id)
    asking.once.append(Once("assertion", caller.app.client_id, caller.jti, caller.expires_s * 1000))


def check_partner(asking: Asking) -> None:
    if asking.partner.state is not PartnerState.ACTIVE:
        raise ClientSuspended(f"Partner {asking.partner.partner_id} is {asking.partner.state}; talk to the bank")


def limit_rate(asking: Asking) -> None:
    """As often as the partner's policy lets it call anything, and often enough for a few servers that need tokens of
    several scopes at once; counted apart, so that one never eats up the other.

    Only a client that has proven itself is counted: nobody else can use up its rate.
    """
    policy = asking.snapshot.policies.get(asking.partner.partner_id)
    if policy is None:
        return  # nothing is open to it: the scope says no
    rate = Rate(max(policy.rate.per_second, LEAST.per_second), max(policy.rate.burst, LEAST.burst))
    key = f"{asking.app.client_id} oauth {rate.per_second}/{rate.burst}"  # a new rate begins with an empty bucket
    wait_ms = asking.limiter.check(key, rate, now_ms=asking.now_ms)
    if wait_ms:
        raise ClientThrottled(-(-wait_ms // 1000))


# --- what tokens are bound to ------------------------------------------------------------------------------------
def take_proof(asking: Asking) -> None:
    """RFC 9449 §5 and §10.1: a DPoP proof for this very endpoint, where there is one."""
    if "dpop" in asking.call.repeated_headers:
        raise ProofInvalid("Send one DPoP header only")
    text = asking.call.headers.get("dpop")
    if text is None:
        return
    operation = asking.call.operation
    proof = verify_proof(
        text, method=operation.method, url=asking.issuer + operation.path, now_s=asking.now_s, access_token=None
    )
    asking.sender = Sender(jkt=proof.jkt)
    asking.once.append(Once("dpop", proof.jkt, proof.jti, asking.now_ms + PROOF_KEEP_MS))


def require_sender(asking: Asking) -> None:
    """Every token is bound: to the proof's key or else to the certificate that the trusted proxy saw (RFC 8705)."""
    certificate = asking.call.client_certificate
    if asking.sender is None and certificate is not None:
        asking.sender = Sender(x5t_s256=base64(hashlib.sha256(certificate).digest()))
    if asking.sender is None:
        raise ProofMissing()


# --- what is asked for -------------------------------------------------------------------------------------------
def check_grant_type(asking: Asking) -> None:
    if asking.required("grant_type") not in GRANT_TYPES:
        raise GrantTypeRefused()


def check_scope(asking: Asking) -> None:
    """What is asked for is open to the app. Nothing asked: what that means is the grant's matter."""
    asked = asking.scopes = frozenset(asking.form.get("scope", "").split())
    if closed := asked - allowed_scopes(asking.app, asking.snapshot):
        raise ScopeRefused(f"Not open to this client: {' '.join(sorted(closed))[:200]}")


def require_token(asking: Asking) -> None:
    if len(asking.required("token")) > TOKEN_TEXT_LIMIT:
        raise RequestInvalid(f"token has more than {TOKEN_TEXT_LIMIT} characters")


# fmt: off
MATRIX: tuple[tuple[Step, str], ...] = (
    # step                          endpoints
    (take_form,                     "par  token  revoke  introspect"),
    (refuse_secrets,                "par  token  revoke  introspect"),
    (authenticate_client,           "par  token  revoke  introspect"),
    (check_partner,                 "par  token  revoke  introspect"),
    (limit_rate,                    "par  token  revoke  introspect"),
    (take_proof,                    "par  token                    "),
    (require_sender,                "     token                    "),
    (check_grant_type,              "     token                    "),
    (ar.refuse_request_uri,         "par                           "),
    (ar.refuse_request_object,      "par                           "),
    (ar.check_response_type,        "par                           "),
    (ar.check_response_mode,        "par                           "),
    (ar.check_redirect_uri,         "par                           "),
    (ar.check_code_challenge,       "par                           "),
    (ar.check_state,                "par                           "),
    (ar.check_dpop_jkt,             "par                           "),
    (check_scope,                   "par  token                    "),
    (ar.read_details,               "par                           "),
    (require_token,                 "            revoke  introspect"),
)
# fmt: on


def steps_of(endpoint: str) -> tuple[Step, ...]:
    """The endpoint's column, from top to bottom."""
    return tuple(step for step, endpoints in MATRIX if endpoint in endpoints.split())
