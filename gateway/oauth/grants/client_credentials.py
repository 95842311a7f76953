"""The app for its own affairs (RFC 6749 §4.4). No refresh token: it asks again."""

from typing import Any

from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant

from gateway.database import Connection
from gateway.oauth.asking import Asking, allowed_scopes
from gateway.oauth.core import Issued, OnLoadedRows, Rows
from gateway.oauth.refusals import ScopeRefused

EXTENSIONS: list[Any] = []


async def load(conn: Connection | None, asking: Asking) -> Rows:
    """The app is in the worker's snapshot; nothing is read. No scope asked for: all that the app has."""
    asking.scopes = asking.scopes or allowed_scopes(asking.app, asking.snapshot)
    if not asking.scopes:
        raise ScopeRefused("No scope is open to this client")
    return Rows()


async def keep(conn: Connection | None, asking: Asking, *, rows: Rows, issued: Issued) -> None:
    """Nothing: such a grant is as long as its one token, which lives five minutes."""


class CoreGrant(OnLoadedRows, ClientCredentialsGrant):  # type: ignore[misc]
    """Authlib's grant; the scope was checked by the steps and resolved by `load`."""

    def validate_requested_scope(self) -> None:
        """Done: see steps.check_scope."""

    def create_token_response(self) -> tuple[int, Issued, Any]:
        scope = " ".join(self.request.asking.scopes)
        return 200, self.generate_token(scope=scope, include_refresh_token=False), self.TOKEN_RESPONSE_HEADER
