"""The front door: whose token, whose key, how often. Each no changes nothing and says what to do."""

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from bench.gateway import escaped_certificate
from gateway.admission.tokens import TokenMemory
from gateway.app import open_house
from gateway.clock import now_ms
from gateway.demo.client import PartnerClient, Token
from gateway.oauth.store import revoke_bank_key
from gateway.oauth.tokens import TokenContent, mint_access_token, verify_access_token
from gateway.partners.apply import apply
from gateway.refusal import Refusal
from gateway.routes import POLICY_OPERATIONS
from tests.conftest import ISSUER, ROOT, PictureClock, World, settings_for
from tests.unit.oauth.certificates import certificate, thumbprint

READ = "/partner/v1/campaigns"
HEADER = "x-client-cert"


async def token_with(world: World, *, age_s: int = 0, issuer: str = ISSUER, audience: str = ISSUER) -> Token:
    """A token that the bank's own key signed, but for something that is not right."""
    client = world.client("parkco")
    good = verify(world, (await client.token()).value)
    content = TokenContent(
        good.client_id, good.subject, good.scopes, good.grant_id, {"jkt": good.jkt or ""}, good.auth_key
    )
    keyring = world.house.foundation.keyring
    value = mint_access_token(keyring, content, issuer=issuer, audience=audience, now_s=int(time.time()) - age_s)
    return Token(value, time.time() + 300)


def verify(world: World, token: str) -> Any:
    return verify_access_token(token, keys=world.house.foundation.keyring, issuer=ISSUER, audience=ISSUER)


async def refusal(world: World, token: Token) -> tuple[int, str]:
    response = await world.client("parkco").call("GET", READ, token=token)
    return response.status_code, response.json().get("code", "")


async def test_a_token_minted_like_the_servers_own_is_admitted(world: World) -> None:
    response = await world.client("parkco").call("GET", READ, token=await token_with(world))
    assert response.status_code == 200


async def test_an_expired_token_is_refused(world: World) -> None:
    assert await refusal(world, await token_with(world, age_s=301)) == (401, "token_not_accepted")


async def test_a_remembered_token_expires_too(world: World) -> None:
    token = (await world.client("parkco").token()).value
    memory = TokenMemory(lambda text: verify(world, text))
    snapshot = world.house.foundation.snapshot()
    memory.recognise(token, snapshot, now_ms=now_ms())
    with pytest.raises(Refusal, match="expired"):
        memory.recognise(token, snapshot, now_ms=now_ms() + 301_000)


async def test_a_token_of_another_issuer_is_refused(world: World) -> None:
    assert await refusal(world, await token_with(world, issuer="http://elsewhere.test")) == (401, "token_not_accepted")


async def test_a_token_for_another_audience_is_refused(world: World) -> None:
    assert await refusal(world, await token_with(world, audience="http://other.test")) == (401, "token_not_accepted")


async def test_a_token_changed_by_one_character_is_refused(world: World) -> None:
    good = await world.client("parkco").token()
    middle = len(good.value) // 2
    changed = good.value[:middle] + ("A" if good.value[middle] != "A" else "B") + good.value[middle + 1 :]
    assert await refusal(world, Token(changed, good.ends_s)) == (401, "token_not_accepted")


async def test_another_partners_key_proves_nothing(world: World) -> None:
    """A stolen token with the thief's own, valid proof."""
    stolen = await world.client("parkco").token()
    response = await world.client("shopco").call("GET", READ, token=stolen)
    assert (response.status_code, response.json()["code"]) == (401, "sender_not_proven")


async def test_two_proofs_are_refused(world: World) -> None:
    client = world.client("parkco")
    token = await client.token()
    proofs = [("DPoP", client.proof("GET", ISSUER + READ, access_token=token.value)) for _ in range(2)]
    response = await world.http.get(READ, headers=[("Authorization", f"DPoP {token.value}"), *proofs])
    assert (response.status_code, response.json()["code"]) == (400, "header_invalid")


@pytest.mark.parametrize(
    ("method", "url", "token"),
    [("POST", ISSUER + READ, None), ("GET", ISSUER + "/partner/v1/claims", None), ("GET", ISSUER + READ, "another")],
    ids=["method", "address", "token"],
)
async def test_a_proof_of_another_request_is_refused(world: World, method: str, url: str, token: str | None) -> None:
    client = world.client("parkco")
    good = await client.token()
    proof = client.proof(method, url, access_token=token or good.value)
    response = await client.call("GET", READ, headers={"DPoP": proof})
    assert (response.status_code, response.json()["code"]) == (401, "dpop_proof_invalid")


async def test_a_given_back_token_is_refused(world: World) -> None:
    client = world.client("parkco")
    token = await client.token()
    url = f"{ISSUER}/oauth/revoke"
    given_back = await world.http.post(url, data={"token": token.value, **client.assertion()})
    assert given_back.status_code == 200, given_back.text
    await world.house.foundation.feed.catch_up()
    assert await refusal(world, token) == (401, "token_not_accepted")


async def test_a_token_whose_key_was_revoked_is_refused(world: World) -> None:
    token = await world.client("parkco").token()
    await world.sql("UPDATE app_key SET state = 'revoked' WHERE client_id = $1", world.client("parkco").client_id)
    async with world.house.database.transaction() as conn:
        await conn.execute(
            "INSERT INTO change (kind, key, at_ms) VALUES ('app_key', $1, 1)", world.client("parkco").client_id
        )
    await world.house.foundation.feed.catch_up()
    assert await refusal(world, token) == (401, "token_not_accepted")


async def test_a_policy_with_a_small_rate_says_when_to_come_back(world: World, tmp_path: Path) -> None:
    for folder in ("partners", "policies"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    file = tmp_path / "policies" / "parking-operator.toml"
    file.write_text(
        file.read_text().replace("per_second = 100_000", "per_second = 10").replace("burst = 20_000", "burst = 1")
    )
    await apply(world.house.database, tmp_path, POLICY_OPERATIONS, actor="test", reason="test", now_ms=now_ms())
    await world.house.foundation.feed.catch_up()
    answers = await asyncio.gather(*(world.client("parkco").call("GET", READ) for _ in range(8)))
    assert any(answer.status_code == 200 for answer in answers)
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["code"] == "rate_limited"
    assert int(refused.headers["retry-after"]) >= 1
    assert "ratelimit" in refused.headers


async def test_an_operation_that_the_policy_does_not_name_is_refused(world: World) -> None:
    response = await world.client("shopco").call("GET", "/partner/v1/parking/lots")
    assert response.status_code == 403
    assert response.json()["code"] in ("policy_operation", "insufficient_scope")


# --- certificate-bound tokens (RFC 8705) ---------------------------------------------------------------------------
async def with_certificates(home: Path, url: str, source: str, use: Any) -> None:
    """A gateway that believes the certificate header of 127.0.0.1 only, asked from `source`."""
    settings = settings_for(home, url, client_cert_header=HEADER, trusted_proxies="127.0.0.1/32")
    clock = PictureClock()
    async with open_house(settings, clock_s=clock) as house:
        transport = httpx.ASGITransport(app=house.edge, client=(source, 40000))
        async with httpx.AsyncClient(transport=transport, base_url=ISSUER) as http:
            await use(World(house, http, home, url, clock))


async def bound_token(client: PartnerClient, certificate: str) -> str:
    answer = await client.http.post(
        f"{ISSUER}/oauth/token",
        data={"grant_type": "client_credentials", "scope": "discounts", **client.assertion()},
        headers={HEADER: certificate},
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


async def test_a_certificate_bound_token_is_admitted_with_its_certificate_only(home: Path, database_url: str) -> None:
    async def use(world: World) -> None:
        mine, other = escaped_certificate("parkco"), escaped_certificate("thief")
        token = await bound_token(world.client("parkco"), mine)
        bearer = {"Authorization": f"Bearer {token}"}
        assert (await world.http.get(READ, headers={**bearer, HEADER: mine})).status_code == 200
        for shown in ({HEADER: other}, {}, {HEADER: quote("no certificate")}):
            refused = await world.http.get(READ, headers={**bearer, **shown})
            assert (refused.status_code, refused.json()["code"]) == (401, "sender_not_proven")

    await with_certificates(home, database_url, "127.0.0.1", use)


async def test_who_decided_something_behind_a_proxy_that_names_nobody_came_from_that_proxy(
    home: Path, database_url: str
) -> None:
    """The trail said nothing at all."""

    async def use(world: World) -> None:
        reason = {"Reason": "test"}
        done = await world.ops("ops-maker", "POST", "/admin/v1/partners/parkco/suspension", json=reason)
        assert done.status_code == 200, done.text
        [row] = await world.sql("SELECT detail FROM audit WHERE action = 'partner.state'")
        assert row["detail"]["from"] == "127.0.0.1, a proxy that names no caller"

    await with_certificates(home, database_url, "127.0.0.1", use)


async def test_a_certificate_header_that_came_twice_is_refused(home: Path, database_url: str) -> None:
    """The first certificate of two would have been believed, whoever wrote it."""

    async def use(world: World) -> None:
        mine, other = escaped_certificate("parkco"), escaped_certificate("thief")
        token = await bound_token(world.client("parkco"), mine)
        bearer = ("Authorization", f"Bearer {token}")
        twice = await world.http.get(READ, headers=[bearer, (HEADER, mine), (HEADER, other)])
        assert (twice.status_code, twice.json()["code"]) == (400, "header_invalid")
        both = await world.http.get(READ, headers=[bearer, (HEADER, mine + other)])
        assert (both.status_code, both.json()["code"]) == (401, "sender_not_proven")
        form = {"grant_type": "client_credentials", **world.client("parkco").assertion()}
        asked = await world.http.post(f"{ISSUER}/oauth/token", data=form, headers=[(HEADER, mine), (HEADER, other)])
        assert (asked.status_code, asked.json()["error"]) == (400, "invalid_request")

    await with_certificates(home, database_url, "127.0.0.1", use)


@pytest.mark.parametrize("days", [(-20, -1), (1, 20)], ids=["expired", "not-yet"])
async def test_a_certificate_whose_time_is_not_now_is_refused(
    home: Path, database_url: str, days: tuple[int, int]
) -> None:
    async def use(world: World) -> None:
        pem, der = certificate(days=days)
        client = world.client("parkco")
        form = {"grant_type": "client_credentials", "scope": "discounts"}
        asked = await world.http.post(
            f"{ISSUER}/oauth/token", data={**form, **client.assertion()}, headers={HEADER: quote(pem)}
        )
        assert (asked.status_code, asked.json()["error"]) == (400, "invalid_request")
        good = verify(world, await bound_token(client, escaped_certificate("parkco")))
        content = TokenContent(
            good.client_id, good.subject, good.scopes, good.grant_id, {"x5t#S256": thumbprint(der)}, good.auth_key
        )
        keyring = world.house.foundation.keyring
        token = mint_access_token(keyring, content, issuer=ISSUER, audience=ISSUER, now_s=int(time.time()))
        read = await world.http.get(READ, headers={"Authorization": f"Bearer {token}", HEADER: quote(pem)})
        assert (read.status_code, read.json()["code"]) == (401, "certificate_not_in_force")

    await with_certificates(home, database_url, "127.0.0.1", use)


async def test_a_token_of_a_revoked_bank_key_is_refused_and_of_a_retiring_one_is_not(world: World) -> None:
    client, keyring = world.client("parkco"), world.house.foundation.keyring
    token = await client.grant(grant_type="client_credentials", scope="discounts")
    kid = keyring.signing_key("token").kid
    assert (await client.call("GET", READ, token=token)).status_code == 200  # and is remembered from here on

    async def change(make: Any) -> None:
        async with world.house.database.transaction() as conn:
            await make(conn)
            await keyring.ensure(conn)
        await world.house.foundation.feed.catch_up()

    await change(lambda conn: keyring.rotate(conn, "token"))
    assert keyring.signing_key("token").kid != kid
    assert (await client.call("GET", READ, token=token)).status_code == 200
    await change(lambda conn: revoke_bank_key(conn, kid, actor="test", reason="it got out", now_ms=1))
    assert await refusal(world, token) == (401, "token_not_accepted")
    assert kid not in {key["kid"] for key in (await world.http.get("/oauth/jwks")).json()["keys"]}
    fresh = await client.grant(grant_type="client_credentials", scope="discounts")
    assert (await client.call("GET", READ, token=fresh)).status_code == 200
    (row,) = await world.sql("SELECT detail FROM audit WHERE action = 'bank_key.revoke'")
    assert row["detail"]["reason"] == "it got out"


async def test_a_certificate_header_that_no_trusted_proxy_set_is_not_believed(home: Path, database_url: str) -> None:
    async def use(world: World) -> None:
        answer = await world.http.post(
            f"{ISSUER}/oauth/token",
            data={"grant_type": "client_credentials", "scope": "discounts", **world.client("parkco").assertion()},
            headers={HEADER: escaped_certificate("parkco")},
        )
        assert answer.status_code == 400
        assert answer.json()["error"] == "invalid_request"

    await with_certificates(home, database_url, "10.1.2.3", use)
