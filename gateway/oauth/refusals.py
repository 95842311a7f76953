"""What the authorization server says no to, each named as the broken rule; `oauth_error` is the registered word."""

from gateway.refusal import Refusal


class RequestInvalid(Refusal):
    """A parameter is missing, repeated or not usable."""

    code, outcome = "oauth_request_invalid", "schema"
    title = "The request is not one that this endpoint takes"


class ClientNotAuthenticated(Refusal):
    """No such client, or it did not prove that it is this client.

    No challenge: private_key_jwt is no scheme of the Authorization header, and the registered ones open nothing here.
    """

    status, oauth_status = 401, 401
    code, outcome = "client_not_authenticated", "auth_invalid"
    oauth_error = "invalid_client"
    title = "The client is not authenticated"


class AssertionReplayed(ClientNotAuthenticated):
    """This client assertion has been used."""

    code, outcome = "assertion_replayed", "replay"
    title = "This client assertion was used before; make a new one for every request"


class ClientSuspended(Refusal):
    """The bank has closed its door to the partner for now."""

    status, code, outcome = 403, "client_suspended", "partner_state"
    oauth_error = "unauthorized_client"
    title = "The bank has not opened its door to this partner at present"


class ProofMissing(Refusal):
    """Tokens are bound to a key: a DPoP proof or a client certificate must say to which."""

    code, outcome = "dpop_proof_missing", "auth_invalid"
    title = "Send exactly one DPoP proof, or connect with a client certificate"


class ProofSpent(Refusal):
    """This DPoP proof has been used."""

    code, outcome = "proof_replayed", "replay"
    oauth_error = "invalid_dpop_proof"
    title = "This DPoP proof was used before; make a new one for every request"


class ScopeRefused(Refusal):
    """A scope that the app or the grant does not have."""

    code, outcome = "scope_refused", "scope"
    oauth_error = "invalid_scope"
    title = "The scope is not one that this client may have"


class ResponseTypeRefused(Refusal):
    """Only codes are given."""

    code, outcome = "response_type_refused", "schema"
    oauth_error = "unsupported_response_type"
    title = "The only response_type is code"


class RequestObjectRefused(Refusal):
    """Signed request objects are not taken in this security profile."""

    code, outcome = "request_object_refused", "schema"
    oauth_error = "request_not_supported"
    title = "Push the parameters themselves; request objects are not taken"


class DetailsRefused(Refusal):
    """`authorization_details` is missing, of an unknown type, or names a consent that cannot be asked for."""

    code, outcome = "authorization_details_refused", "consent"
    oauth_error = "invalid_authorization_details"
    title = "authorization_details must name one consent of yours"


class GrantTypeRefused(Refusal):
    """Not a grant that is given here."""

    code, outcome = "grant_type_refused", "schema"
    oauth_error = "unsupported_grant_type"
    title = "The grant_type is client_credentials, authorization_code or refresh_token"


class GrantTypeNotOpen(Refusal):
    """A grant that this client may not use."""

    code, outcome = "grant_type_not_open", "scope"
    oauth_error = "unauthorized_client"
    title = "This client may not use that grant_type"


class GrantRefused(Refusal):
    """The code or refresh token is unknown, used, too old, revoked, or somebody else's."""

    code, outcome = "grant_refused", "consent"
    oauth_error = "invalid_grant"
    title = "The code or refresh token is not accepted"


class RequestUnknown(Refusal):
    """No such pushed request for this client, or its time is over, or it was completed."""

    code, outcome = "request_uri_unknown", "schema"
    oauth_error = "invalid_request_uri"
    title = "This authorization is not open any more; start again at the partner's"


class RequestNotPushed(Refusal):
    """The browser came with parameters of its own, or with none."""

    code, outcome = "request_not_pushed", "schema"
    title = "Push it first: this address takes the client_id and the request_uri that POST /oauth/par gave"


class ClientThrottled(Refusal):
    """The client asks more often than its policy says."""

    status, code, outcome = 429, "client_throttled", "rate_limited"
    oauth_error, oauth_status = "temporarily_unavailable", 429
    title = "Too many requests for your policy's rate"

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Try again in {seconds} s", headers=(("retry-after", str(seconds)),))


class FormForged(Refusal):
    """The form does not come from the page that this browser was shown."""

    status, code, outcome = 403, "form_forged", "auth_invalid"
    title = "This page is out of date; go back to the partner and start again"


class TooManyLogins(Refusal):
    """Too many wrong passcodes, for one authorization or under one name."""

    status, code, outcome = 429, "too_many_logins", "rate_limited"
    title = "Too many tries; go back to the partner and start again"

    @classmethod
    def for_now(cls, seconds: int) -> "TooManyLogins":
        return cls(f"Too many tries. Try again in {seconds} s", headers=(("retry-after", str(seconds)),))


class PayeeNotConfirmed(Refusal):
    """The bank has no holder registered for the partner's account: nobody is asked to pay to whom nobody knows."""

    status, code, outcome = 409, "payee_not_confirmed", "bank_error"
    title = "The bank cannot confirm who would be paid; talk to the partner"


class BankUnreachable(Refusal):
    """The bank's own systems do not answer."""

    status, code, outcome = 503, "bank_unreachable", "bank_error"
    oauth_error, oauth_status, retry_after_s = "temporarily_unavailable", 503, 5  # as an absent core bank
    title = "The bank's systems do not answer; try again in a moment"
