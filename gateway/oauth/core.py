"""Authlib's token endpoint on rows that are already loaded: no I/O, it decides and says what is to be issued.

Authlib is synchronous; our I/O is not. So the endpoint loads what a grant needs, asks this core, and writes what came
out, all in one transaction. The client is authenticated before (steps.py), signing is the keyring's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import AuthorizationServer, ClientMixin
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload

from gateway.consents.consent import Consent
from gateway.consents.store import CustomerGrant
from gateway.ids import new_id
from gateway.oauth import store
from gateway.oauth.asking import Asking
from gateway.oauth.authorization_request import DETAIL_TYPES
from gateway.oauth.refusals import GrantRefused, GrantTypeNotOpen, GrantTypeRefused, RequestInvalid, ScopeRefused
from gateway.oauth.tokens import ACCESS_TOKEN_LIFETIME_S, Signer, TokenContent, mint_access_token
from gateway.partners.partner import App
from gateway.refusal import Refusal

_REFUSALS: Mapping[str, type[Refusal]] = {
    "invalid_request": RequestInvalid,
    "invalid_grant": GrantRefused,
    "invalid_scope": ScopeRefused,
    "unauthorized_client": GrantTypeNotOpen,
    "unsupported_grant_type": GrantTypeRefused,
}


@dataclass(frozen=True, slots=True)
class Rows:
    """What a grant loaded for its decision. Empty where nothing fits what the client showed."""

    grant: CustomerGrant | None = None
    consent: Consent | None = None
    code: store.Code | None = None


@dataclass(frozen=True, slots=True)
class Issued:
    """What the core decided: the answer's members, and what the endpoint has to write. Secrets stay out of the repr,
    as Authlib writes it to its debug log."""

    answer: Mapping[str, Any] = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)


class Client(ClientMixin):  # type: ignore[misc]
    """Our app, in the words that Authlib asks in."""

    def __init__(self, app: App) -> None:
        self.app = app

    def get_client_id(self) -> str:
        return self.app.client_id

    def check_grant_type(self, grant_type: str) -> bool:
        """An app without an address to come back to acts for nobody but itself."""
        return grant_type == "client_credentials" or bool(self.app.redirect_uris)


@dataclass(slots=True)
class LoadedRequest:
    """One token request, in the words that Authlib asks in; the last five are filled by its grants."""

    asking: Asking
    rows: Rows
    method: str = "POST"
    payload: BasicOAuth2Payload = field(init=False)
    client: Client | None = None
    user: str | None = None
    authorization_code: Any = None
    refresh_token: Any = None
    auth_method: str = "private_key_jwt"

    def __post_init__(self) -> None:
        self.payload = BasicOAuth2Payload(self.asking.form)

    @property
    def form(self) -> Mapping[str, str]:
        return self.asking.form


class OnLoadedRows:
    """Mixed into Authlib's grants: the client is authenticated already, and tokens are ours."""

    request: LoadedRequest
    server: "TokenCore"

    @property
    def rows(self) -> Rows:
        return self.request.rows

    def authenticate_token_endpoint_client(self) -> Client:
        return Client(self.request.asking.app)

    def generate_token(
        self, user: str | None = None, scope: str | None = None, *, include_refresh_token: bool = True, **_: Any
    ) -> Issued:
        assert scope, "a grant resolves the scope before it issues"
        return self.server.issue(self.request, subject=user, scopes=frozenset(scope.split()),
                                 refresh=include_refresh_token)  # fmt: skip

    def save_token(self, issued: Issued) -> None:
        """The endpoint writes what was issued."""


class TokenCore(AuthorizationServer):  # type: ignore[misc]
    """One instance a worker; it holds no request."""

    def __init__(self, signer: Signer, *, issuer: str, grants: tuple[tuple[type, list[Any]], ...]) -> None:
        super().__init__()
        self._signer = signer
        self._issuer = issuer
        for grant, extensions in grants:
            self.register_grant(grant, extensions)

    def decide(self, asking: Asking, rows: Rows) -> Issued:
        """Raises the Refusal that fits Authlib's error."""
        issued: Issued = self.create_token_response(LoadedRequest(asking, rows))
        return issued

    def issue(self, request: LoadedRequest, *, subject: str | None, scopes: frozenset[str], refresh: bool) -> Issued:
        """Mint the access token. `subject` None: the app itself."""
        asking, rows = request.asking, request.rows
        content = TokenContent(
            client_id=asking.app.client_id,
            subject=subject or client_subject(asking.app.client_id),
            scopes=scopes,
            grant_id=rows.grant.grant_id if rows.grant else new_id("grt"),
            cnf=asking.bound_to.cnf,
            auth_key=asking.authenticated.kid,
            consent_id=rows.grant.consent_id if rows.grant else None,
        )
        token = mint_access_token(self._signer, content, issuer=self._issuer, audience=self._issuer, now_s=asking.now_s)
        refresh_token = store.new_secret() if refresh else None
        answer = {
            "access_token": token,
            "token_type": asking.bound_to.token_type,
            "expires_in": ACCESS_TOKEN_LIFETIME_S,
            "scope": " ".join(sorted(scopes)),
        }
        if refresh_token is not None:
            answer["refresh_token"] = refresh_token
        if rows.consent is not None:
            answer["authorization_details"] = details_of(rows.consent)
        return Issued(answer, refresh_token)

    # --- the seams that Authlib leaves to the house --------------------------------------------------------------
    def create_oauth2_request(self, request: LoadedRequest) -> LoadedRequest:
        return request

    def handle_response(self, status: int, body: Issued, headers: Any) -> Issued:
        return body

    def handle_error_response(self, request: LoadedRequest, error: OAuth2Error) -> Issued:
        raise _REFUSALS[error.error](error.description or "")

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""


def client_subject(client_id: str) -> str:
    """The subject of an app's own token: a customer's id has no colon, so the two never meet (FAPI 2.0 §5.3.2.1)."""
    return f"client:{client_id}"


def details_of(consent: Consent) -> list[dict[str, str]]:
    """RFC 9396 §7: what the token stands for."""
    kind = next(name for name, kind in DETAIL_TYPES.items() if kind is consent.kind)
    return [{"type": kind, "consent_id": consent.consent_id}]
