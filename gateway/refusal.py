"""The one way to say no: a rule raises a Refusal, `problem.py` renders it once, at the edge, per protocol."""

from typing import ClassVar


class Refusal(Exception):
    """A request that a rule turned down. Subclasses stand beside their rule and are named as the broken rule.

    `detail` is written for the partner: it says what to do and never holds secrets, SQL or customer data.
    `path` names the member at fault (`$.Data.Amount`), where there is one.
    """

    status: ClassVar[int] = 400
    code: ClassVar[str] = "refused"  # stable: documentation, metrics, audit and answers share it
    ob_code: ClassVar[str] = "U000"  # the four characters of OBError1.ErrorCode
    ob_status: ClassVar[int | None] = None  # where Open Banking answers with another status than our own APIs
    oauth_error: ClassVar[str] = "invalid_request"  # RFC 6749 §5.2, RFC 6750 §3.1, RFC 9449 §7
    oauth_status: ClassVar[int] = 400  # at the authorization server's own endpoints
    title: ClassVar[str] = "The request was refused"
    retry_after_s: ClassVar[int | None] = None  # what every 503 says: when to come again
    outcome: ClassVar[str] = "refused"  # closed set: the `outcome` label of parasol_requests_total
    challenge: ClassVar[str] = "DPoP"  # the scheme that a 401 asks for
    partner_id: str = ""  # whom it was said to, where that is known before the caller is admitted: for metrics alone

    def __init__(self, detail: str = "", *, path: str = "", headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.path = path
        self.headers = headers if self.retry_after_s is None else (("retry-after", str(self.retry_after_s)), *headers)


class BodyMalformed(Refusal):
    """The body is not the JSON that the contract asks for."""

    code, ob_code, outcome = "body_malformed", "U002", "schema"
    title = "The body does not fit the contract"


class UnknownResource(Refusal):
    """No such object for this partner. Own APIs answer 404; Open Banking answers 400 U011."""

    status, ob_status = 404, 400
    code, ob_code, outcome = "unknown_resource", "U011", "unknown"
    title = "There is no such resource"


class ForeignResource(Refusal):
    """The object exists and belongs to somebody else."""

    status = 403
    code, ob_code, outcome = "foreign_resource", "D002", "consent"
    title = "The resource belongs to another partner"


class StateConflict(Refusal):
    """The object is in a state that does not allow the step."""

    status = 409
    code, ob_code, outcome = "state_conflict", "U029", "conflict"
    title = "The resource is not in a state that allows this"
