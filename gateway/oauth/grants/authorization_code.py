"""A code for tokens (RFC 6749 §4.1.3): once, within a minute, by the client, address, verifier and key it is for."""

from typing import Any

from authlib.oauth2.rfc6749.errors import InvalidGrantError, InvalidRequestError
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant
from authlib.oauth2.rfc7636 import CodeChallenge

from gateway.consents import store as consents
from gateway.database import Connection
from gateway.oauth import store
from gateway.oauth.asking import Asking, allowed_scopes
from gateway.oauth.core import Client, Issued, OnLoadedRows, Rows
from gateway.oauth.refusals import GrantRefused


async def load(conn: Connection, asking: Asking) -> Rows:
    """The code's row, held, and what it stands for. A code that its client shows a second time revokes what the first
    use gave; in the hands of another client it is nothing, and takes nothing away."""
    code = await store.lock_code(conn, store.digest_of(asking.required("code")))
    if code is None:
        return Rows()
    grant = await consents.find_grant(conn, code.grant_id)
    assert grant is not None, "the code's foreign key"
    if grant.client_id != asking.app.client_id:
        return Rows()
    if code.used_ms is not None:
        await consents.revoke_grant(conn, code.grant_id, now_ms=asking.now_ms)
        raise GrantRefused("This code was used before; what it gave has been revoked")
    return Rows(grant, await consents.find(conn, grant.consent_id), code)


async def keep(conn: Connection, asking: Asking, *, rows: Rows, issued: Issued) -> None:
    assert rows.code is not None
    assert issued.refresh_token is not None
    await store.use_code(conn, rows.code.digest, now_ms=asking.now_ms)
    digest = store.digest_of(issued.refresh_token)
    await store.insert_refresh_token(conn, digest, grant_id=rows.code.grant_id, now_ms=asking.now_ms)


class LoadedCode:
    """The code and its grant, in the words that Authlib asks in."""

    code_challenge_method = "S256"

    def __init__(self, rows: Rows) -> None:
        assert rows.code is not None
        assert rows.grant is not None
        self.rows = rows
        self.code_challenge = rows.code.challenge
        self.customer_id = rows.grant.customer_id
        self._redirect_uri = rows.code.redirect_uri
        self._scopes = rows.grant.scopes

    def get_redirect_uri(self) -> str:
        return self._redirect_uri

    def get_scope(self) -> str:
        return " ".join(self._scopes)


class S256Only(CodeChallenge):  # type: ignore[misc]
    """RFC 7636 with S256 alone; every failure is invalid_grant, a missing verifier too (FAPI 2.0 conformance)."""

    DEFAULT_CODE_CHALLENGE_METHOD = "S256"
    SUPPORTED_CODE_CHALLENGE_METHOD = ["S256"]

    def validate_code_verifier(self, grant: Any, result: Any) -> None:
        try:
            super().validate_code_verifier(grant, result)
        except InvalidRequestError as error:
            raise InvalidGrantError(error.description) from None


EXTENSIONS: list[Any] = [S256Only()]


class CoreGrant(OnLoadedRows, AuthorizationCodeGrant):  # type: ignore[misc]
    """Authlib's grant: client, redirect_uri and verifier; and what it lacks: time, DPoP key, consent, revocation."""

    def query_authorization_code(self, code: str, client: Client) -> LoadedCode | None:
        row, grant = self.rows.code, self.rows.grant
        if row is None or grant is None or grant.client_id != client.get_client_id():
            return None
        asking = self.request.asking
        if row.expires_ms <= asking.now_ms or grant.revoked_ms is not None:
            return None
        if row.jkt is not None and row.jkt != asking.bound_to.jkt:
            raise InvalidGrantError("The code is bound to another DPoP key than the proof's (RFC 9449 section 10)")
        return LoadedCode(self.rows)

    def authenticate_user(self, authorization_code: LoadedCode) -> str:
        """The customer, whose consent is looked at once more before anything is issued."""
        return check_customer(self.rows, self.request.asking)

    def delete_authorization_code(self, authorization_code: LoadedCode) -> None:
        """`keep` marks it as used; the row stays, so that a second use is seen."""


def check_customer(rows: Rows, asking: Asking) -> str:
    """The customer behind the grant, whose consent is in force, and whose scopes the client still has."""
    assert rows.grant is not None
    assert rows.consent is not None
    rows.consent.check_in_force(asking.now_ms)
    if not rows.grant.scopes <= allowed_scopes(asking.app, asking.snapshot):
        raise GrantRefused("The scope of this grant is not open to the client any more")
    return rows.grant.customer_id
