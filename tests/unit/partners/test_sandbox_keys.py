"""Sandbox credentials: everything a client needs, for its owner's eyes only, the same after a restart."""

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import jwt
import pytest

from gateway.database import Database
from gateway.partners.apply import apply
from gateway.partners.partner import KeyState
from gateway.partners.sandbox_keys import Credentials, ensure_sandbox_keys
from gateway.partners.snapshot import SnapshotKeeper
from gateway.provision import apply_to, provision
from tests.conftest import ROOT, settings_for

NOW = 1_760_000_000_000
ISSUER = "http://gateway.test"


@pytest.fixture
async def applied(bare_database: Database, agreed: Any, operations: Any) -> Database:
    await apply(bare_database, agreed.root, operations, actor="tester", reason="test", now_ms=NOW)
    return bare_database


async def _ensure(database: Database, home: Path, issuer: str = ISSUER) -> dict[str, Any]:
    files = await ensure_sandbox_keys(database, home, issuer=issuer, now_ms=NOW)
    assert files == [home / "sandbox" / "metro.json"]
    found: dict[str, Any] = json.loads(files[0].read_bytes())
    return found


async def test_the_file_holds_exactly_what_a_client_needs(applied: Database, tmp_path: Path) -> None:
    credentials = await _ensure(applied, tmp_path)
    assert list(credentials) == ["issuer", "client_id", "private_jwks", "redirect_uris", "scopes"]
    assert (credentials["issuer"], credentials["client_id"]) == (ISSUER, "metro-server")
    assert credentials["scopes"] == ["discounts"]
    assert credentials["redirect_uris"] == ["https://metro.example/callback"]
    assert [key["alg"] for key in credentials["private_jwks"]["keys"]] == ["ES256", "PS256"]


async def test_only_its_owner_can_read_it(applied: Database, tmp_path: Path) -> None:
    await _ensure(applied, tmp_path)
    assert stat.S_IMODE((tmp_path / "sandbox" / "metro.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "sandbox").stat().st_mode) == 0o700


async def test_what_the_private_keys_sign_the_registered_ones_verify(applied: Database, tmp_path: Path) -> None:
    credentials = await _ensure(applied, tmp_path)
    keeper = SnapshotKeeper(applied)
    await keeper.load()
    app = keeper.current.apps["metro-server"]
    for jwk in credentials["private_jwks"]["keys"]:
        signed = jwt.encode({"sub": "x"}, jwt.PyJWK(jwk).key, algorithm=jwk["alg"])
        registered = app.verifying_key(jwk["kid"])
        assert registered is not None
        assert not {"d", "p", "q"} & registered.jwk.keys()
        assert registered.thumbprint == jwk["kid"]
        assert jwt.decode(signed, jwt.PyJWK(dict(registered.jwk)).key, algorithms=[jwk["alg"]]) == {"sub": "x"}


async def test_a_restart_changes_nothing(applied: Database, tmp_path: Path) -> None:
    first = await _ensure(applied, tmp_path)
    assert await _ensure(applied, tmp_path) == first
    async with applied.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM app_key") == 2
        assert await conn.fetchval("SELECT count(*) FROM audit WHERE action = 'app_key.register'") == 2


async def test_another_address_keeps_the_keys(applied: Database, tmp_path: Path) -> None:
    first = await _ensure(applied, tmp_path)
    moved = await _ensure(applied, tmp_path, issuer="http://127.0.0.1:9999")
    assert moved == {**first, "issuer": "http://127.0.0.1:9999"}


async def test_a_lost_file_is_made_anew_beside_the_old_keys(applied: Database, tmp_path: Path) -> None:
    first = await _ensure(applied, tmp_path)
    (tmp_path / "sandbox" / "metro.json").unlink()
    second = await _ensure(applied, tmp_path)
    assert second["private_jwks"] != first["private_jwks"]


async def test_a_revoked_key_stays_revoked(applied: Database, tmp_path: Path) -> None:
    credentials = await _ensure(applied, tmp_path)
    kid = credentials["private_jwks"]["keys"][0]["kid"]
    async with applied.connection() as conn:
        await conn.execute("UPDATE app_key SET state = 'revoked' WHERE kid = $1", kid)
    await _ensure(applied, tmp_path)
    keeper = SnapshotKeeper(applied)
    await keeper.load()
    app = keeper.current.apps["metro-server"]
    assert app.verifying_key(kid) is None
    assert [key.state for key in app.keys if key.kid == kid] == [KeyState.REVOKED]


def test_printing_credentials_shows_no_key() -> None:
    credentials = Credentials(ISSUER, "metro-server", {"keys": [{"d": "secret"}]}, [], [])
    assert "secret" not in repr(credentials)


async def test_a_partner_applied_to_a_running_sandbox_gets_keys_at_once_and_stays(
    database: Database, database_url: str, home: Path, tmp_path: Path
) -> None:
    for name in ("partners", "policies"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shop = (ROOT / "partners/shopco/partner.toml").read_text().replace("shopco", "tramco")
    (tmp_path / "partners/tramco").mkdir()
    (tmp_path / "partners/tramco/partner.toml").write_text(shop)
    settings = settings_for(home, database_url)
    await apply_to(database, tmp_path, settings, remove=False, actor="test", reason="a partner more")
    credentials = json.loads((home / "sandbox/tramco.json").read_text())
    assert credentials["issuer"] == settings.issuer
    await provision(settings)  # a restart, whose own folder does not have it
    keeper = SnapshotKeeper(database)
    await keeper.load()
    app = keeper.current.apps[credentials["client_id"]]
    assert {key["kid"] for key in credentials["private_jwks"]["keys"]} <= {key.kid for key in app.keys}
    (home / "sandbox/tramco.json").unlink()  # the home is that of all tests
