"""Codes and refresh tokens over HTTP: once, in time, by the right client and key; revocation, introspection."""

import asyncio
from typing import Any

import pytest

from gateway.clock import now_ms
from gateway.consents import store as consents
from tests.api.oauth.conftest import CALLBACK, Server
from tests.api.oauth.test_client_credentials import refused
from tests.conftest import past_all_rules
from tests.unit.oauth.signing import ISSUER

REFRESH = {"grant_type": "refresh_token"}


async def test_a_code_used_twice_revokes_what_the_first_use_gave(server: Server) -> None:
    consent = await server.consent()
    code = await server.code(consent)
    first = (await server.redeem(code)).json()
    refused(await server.redeem(code), "invalid_grant")
    grant_id = server.read(first["access_token"]).grant_id
    assert await server.sql("SELECT 1 FROM revoked_grant WHERE grant_id = $1", grant_id)
    assert await server.sql("SELECT 1 FROM change WHERE kind = 'grant' AND key = $1", grant_id)
    refused(await server.post("/oauth/token", {**REFRESH, "refresh_token": first["refresh_token"]}), "invalid_grant")


async def test_of_two_uses_at_once_one_at_most_keeps_its_tokens(server: Server) -> None:
    code = await server.code(await server.consent())
    answers = await asyncio.gather(*(server.redeem(code) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400]


async def test_a_stolen_code_is_of_no_use_to_another_client(server: Server) -> None:
    code = await server.code(await server.consent())
    refused(await server.redeem(code, client_id="shopco-app"), "invalid_grant")
    assert (await server.redeem(code)).status_code == 200


async def test_a_used_code_in_the_hands_of_another_client_revokes_nothing(server: Server) -> None:
    """Or whoever finds a code in a log ends the customer's grant."""
    code = await server.code(await server.consent())
    given = (await server.redeem(code)).json()
    refused(await server.redeem(code, client_id="shopco-app"), "invalid_grant")
    form = {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}
    assert (await server.post("/oauth/token", form)).status_code == 200


@pytest.mark.parametrize("verifier", [None, "w" * 43, "short", "v" * 129, "é" * 43])
async def test_a_wrong_verifier_is_refused(server: Server, verifier: str | None) -> None:
    refused(await server.redeem(await server.code(await server.consent()), verifier=verifier), "invalid_grant")


@pytest.mark.parametrize("redirect_uri", [None, "https://parkco.example/other", CALLBACK + "&y=2"])
async def test_another_redirect_uri_is_refused(server: Server, redirect_uri: str | None) -> None:
    code = await server.code(await server.consent())
    refused(await server.redeem(code, form={"redirect_uri": redirect_uri}), "invalid_grant")


async def test_a_code_is_bound_to_the_key_that_proved_the_pushed_request(server: Server) -> None:
    code = await server.code(await server.consent())
    refused(await server.redeem(code, alg="EdDSA"), "invalid_grant")
    assert (await server.redeem(code)).status_code == 200


async def test_a_code_is_bound_to_the_key_that_dpop_jkt_named(server: Server) -> None:
    jkt = server.read((await server.tokens(await server.consent()))["access_token"]).jkt
    consent = await server.consent()
    form = {**server.request(consent, "v" * 43), "dpop_jkt": jkt}
    pushed = await server.post("/oauth/par", form, proof=None)
    browser = server.browser()
    await browser.open(pushed.json()["request_uri"])
    await browser.log_in()
    code = (await browser.approve()).headers["location"].split("code=")[1].split("&")[0]
    refused(await server.redeem(code, alg="PS256"), "invalid_grant")
    assert (await server.redeem(code)).status_code == 200


async def test_a_code_older_than_a_minute_is_refused(server: Server) -> None:
    consent = await server.consent()
    code = await server.code(consent)
    [row] = await server.sql(
        "SELECT digest, expires_ms FROM oauth_code JOIN oauth_grant USING (grant_id) WHERE consent_id = $1",
        consent.consent_id,
    )
    assert row["expires_ms"] - now_ms() <= 60_000
    await server.sql("UPDATE oauth_code SET expires_ms = $2 WHERE digest = $1", row["digest"], now_ms() - 1)
    refused(await server.redeem(code), "invalid_grant")


async def test_codes_and_tokens_rest_hashed(server: Server) -> None:
    code = await server.code(await server.consent())
    answer = (await server.redeem(code)).json()
    for table, secret in (("oauth_code", code), ("refresh_token", answer["refresh_token"])):
        rows = await server.sql(f"SELECT t::text AS text FROM {table} t")
        assert rows
        assert not [row for row in rows if secret in row["text"] or secret.encode().hex() in row["text"]]


@pytest.mark.parametrize("form", [{"code": None}, {"code": "unknown"}])
async def test_a_missing_or_unknown_code_is_refused(server: Server, form: dict[str, Any]) -> None:
    response = await server.redeem("x", form=form)
    refused(response, "invalid_request" if form["code"] is None else "invalid_grant")


async def test_a_revoked_consent_gives_no_token_for_its_code(server: Server) -> None:
    consent = await server.consent()
    code = await server.code(consent)
    await revoke_consent(server, consent.consent_id)
    refused(await server.redeem(code), "invalid_grant")


# --- refreshing --------------------------------------------------------------------------------------------------
async def test_a_refresh_token_stays_and_takes_a_new_key(server: Server) -> None:
    first = await server.tokens(await server.consent())
    for alg in ("ES256", "EdDSA"):
        form = {**REFRESH, "refresh_token": first["refresh_token"]}
        response = await server.post("/oauth/token", form, alg=alg)
        assert response.status_code == 200, response.text
        answer = response.json()
        assert "refresh_token" not in answer
        old, new = server.read(first["access_token"]), server.read(answer["access_token"])
        assert (new.grant_id, new.subject, new.consent_id) == (old.grant_id, old.subject, old.consent_id)
        assert (new.jkt == old.jkt) == (alg == "ES256")


@pytest.mark.parametrize("scope", ["payments", "accounts payments", "nothing"])
async def test_a_scope_does_not_widen(server: Server, scope: str) -> None:
    first = await server.tokens(await server.consent())
    form = {**REFRESH, "refresh_token": first["refresh_token"], "scope": scope}
    refused(await server.post("/oauth/token", form), "invalid_scope")


async def test_another_clients_refresh_token_is_refused(server: Server) -> None:
    first = await server.tokens(await server.consent())
    form = {**REFRESH, "refresh_token": first["refresh_token"]}
    refused(await server.post("/oauth/token", form, client_id="shopco-app"), "invalid_grant")


@pytest.mark.parametrize("form", [{}, {"refresh_token": "unknown"}])
async def test_a_missing_or_unknown_refresh_token_is_refused(server: Server, form: dict[str, str]) -> None:
    response = await server.post("/oauth/token", {**REFRESH, **form})
    refused(response, "invalid_grant" if form else "invalid_request")


async def test_deleting_the_consent_stops_its_tokens(server: Server) -> None:
    consent = await server.consent()
    first = await server.tokens(consent)
    await revoke_consent(server, consent.consent_id)
    refused(await server.post("/oauth/token", {**REFRESH, "refresh_token": first["refresh_token"]}), "invalid_grant")
    grant_id = server.read(first["access_token"]).grant_id
    assert await server.sql("SELECT 1 FROM revoked_grant WHERE grant_id = $1", grant_id)


async def test_a_consent_whose_time_is_over_refreshes_nothing(server: Server) -> None:
    consent = await server.consent(expires_ms=now_ms() + 3_600_000)
    first = await server.tokens(consent)
    async with past_all_rules(server.database.url) as conn:
        await conn.execute("UPDATE consent SET expires_ms = 1 WHERE consent_id = $1", consent.consent_id)
    refused(await server.post("/oauth/token", {**REFRESH, "refresh_token": first["refresh_token"]}), "invalid_grant")


async def test_a_scope_that_the_app_lost_refreshes_nothing(server: Server) -> None:
    first = await server.tokens(await server.consent())
    server.change_app(scopes=frozenset(("parking",)))
    refused(await server.post("/oauth/token", {**REFRESH, "refresh_token": first["refresh_token"]}), "invalid_grant")


# --- giving back, asking -----------------------------------------------------------------------------------------
async def ask(server: Server, token: str, **more: Any) -> Any:
    return await server.post("/oauth/introspect", {"token": token}, proof=None, **more)


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
async def test_a_token_given_back_ends_its_grant(server: Server, which: str) -> None:
    tokens = await server.tokens(await server.consent())
    assert (await ask(server, tokens["access_token"])).json()["active"] is True
    gone = await server.post("/oauth/revoke", {"token": tokens[which]}, proof=None)
    assert (gone.status_code, gone.content) == (200, b"")
    for name in ("access_token", "refresh_token"):
        assert (await ask(server, tokens[name])).json() == {"active": False}
    form = {**REFRESH, "refresh_token": tokens["refresh_token"]}
    refused(await server.post("/oauth/token", form), "invalid_grant")


async def test_an_apps_own_token_can_be_given_back(server: Server) -> None:
    own = (await server.post("/oauth/token", {"grant_type": "client_credentials"})).json()["access_token"]
    said = (await ask(server, own)).json()
    assert (said["active"], said["sub"], said["token_type"], said["iss"]) == (True, "client:parkco-app", "DPoP", ISSUER)
    await server.post("/oauth/revoke", {"token": own}, proof=None)
    assert (await ask(server, own)).json() == {"active": False}


async def test_nobody_asks_about_or_gives_back_anothers_token(server: Server) -> None:
    tokens = await server.tokens(await server.consent())
    for name in ("access_token", "refresh_token"):
        assert (await ask(server, tokens[name], client_id="shopco-app")).json() == {"active": False}
        form = {"token": tokens[name]}
        refused(await server.post("/oauth/revoke", form, proof=None, client_id="shopco-app"), "invalid_grant")
        assert (await ask(server, tokens[name])).json()["active"] is True


@pytest.mark.parametrize("token", ["unknown", "a.b.c", "x" * 4096, "é"])
async def test_an_unknown_token_is_inactive_and_revoked_already(server: Server, token: str) -> None:
    assert (await ask(server, token)).json() == {"active": False}
    assert (await server.post("/oauth/revoke", {"token": token}, proof=None)).status_code == 200


@pytest.mark.parametrize("form", [{}, {"token": "x" * 4097}])
@pytest.mark.parametrize("path", ["/oauth/revoke", "/oauth/introspect"])
async def test_a_question_without_a_token_is_refused(server: Server, path: str, form: dict[str, str]) -> None:
    refused(await server.post(path, form, proof=None), "invalid_request")


@pytest.mark.parametrize("path", ["/oauth/revoke", "/oauth/introspect"])
async def test_a_question_of_nobody_is_refused(server: Server, path: str) -> None:
    refused(await server.http.post(path, data={"token": "x"}), "invalid_client", status=401)


async def revoke_consent(server: Server, consent_id: str) -> None:
    async with server.database.transaction() as conn:
        await consents.revoke(conn, consent_id, partner_id="parkco", actor="partner", now_ms=now_ms())
