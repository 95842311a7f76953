"""The app's own token over HTTP: who gets one, bound to what, and the attacks on the way to it."""

import asyncio
import time
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import jwt
import pytest

from gateway.oauth.replay import spent_digest
from gateway.oauth.steps import LEAST
from gateway.partners.partner import PartnerState
from gateway.policies.policy import Rate
from tests.api.oauth.conftest import Server
from tests.unit.oauth.certificates import certificate, thumbprint
from tests.unit.oauth.signing import ISSUER, KEYS, app

FORM = {"grant_type": "client_credentials", "scope": "parking"}


def refused(response: Any, error: str, *, status: int = 400) -> None:
    assert (response.status_code, response.json()["error"]) == (status, error), response.text
    assert '"' not in response.json()["error_description"]
    assert response.headers["cache-control"] == "no-store"
    assert "www-authenticate" not in response.headers  # private_key_jwt is no scheme of that header


async def test_an_app_gets_a_token_bound_to_its_key(server: Server) -> None:
    response = await server.post("/oauth/token", FORM)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["token_type"], answer["expires_in"], answer["scope"]) == ("DPoP", 300, "parking")
    assert "refresh_token" not in answer
    assert (response.headers["cache-control"], response.headers["pragma"]) == ("no-store", "no-cache")
    token = server.read(answer["access_token"])
    assert (token.client_id, token.subject, token.auth_key) == ("parkco-app", "client:parkco-app", "ES256")
    assert token.jkt is not None
    assert (token.x5t_s256, token.consent_id) == (None, None)
    assert jwt.get_unverified_header(answer["access_token"])["typ"] == "at+jwt"


async def test_without_a_scope_the_app_gets_all_of_its_own(server: Server) -> None:
    response = await server.post("/oauth/token", {"grant_type": "client_credentials"})
    assert response.json()["scope"] == "accounts parking payments"


async def test_a_certificate_that_the_proxy_saw_binds_the_token(server: Server) -> None:
    pem, der = certificate()
    response = await server.post("/oauth/token", FORM, proof=None, headers={"x-client-cert": quote(pem)})
    assert response.json()["token_type"] == "Bearer"
    assert server.read(response.json()["access_token"]).x5t_s256 == thumbprint(der)


async def test_a_token_bound_to_nothing_is_not_given(server: Server) -> None:
    refused(await server.post("/oauth/token", FORM, proof=None), "invalid_request")


@pytest.mark.parametrize("alg", KEYS)
async def test_every_algorithm_authenticates(server: Server, alg: str) -> None:
    response = await server.http.post(
        "/oauth/token",
        data={**FORM, **server.assertion(alg=alg)},
        headers={"DPoP": server.proof("/oauth/token", alg=alg)},
    )
    assert response.status_code == 200, response.text


async def test_a_replayed_assertion_is_refused(server: Server) -> None:
    assertion = server.assertion()
    assert (await server.post("/oauth/token", {**FORM, **assertion})).status_code == 200
    again = await server.post("/oauth/token", {**FORM, **assertion})
    refused(again, "invalid_client", status=401)


async def test_an_assertion_is_spent_even_when_the_request_is_refused(server: Server) -> None:
    assertion = server.assertion()
    wrong = {"grant_type": "refresh_token", "refresh_token": "unknown"}
    refused(await server.post("/oauth/token", {**wrong, **assertion}), "invalid_grant")
    refused(await server.post("/oauth/token", {**FORM, **assertion}), "invalid_client", status=401)


async def test_a_replayed_proof_is_refused(server: Server) -> None:
    proof = server.proof("/oauth/token")
    assert (await server.post("/oauth/token", FORM, proof=proof)).status_code == 200
    refused(await server.post("/oauth/token", FORM, proof=proof), "invalid_dpop_proof")


async def test_an_assertion_that_comes_many_times_at_once_is_good_once(server: Server) -> None:
    assertion = server.assertion()
    answers = await asyncio.gather(*(server.post("/oauth/token", {**FORM, **assertion}) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7


async def test_what_clients_show_at_once_is_not_spent_in_a_transaction_each(server: Server) -> None:
    async with server.database.connection() as conn:
        before = await conn.fetchval("SELECT coalesce(array_agg(digest), '{}') FROM spent_proof")
    answers = await asyncio.gather(*(server.post("/oauth/token", FORM) for _ in range(16)))
    assert {answer.status_code for answer in answers} == {200}
    async with server.database.connection() as conn:
        spent, commits = await conn.fetchrow(
            "SELECT count(*), count(DISTINCT xmin::text) FROM spent_proof WHERE digest <> ALL ($1)", before
        )
    assert spent == 32, "an assertion and a proof each"
    assert commits <= 8, "they are gathered"


async def test_two_dpop_headers_are_refused(server: Server) -> None:
    headers = [("DPoP", server.proof("/oauth/token")), ("DPoP", server.proof("/oauth/token"))]
    response = await server.http.post("/oauth/token", data={**FORM, **server.assertion()}, headers=headers)
    refused(response, "invalid_dpop_proof")


async def test_a_proof_for_another_endpoint_is_refused(server: Server) -> None:
    refused(await server.post("/oauth/token", FORM, proof=server.proof("/oauth/par")), "invalid_dpop_proof")


async def test_a_forged_host_does_not_move_the_target(server: Server) -> None:
    proof = server.proof("/oauth/token", htu="http://evil.test/oauth/token")
    response = await server.post("/oauth/token", FORM, proof=proof, headers={"Host": "evil.test"})
    refused(response, "invalid_dpop_proof")


@pytest.mark.parametrize(
    ("form", "error", "status"),
    [
        ({"client_assertion": None}, "invalid_client", 401),
        ({"client_assertion_type": "x"}, "invalid_client", 401),
        ({"client_id": "shopco-app"}, "invalid_client", 401),
        ({"client_secret": "x"}, "invalid_client", 401),
        ({"grant_type": None}, "invalid_request", 400),
        ({"grant_type": "password"}, "unsupported_grant_type", 400),
        ({"grant_type": "implicit"}, "unsupported_grant_type", 400),
        ({"scope": "discounts"}, "invalid_scope", 400),
        ({"scope": 'no"such\\scope'}, "invalid_scope", 400),
    ],
)
async def test_a_request_that_breaks_a_rule_is_refused(
    server: Server, form: dict[str, Any], error: str, status: int
) -> None:
    refused(await server.post("/oauth/token", {**FORM, **form}), error, status=status)


async def test_basic_authentication_is_refused(server: Server) -> None:
    response = await server.post("/oauth/token", FORM, headers={"Authorization": "Basic cGFya2NvOng="})
    refused(response, "invalid_client", status=401)


async def test_another_audience_is_refused(server: Server) -> None:
    for aud in (f"{ISSUER}/oauth/token", [ISSUER]):
        response = await server.post("/oauth/token", {**FORM, **server.assertion(aud=aud)})
        refused(response, "invalid_client", status=401)


async def test_an_expired_assertion_is_refused(server: Server) -> None:
    form = {**FORM, **server.assertion(exp=int(time.time()) - 1)}
    refused(await server.post("/oauth/token", form), "invalid_client", status=401)


async def test_a_suspended_partner_gets_no_token(server: Server) -> None:
    server.change_partner(state=PartnerState.SUSPENDED)
    refused(await server.post("/oauth/token", FORM), "unauthorized_client")


async def test_a_revoked_key_gets_no_token(server: Server) -> None:
    server.change_app(keys=tuple(key for key in app().keys if key.kid != "ES256"))
    refused(await server.post("/oauth/token", FORM), "invalid_client", status=401)


async def test_a_scope_that_the_policy_closed_is_refused(server: Server) -> None:
    known = server.keeper.current
    closed = replace(known.policies["parkco"], scopes=frozenset())
    server.keeper.current = replace(known, policies={"parkco": closed})
    refused(await server.post("/oauth/token", FORM), "invalid_scope")
    refused(await server.post("/oauth/token", {"grant_type": "client_credentials"}), "invalid_scope")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"{}", "application/json"),
        (b"grant_type=a&grant_type=b", "application/x-www-form-urlencoded"),
        (b"grant_type=%ff", "application/x-www-form-urlencoded"),
        (b"\xff\xfe", "application/x-www-form-urlencoded"),
        (b"&".join(b"a%d=1" % n for n in range(200)), "application/x-www-form-urlencoded"),
        (b"", "application/x-www-form-urlencoded"),
    ],
)
async def test_a_body_that_is_no_form_is_refused(server: Server, content: bytes, kind: str) -> None:
    before = await server.sql("SELECT count(*) FROM spent_proof")
    response = await server.http.post("/oauth/token", content=content, headers={"Content-Type": kind})
    assert response.status_code in (400, 401)
    assert response.json()["error"] in ("invalid_request", "invalid_client")
    assert await server.sql("SELECT count(*) FROM spent_proof") == before


async def test_a_get_at_the_token_endpoint_is_refused(server: Server) -> None:
    assert (await server.http.get("/oauth/token")).status_code == 405


async def test_a_client_that_asks_too_often_waits_and_has_spent_nothing(server: Server) -> None:
    """However small its policy's rate, a few servers get their tokens; above that it is told when to come back."""
    agreed = server.keeper.current
    slow = replace(agreed.policies["shopco"], rate=Rate(1, 1))
    server.keeper.current = replace(agreed, policies={"parkco": slow, "shopco": slow})
    forms = [{**FORM, **server.assertion(client_id="shopco-app")} for _ in range(2 * LEAST.burst)]
    proofs = [{"DPoP": server.proof("/oauth/token")} for _ in forms]
    sent = (server.http.post("/oauth/token", data=f, headers=p) for f, p in zip(forms, proofs, strict=True))
    answers = await asyncio.gather(*sent)
    assert sum(answer.status_code == 200 for answer in answers) >= LEAST.burst
    place, refusal = next((n, answer) for n, answer in enumerate(answers) if answer.status_code == 429)
    refused(refusal, "temporarily_unavailable", status=429)
    assert int(refusal.headers["retry-after"]) >= 1
    assert (await server.post("/oauth/token", FORM)).status_code == 200  # another client, from the same address
    jti = jwt.decode(forms[place]["client_assertion"], options={"verify_signature": False})["jti"]
    spent = spent_digest("assertion", "shopco-app", jti)
    assert await server.sql("SELECT FROM spent_proof WHERE digest = $1", spent) == []
