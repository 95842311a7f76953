"""What the front door says no to, each named as the broken rule."""

from gateway.refusal import Refusal


class CredentialMissing(Refusal):
    """No usable Authorization header."""

    status, code, ob_code, outcome = 401, "credential_missing", "U007", "auth_invalid"
    oauth_error = "invalid_token"
    title = "Send an access token in the Authorization header, with the scheme DPoP"


class TokenNotAccepted(Refusal):
    """Not ours, damaged, expired, revoked, or for somebody else."""

    status, code, ob_code, outcome = 401, "token_not_accepted", "U006", "auth_invalid"
    oauth_error = "invalid_token"
    title = "The access token is not accepted"


class SenderNotProven(Refusal):
    """The token is bound to a key or certificate that the caller did not show."""

    status, code, ob_code, outcome = 401, "sender_not_proven", "U006", "auth_invalid"
    oauth_error = "invalid_token"
    title = "The token is bound to a key that this request does not prove"


class CertificateNotInForce(Refusal):
    """The client certificate's time is over, or has not come."""

    status, code, ob_code, outcome = 401, "certificate_not_in_force", "U006", "auth_invalid"
    oauth_error = "invalid_request"
    title = "The client certificate is not valid at this time"


class ProofReplayed(Refusal):
    """This DPoP proof has been used (RFC 9449 §11.1)."""

    status, code, ob_code, outcome = 401, "proof_replayed", "U006", "replay"
    oauth_error = "invalid_dpop_proof"
    title = "This DPoP proof was used before; make a new one for every request"


class PartnerNotActive(Refusal):
    """The bank has suspended or closed the partner."""

    status, code, ob_code, outcome = 403, "partner_not_active", "D004", "partner_state"
    title = "The bank has not opened its door to this partner at present"


class ScopeMissing(Refusal):
    """The token does not carry the operation's scope."""

    status, code, ob_code, outcome = 403, "insufficient_scope", "D005", "scope"
    oauth_error = "insufficient_scope"
    title = "The access token lacks the scope of this operation"


class TokenKindWrong(Refusal):
    """A customer's token where the partner's own is needed, or the other way round."""

    status, code, ob_code, outcome = 403, "token_kind", "D006", "scope"
    oauth_error = "insufficient_scope"
    title = "This operation takes another kind of token"


class CustomerTokenNeeded(Refusal):
    """The app's own token at an operation that acts for a customer (UK Open Banking 4.0.1: 401)."""

    status, code, ob_code, outcome = 401, "customer_token_needed", "U006", "scope"
    oauth_error = "invalid_token"
    title = "This operation takes a token of a customer's consent"


class TooManyRequests(Refusal):
    """Above the policy's rate; refused requests consume nothing."""

    status, code, ob_code, outcome = 429, "rate_limited", "D007", "rate_limited"
    title = "Too many requests for your policy's rate"


class AddressThrottled(Refusal):
    """This address asks, or is refused, more often than one address may."""

    status, code, ob_code, outcome = 429, "address_throttled", "D007", "rate_limited"
    oauth_error, oauth_status = "temporarily_unavailable", 429
    title = "Too many requests from this address; try again later"

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Try again in {seconds} s", headers=(("retry-after", str(seconds)),))


class BodyTooLarge(Refusal):
    """Above the operation's limit."""

    status, code, ob_code, outcome = 413, "body_too_large", "U010", "schema"
    ob_status = 400
    oauth_status = 413
    title = "The body is larger than this operation takes"


class TooManyFiles(Refusal):
    """A partner's files that arrive at once: each is kept in memory until it is whole."""

    status, code, ob_code, outcome = 429, "too_many_files", "D007", "rate_limited"
    retry_after_s = 5
    title = "Too many of your files arrive at once; send one after the other"


class BodyTooSlow(Refusal):
    """The body did not come in time, or others with fresher requests needed the place."""

    status, code, ob_code, outcome = 408, "body_too_slow", "U010", "schema"
    ob_status = 400
    oauth_status = 408
    title = "The body did not come in time; send it at once with the headers"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, headers=(("connection", "close"),))


class QueryMalformed(Refusal):
    """A query field that is unknown or has no such value."""

    code, ob_code, outcome = "query_malformed", "U002", "schema"
    title = "The query is malformed"


class BodyIncomplete(Refusal):
    """The caller hung up while sending."""

    code, ob_code, outcome = "body_incomplete", "U010", "schema"
    title = "The connection ended before the body did"


class ContentTypeWrong(Refusal):
    """The Content-Type is not the operation's."""

    status, code, ob_code, outcome = 415, "content_type", "U006", "schema"
    title = "The Content-Type is not what this operation takes"


class NotAcceptable(Refusal):
    """The Accept header leaves out what the operation gives."""

    status, code, ob_code, outcome = 406, "not_acceptable", "U006", "schema"
    title = "This operation does not answer in a type that you accept"


class HeaderInvalid(Refusal):
    """A header that is missing, repeated, or malformed."""

    code, ob_code, outcome = "header_invalid", "U006", "schema"
    title = "A header is not usable"


class IdempotencyKeyMissing(Refusal):
    """Every operation that has an effect needs a key, so that a retry is safe."""

    code, ob_code, outcome = "idempotency_key_missing", "U007", "schema"
    title = "Send x-idempotency-key (1 to 40 characters), the same one when you retry"


class OperatorNotAccepted(Refusal):
    """No such operator key, or it has been withdrawn."""

    status, code, outcome = 401, "operator_not_accepted", "auth_invalid"
    oauth_error, challenge = "invalid_token", "Bearer"
    title = "The operator key is not accepted"
