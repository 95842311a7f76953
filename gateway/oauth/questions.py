"""Introspection (RFC 7662) and revocation (RFC 7009): only the client that a token was given to may ask."""

from dataclasses import dataclass
from typing import Any

from gateway.consents import store as consents
from gateway.consents.consent import ConsentStatus
from gateway.consents.store import CustomerGrant
from gateway.database import Connection
from gateway.oauth import store
from gateway.oauth.asking import Asking
from gateway.oauth.refusals import GrantRefused
from gateway.oauth.tokens import AccessTokenInvalid, PublicKeys, VerifiedToken, verify_access_token

INACTIVE: dict[str, Any] = {"active": False}


@dataclass(frozen=True, slots=True)
class Found:
    """What a token turned out to be: an access token, a refresh token with its grant, or nothing of ours."""

    access: VerifiedToken | None = None
    grant: CustomerGrant | None = None

    @property
    def client_id(self) -> str | None:
        if self.access is not None:
            return self.access.client_id
        return self.grant.client_id if self.grant is not None else None

    @property
    def grant_id(self) -> str | None:
        if self.access is not None:
            return self.access.grant_id
        return self.grant.grant_id if self.grant is not None else None


async def find_token(conn: Connection, text: str, *, keys: PublicKeys, issuer: str) -> Found:
    """A hint of the client's is not needed: the two kinds do not look alike."""
    if "." in text:
        try:
            access = verify_access_token(text, keys=keys, issuer=issuer, audience=issuer)
        except AccessTokenInvalid:
            return Found()
        return Found(access, await consents.find_grant(conn, access.grant_id))
    grant_id = await store.grant_of_refresh_token(conn, store.digest_of(text))
    return Found(None, await consents.find_grant(conn, grant_id)) if grant_id is not None else Found()


async def revoke(conn: Connection, asking: Asking, *, keys: PublicKeys) -> None:
    """The whole grant: its codes, refresh token and access tokens. Unknown tokens are no error (RFC 7009 §2.2)."""
    found = await find_token(conn, asking.required("token"), keys=keys, issuer=asking.issuer)
    if found.grant_id is None:
        return
    if found.client_id != asking.app.client_id:
        raise GrantRefused("This token was not given to this client")
    await consents.revoke_grant(conn, found.grant_id, now_ms=asking.now_ms)


async def introspect(conn: Connection, asking: Asking, *, keys: PublicKeys) -> dict[str, Any]:
    """What the token stands for now; of anybody else's token only that it is not active."""
    found = await find_token(conn, asking.required("token"), keys=keys, issuer=asking.issuer)
    if found.client_id != asking.app.client_id or found.grant_id is None:
        return INACTIVE
    if await consents.is_revoked(conn, found.grant_id) or not await _consent_in_force(conn, asking, found):
        return INACTIVE
    if found.access is None:
        assert found.grant is not None
        return _members(asking, scopes=found.grant.scopes, subject=found.grant.customer_id)
    token = found.access
    cnf = {"jkt": token.jkt} if token.jkt is not None else {"x5t#S256": token.x5t_s256}
    return {
        **_members(asking, scopes=token.scopes, subject=token.subject),
        "token_type": "DPoP" if token.jkt is not None else "Bearer",
        "aud": asking.issuer,
        "exp": token.expires_s,
        "cnf": cnf,
    }


async def _consent_in_force(conn: Connection, asking: Asking, found: Found) -> bool:
    if found.grant is None:
        return True
    consent = await consents.find(conn, found.grant.consent_id)
    return consent is not None and consent.status_at(asking.now_ms) is ConsentStatus.AUTHORISED


def _members(asking: Asking, *, scopes: frozenset[str], subject: str) -> dict[str, Any]:
    return {
        "active": True,
        "iss": asking.issuer,
        "client_id": asking.app.client_id,
        "sub": subject,
        "scope": " ".join(sorted(scopes)),
    }
