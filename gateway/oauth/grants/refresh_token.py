"""A new access token under the same grant (RFC 6749 §6).

The refresh token is not rotated and not bound to the DPoP key: a confidential client authenticates, and rotation loses
tokens on a dropped answer (FAPI 2.0 §5.3.2.1). A new key gives a token that is bound to the new key.
"""

from typing import Any

from authlib.oauth2.rfc6749.grants import RefreshTokenGrant

from gateway.consents import store as consents
from gateway.database import Connection
from gateway.oauth import store
from gateway.oauth.asking import Asking
from gateway.oauth.core import Client, Issued, OnLoadedRows, Rows
from gateway.oauth.grants.authorization_code import check_customer

EXTENSIONS: list[Any] = []


async def load(conn: Connection, asking: Asking) -> Rows:
    grant_id = await store.grant_of_refresh_token(conn, store.digest_of(asking.required("refresh_token")))
    grant = await consents.find_grant(conn, grant_id) if grant_id is not None else None
    if grant is None:
        return Rows()
    return Rows(grant, await consents.find(conn, grant.consent_id))


async def keep(conn: Connection, asking: Asking, *, rows: Rows, issued: Issued) -> None:
    """Nothing: the refresh token stays as it is."""


class LoadedRefreshToken:
    """The grant behind it, in the words that Authlib asks in."""

    def __init__(self, rows: Rows) -> None:
        assert rows.grant is not None
        self._grant = rows.grant

    def check_client(self, client: Client) -> bool:
        return self._grant.client_id == client.get_client_id()

    def get_scope(self) -> str:
        return " ".join(self._grant.scopes)


class CoreGrant(OnLoadedRows, RefreshTokenGrant):  # type: ignore[misc]
    """Authlib's grant: the client and a scope that may only narrow; and what it lacks: consent and revocation."""

    INCLUDE_NEW_REFRESH_TOKEN = False

    def authenticate_refresh_token(self, refresh_token: str) -> LoadedRefreshToken | None:
        grant = self.rows.grant
        return LoadedRefreshToken(self.rows) if grant is not None and grant.revoked_ms is None else None

    def authenticate_user(self, refresh_token: LoadedRefreshToken) -> str:
        return check_customer(self.rows, self.request.asking)

    def revoke_old_credential(self, refresh_token: LoadedRefreshToken) -> None:
        """Not rotated."""
