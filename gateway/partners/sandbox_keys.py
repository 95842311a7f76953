"""Sandbox only: demo partners' private keys, made at the first start and written where any client can pick them up.

A production partner makes its own keys and registers the public halves. Here HOME/sandbox/<partner-id>.json holds
both halves and is the truth: after a restart, or over a new database, the same keys are registered again.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from joserfc.jwk import ECKey, Key, RSAKey
from msgspec import Struct

from gateway import audit
from gateway.database import Connection, Database
from gateway.database.changes import announce
from gateway.partners import store
from gateway.partners.credential_file import read_credentials, write_credentials
from gateway.partners.partner import App, Partner
from gateway.partners.public_key import RSA_BITS, check_public_key
from gateway.partners.snapshot import SnapshotKeeper
from gateway.refusal import BodyMalformed

FOLDER = "sandbox"  # under HOME
_PRIVATE = frozenset(("d", "p", "q", "dp", "dq", "qi"))


class Credentials(Struct, frozen=True, forbid_unknown_fields=True):
    """The file: all that a client needs to start. repr shows no key."""

    issuer: str
    client_id: str
    private_jwks: dict[str, list[dict[str, Any]]]
    redirect_uris: list[str]
    scopes: list[str]

    def __repr__(self) -> str:
        return f"Credentials({self.client_id})"


async def ensure_sandbox_keys(database: Database, home: Path, *, issuer: str, now_ms: int) -> list[Path]:
    """Credentials of every app of every applied partner; safe to run again. Returns the files."""
    keeper = SnapshotKeeper(database)
    await keeper.load()
    files = []
    for partner in keeper.current.partners.values():
        for app in partner.apps:
            path = home / FOLDER / _file_name(partner, app)
            credentials = _credentials(path, app, issuer=issuer)
            keys = credentials.private_jwks["keys"]
            if not {key["kid"] for key in keys} <= {key.kid for key in app.keys}:
                async with database.transaction() as conn:
                    await _register(conn, app.client_id, keys, now_ms=now_ms)
            files.append(path)
    return files


def known_issuer(home: Path) -> str | None:
    """Where the sandbox of that home said last that it is reached; None: it has no partner's credentials yet."""
    for path in sorted((home / FOLDER).glob("*.json")):
        with suppress(BodyMalformed):  # the operators' file
            if (credentials := read_credentials(path, Credentials)) is not None:
                return credentials.issuer
    return None


def _file_name(partner: Partner, app: App) -> str:
    """The partner's first app has the partner's name; others add theirs."""
    return f"{partner.partner_id}.json" if app is partner.apps[0] else f"{partner.partner_id}.{app.client_id}.json"


def _credentials(path: Path, app: App, *, issuer: str) -> Credentials:
    """Those of the file with today's issuer and terms, or new ones."""
    before = read_credentials(path, Credentials)
    kept = before is not None and before.client_id == app.client_id
    wanted = Credentials(
        issuer=issuer,
        client_id=app.client_id,
        private_jwks=before.private_jwks if before is not None and kept else {"keys": _new_keys()},
        redirect_uris=list(app.redirect_uris),
        scopes=sorted(app.scopes),
    )
    if wanted != before:
        write_credentials(path, wanted)
    return wanted


def _new_keys() -> list[dict[str, Any]]:
    """ES256 for client assertions and DPoP proofs, PS256 for the signatures of messages."""
    return [
        _private_jwk(ECKey.generate_key("P-256"), "ES256"),
        _private_jwk(RSAKey.generate_key(RSA_BITS), "PS256"),
    ]


def _private_jwk(key: Key, alg: str) -> dict[str, Any]:
    return {**key.as_dict(private=True), "kid": key.thumbprint(), "use": "sig", "alg": alg}


async def _register(conn: Connection, client_id: str, keys: list[dict[str, Any]], *, now_ms: int) -> None:
    """The public halves verify from now on; a key that was revoked stays so."""
    for key in keys:
        public: Mapping[str, Any] = {name: value for name, value in key.items() if name not in _PRIVATE}
        check_public_key(public)
        if await store.register_key(conn, client_id, public, now_ms=now_ms):
            await audit.record(
                conn, actor="sandbox", action="app_key.register", subject=client_id,
                detail={"kid": public["kid"], "alg": public["alg"]}, now_ms=now_ms,
            )  # fmt: skip
            await announce(conn, "app_key", client_id, now_ms=now_ms)
