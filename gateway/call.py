"""What admission hands to a capability: a Call that has passed every check; and the Answer that comes back."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any

import msgspec

from gateway import audit
from gateway.database import Connection
from gateway.database.idempotency import KeyedRequest
from gateway.partners.partner import App, Partner
from gateway.policies.policy import Policy

# Why a person decides so: it stands in the audit trail. Not blank: that would be no reason.
Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=300, pattern=r"\S")]


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """What a person says who decides something that needs no other word."""

    reason: Reason


JSON_BODY_LIMIT = 64 * 1024  # bytes; the largest body of the contract, a VRP with full remittance data, is below 8 KiB
DEADLINE_S = 10.0  # of a request whose row says nothing else; a partner's own client rarely waits longer
BANK_DEADLINE_S = 30.0  # the core bank has 20 s to answer about money: "pending" in the end is better than nothing


class Protocol(StrEnum):
    """Whose manners an operation has: how it names itself, its errors and its identifiers."""

    OWN = "own"  # /partner/v1: problem+json (RFC 9457)
    OB = "open-banking"  # UK Open Banking 4.0.1: OBErrorResponse1
    OAUTH = "oauth"  # RFC 6749 §5.2 JSON
    OPS = "ops"  # the bank's operators: problem+json, operator credentials, four eyes
    PAGE = "page"  # HTML for people

    @classmethod
    def of_path(cls, path: str) -> "Protocol":
        """Whose manners an unknown path is refused in."""
        if path.startswith("/open-banking/"):
            return cls.OB
        is_page = path == "/" or path.startswith(("/console", "/portal", "/consents", "/language", "/r/"))
        return cls.PAGE if is_page else cls.OWN


class TokenKind(StrEnum):
    """Which token an operation takes."""

    NONE = "none"
    CLIENT = "client"  # client_credentials: the partner for its own affairs
    CUSTOMER = "customer"  # authorization_code: bound to a consent of a customer
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the operation table. `path` has `{Name}` segments; `body` is the shape the JSON is decoded into.

    `raw_body` hands a File over instead; `signed=True` asks for x-jws-signature and signs the answer.
    """

    id: str
    method: str
    path: str
    endpoint: Callable[..., Awaitable["Answer"]]  # of `room`; takes a Call, an OpsCall or an OpenCall, by `token`
    room: type
    protocol: Protocol
    token: TokenKind
    scope: str = ""
    body: Any = None
    idempotent: bool = False
    signed: bool = False
    raw_body: str = ""  # the media type of a file body, e.g. text/csv
    answers: str = "application/json"  # the media type of a yes
    level: str = "A1"  # JR/T 0185: A1 product information, A2 money or account data
    body_limit: int = JSON_BODY_LIMIT
    deadline_s: float = DEADLINE_S  # from the body's last byte (a file's: from its first) to the answer's first
    throttle: str = ""  # the rule of admission/addresses.py, where nobody has been recognised yet
    query: tuple[str, ...] = ()  # fields that the query may hold; see `strict_query`
    before_body: Callable[..., Awaitable[bool]] | None = None  # of `room`, before a file is read: is it to be kept?

    @property
    def for_operators(self) -> bool:
        """The bank's own people, by key or on the console's pages."""
        return self.token is TokenKind.OPERATOR or self.path.startswith("/console")

    @property
    def is_repeatable(self) -> bool:
        """Run twice it does what it does once: it only reads, or its effect has a key."""
        return self.idempotent or self.method == "GET"

    @property
    def strict_query(self) -> bool:
        """Our own APIs refuse a field that nobody reads; OAuth and pages ignore it, as their standards say."""
        return self.protocol in (Protocol.OWN, Protocol.OPS) and self.token is not TokenKind.NONE


@dataclass(frozen=True, slots=True)
class File:
    """A file that was sent as a body. `content` is empty where it was only to be compared with one that is here."""

    content: bytes
    sha256: bytes

    @classmethod
    def of(cls, content: bytes) -> "File":
        return cls(content, sha256(content).digest())


@dataclass(frozen=True, slots=True)
class Grant:
    """What the token stands for. `subject` is the customer, or the client itself; every code and token has the id."""

    grant_id: str
    client_id: str
    scopes: frozenset[str]
    subject: str
    consent_id: str | None


@dataclass(frozen=True, slots=True)
class Call:
    """An admitted request. Endpoints read it; nothing in it needs checking again, except whose object is asked for."""

    operation: Operation
    now_ms: int
    interaction_id: str
    partner: Partner
    app: App
    policy: Policy
    grant: Grant
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]  # lower-case names
    body: Any
    raw_body: bytes
    idempotency_key: str | None
    request_hash: bytes  # over method, path and body: what an idempotency key stands for

    @property
    def keyed(self) -> KeyedRequest:
        """The request by its idempotency key."""
        assert self.idempotency_key is not None, "the operation is marked idempotent"
        return KeyedRequest(self.partner.partner_id, self.operation.id, self.idempotency_key, self.request_hash)

    @property
    def consent_id(self) -> str:
        """The consent that a customer's token is bound to."""
        assert self.grant.consent_id is not None, "only operations with a customer token ask"
        return self.grant.consent_id


@dataclass(frozen=True, slots=True)
class Streamed:
    """A body of `size` bytes that is made as it is sent: a step is asked for when the last one has been taken."""

    size: int
    chunks: AsyncGenerator[bytes, None]


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back. `payload` is encoded as JSON unless it is bytes already, or Streamed (which is never signed)."""

    status: int
    payload: Any = None
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"


def enveloped(status: int, data: Any, *, address: str) -> Answer:
    """An answer in the manner of UK Open Banking: Data, Links, Meta. `address` is absolute."""
    return Answer(status, {"Data": data, "Links": {"Self": address}, "Meta": {}})


@dataclass(frozen=True, slots=True)
class Operator:
    """A person of bank operations; `role` is maker or checker, and nobody checks what they made."""

    operator_id: str
    name: str
    role: str


@dataclass(frozen=True, slots=True)
class OpsCall:
    """An admitted request of an operator."""

    operation: Operation
    now_ms: int
    interaction_id: str
    operator: Operator
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    raw_body: bytes = b""
    source: str = ""

    async def record(self, conn: Connection, *, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """Who did it (the trail itself adds from where), in the transaction of what was done."""
        await audit.record(
            conn, actor=self.operator.operator_id, action=action, subject=subject, detail=detail, now_ms=self.now_ms
        )


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A request that carries its own proof or needs none: OAuth endpoints, metadata, signed links, pages."""

    operation: Operation
    now_ms: int
    interaction_id: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    query_string: str
    headers: Mapping[str, str]
    repeated_headers: frozenset[str]  # single-valued headers that came more than once (DPoP: refused)
    raw_body: bytes
    name_partner: Callable[[str], None]  # says whose request it turned out to be, for metrics
    client_certificate: bytes | None = None  # DER, from the trusted proxy only
    cookies: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    is_head: bool = False  # somebody looks whether it is there (a preview, a scanner): nothing may come of it
