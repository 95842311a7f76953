"""Keys of statements: a public set of their own, bound to their purpose, published for good."""

import json
import subprocess
import sys
import time

import pytest

from gateway.database import Database
from gateway.jsonio import canonical
from gateway.keyring import KeyMisused, Keyring
from gateway.oauth.tokens import AccessTokenInvalid, TokenContent, mint_access_token, verify_access_token
from gateway.provision import rotate_statement_key
from gateway.settings import Settings
from gateway.settlement.verify.pins import Unusable, read_jwks
from gateway.settlement.verify.proof import check_jws, read_key
from tests.conftest import World

CONTENT = TokenContent("parkco-app", None, frozenset(("settlement",)), None, {"jkt": "thumb"}, "kid-1", None)


async def keys_of(world: World, path: str) -> list[dict[str, str]]:
    answer = await world.http.get(path)
    assert answer.status_code == 200
    return list(answer.json()["keys"])


async def test_the_keys_of_statements_and_those_of_tokens_are_two_sets(world: World) -> None:
    statement = await keys_of(world, "/.well-known/statement-keys")
    others = await keys_of(world, "/oauth/jwks")
    assert [key["purpose"] for key in statement] == ["statement"]
    assert statement[0]["state"] == "signing"
    assert not {key["kid"] for key in statement} & {key["kid"] for key in others}
    assert not any("purpose" in key for key in others)
    assert read_jwks({"keys": statement}) == {statement[0]["kid"]}
    with pytest.raises(Unusable, match="looks like the keys of access tokens"):
        read_jwks({"keys": others})


@pytest.mark.parametrize("purpose", ["token", "message", "link"])
@pytest.mark.parametrize("kind", ["parasol-day-head", "parasol-statement"])
async def test_no_other_key_signs_a_statement_or_a_head(world: World, purpose: str, kind: str) -> None:
    with pytest.raises(KeyMisused, match="never signs a"):
        world.house.foundation.keyring.sign(purpose, b"{}", header={"typ": kind})


async def test_a_token_that_a_key_of_statements_signed_is_refused_at_the_api(world: World) -> None:
    keyring: Keyring = world.house.foundation.keyring
    issuer = world.house.foundation.settings.issuer
    with pytest.raises(KeyMisused, match="never signs a"):
        keyring.sign("statement", b"{}", header={"typ": "at+jwt"})

    class Misled:
        """Who signs tokens with the key of statements all the same."""

        def sign(self, purpose: str, payload: bytes, *, header: dict[str, str]) -> str:
            from joserfc import jws

            key = keyring.signing_key("statement")
            return jws.serialize_compact({"alg": "ES256", "kid": key.kid, **header}, payload, key.key)

    token = mint_access_token(Misled(), CONTENT, issuer=issuer, audience=issuer, now_s=int(time.time()))
    with pytest.raises(AccessTokenInvalid):
        verify_access_token(token, keys=keyring, issuer=issuer, audience=issuer)
    answer = await world.http.get("/partner/v1/statements", headers={"authorization": f"DPoP {token}", "dpop": "x"})
    assert answer.status_code == 401


async def test_what_was_signed_before_a_rotation_is_checked_with_the_keys_of_after(world: World) -> None:
    keyring: Keyring = world.house.foundation.keyring
    (first,) = await keys_of(world, "/.well-known/statement-keys")
    head = canonical({"business_day": "2026-09-21"})
    before = keyring.sign("statement", head, header={"typ": "parasol-day-head"})
    await rotate(world)
    keys = await keys_of(world, "/.well-known/statement-keys")
    assert [key["state"] for key in keys] == ["retired", "signing", "next"]
    assert keys[0]["kid"] == first["kid"]
    assert keys[0]["created_at"] <= keys[0]["retired_at"]
    after = keyring.sign("statement", head, header={"typ": "parasol-day-head"})
    known = {key["kid"]: read_key(key) for key in keys}
    for token, kid in ((before, keys[0]["kid"]), (after, keys[1]["kid"])):
        assert check_jws(token, head, typ="parasol-day-head", detached=False, keys=known).kid == kid
    await rotate(world)
    assert [key["kid"] for key in await keys_of(world, "/.well-known/statement-keys")][:3] == [k["kid"] for k in keys]
    signing = [key for key in await keys_of(world, "/.well-known/statement-keys") if key["state"] == "signing"]
    assert [key["kid"] for key in signing] == [keys[2]["kid"]]  # the one that was published before it signed


async def rotate(world: World) -> None:
    settings: Settings = world.house.foundation.settings
    await rotate_statement_key(world.house.database, settings, actor="test", reason="test")
    await world.house.foundation.feed.catch_up()


async def test_a_key_of_statements_neither_goes_nor_changes(database: Database) -> None:
    for change in ("DELETE FROM bank_key", "UPDATE bank_key SET public_jwk = '{}'"):
        with pytest.raises(Exception, match="a key of statements stays as it is"):
            async with database.transaction() as conn:
                await conn.execute(f"{change} WHERE purpose = 'statement'")


async def test_the_rotation_of_another_purpose_keeps_its_last_key_published(world: World) -> None:
    keyring: Keyring = world.house.foundation.keyring
    before = keyring.signing_key("token").kid
    async with world.house.database.transaction() as conn:
        await keyring.rotate(conn, "token")
    assert keyring.signing_key("token").kid != before
    assert before in {key["kid"] for key in await keys_of(world, "/oauth/jwks")}


def test_the_command_that_rotates_says_what_it_needs() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "rotate-statement-key", "--reason", "test", "--home", "/nowhere"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 2
    assert "No database" in ran.stderr
    assert json.dumps("Traceback") not in ran.stderr
