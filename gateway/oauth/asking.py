"""One request at the authorization server, as the steps find it out; and how steps are walked."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from gateway.call import OpenCall
from gateway.consents.consent import ConsentKind
from gateway.oauth.assertion import Authenticated
from gateway.oauth.refusals import RequestInvalid
from gateway.partners.partner import App, Partner
from gateway.partners.snapshot import Snapshot
from gateway.policies.limits import Limiter

FORM_TYPE = "application/x-www-form-urlencoded"
FIELDS_LIMIT = 100  # form fields; the largest form is a consent page with 50 accounts


@dataclass(frozen=True, slots=True)
class Sender:
    """What a new token is bound to. Exactly one of the two is there (RFC 7800 `cnf`)."""

    jkt: str | None = None
    x5t_s256: str | None = None

    @property
    def cnf(self) -> Mapping[str, str]:
        return {"jkt": self.jkt} if self.jkt is not None else {"x5t#S256": self.x5t_s256 or ""}

    @property
    def token_type(self) -> str:
        """RFC 9449 §5; a certificate-bound token is a Bearer token (RFC 8705 §3)."""
        return "DPoP" if self.jkt is not None else "Bearer"


@dataclass(frozen=True, slots=True)
class Once:
    """Something that may be used once: the jti of an assertion ("assertion", client) or of a proof ("dpop", key)."""

    kind: str
    owner: str
    jti: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Details:
    """`authorization_details` (RFC 9396): one consent."""

    kind: ConsentKind
    consent_id: str


@dataclass(slots=True)
class Asking:
    """Filled by the steps, in their order; each names what it needs by reading it."""

    call: OpenCall
    issuer: str
    snapshot: Snapshot
    limiter: Limiter
    form: Mapping[str, str] = field(default_factory=dict)
    caller: Authenticated | None = None
    sender: Sender | None = None
    once: list[Once] = field(default_factory=list)
    scopes: frozenset[str] = frozenset()
    details: Details | None = None

    @property
    def now_ms(self) -> int:
        return self.call.now_ms

    @property
    def now_s(self) -> int:
        return self.call.now_ms // 1000

    @property
    def authenticated(self) -> Authenticated:
        assert self.caller is not None, "authenticate_client comes first in the list"
        return self.caller

    @property
    def app(self) -> App:
        return self.authenticated.app

    @property
    def partner(self) -> Partner:
        return self.snapshot.partners[self.app.partner_id]

    @property
    def bound_to(self) -> Sender:
        assert self.sender is not None, "require_sender comes first in the list"
        return self.sender

    def required(self, name: str) -> str:
        """The form's field. Raises RequestInvalid."""
        value = self.form.get(name)
        if value is None:
            raise RequestInvalid(f"{name} is missing")
        return value


Step = Callable[[Asking], None]


def walk(steps: Iterable[Step], asking: Asking) -> None:
    """Raises the Refusal of the first step that says no."""
    for step in steps:
        step(asking)


def allowed_scopes(app: App, snapshot: Snapshot) -> frozenset[str]:
    """What the app is registered for and the partner's policy opens. No policy: nothing."""
    policy = snapshot.policies.get(app.partner_id)
    return app.scopes & policy.scopes if policy is not None else frozenset()


def read_form(call: OpenCall) -> Mapping[str, str]:
    """RFC 6749 §3.2: a field comes once at most; one without a value counts as left out. Raises RequestInvalid."""
    if call.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM_TYPE:
        raise RequestInvalid(f"Send Content-Type: {FORM_TYPE}")
    try:
        pairs = parse_qsl(
            call.raw_body.decode("ascii"), keep_blank_values=True, max_num_fields=FIELDS_LIMIT, errors="strict"
        )
    except ValueError:
        raise RequestInvalid("The form is malformed") from None
    form = dict(pairs)
    if len(form) != len(pairs) or any("\0" in value for value in form.values()):
        raise RequestInvalid("A field of the form came more than once, or holds a NUL character")
    return {name: value for name, value in form.items() if value}
