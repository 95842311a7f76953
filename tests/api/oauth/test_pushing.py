"""A pushed authorization request: each of its rules broken, one at a time."""

import json
from typing import Any

import pytest

from tests.api.oauth.conftest import CALLBACK, Server, answer_of
from tests.api.oauth.test_client_credentials import refused

V = "v" * 43


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"redirect_uri": "https://evil.example/cb"}, "invalid_request"),
        ({"redirect_uri": CALLBACK + "&y=2"}, "invalid_request"),
        ({"redirect_uri": "https://parkco.example/cb"}, "invalid_request"),
        ({"redirect_uri": "https://parkco.example/CB?x=1"}, "invalid_request"),
        ({"redirect_uri": "https://parkco.example/cb/../cb?x=1"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"state": "x" * 1001}, "invalid_request"),
        ({"state": "a\0b"}, "invalid_request"),
        ({"request_uri": "urn:ietf:params:oauth:request_uri:x"}, "invalid_request"),
        ({"request": "e30.e30."}, "request_not_supported"),
        ({"scope": "payments"}, "invalid_scope"),
        ({"scope": "accounts payments"}, "invalid_scope"),
        ({"scope": "openid"}, "invalid_scope"),
        ({"dpop_jkt": "x" * 43}, "invalid_request"),
        ({"authorization_details": None}, "invalid_authorization_details"),
        ({"authorization_details": "{"}, "invalid_authorization_details"),
        ({"authorization_details": "[]"}, "invalid_authorization_details"),
        ({"authorization_details": "[" * 15_000}, "invalid_authorization_details"),
        (
            {"authorization_details": '[{"type":"account-access-consent","consent_id":"a\\u0000"}]'},
            "invalid_authorization_details",
        ),
        ({"authorization_details": '[{"type":"other","consent_id":"x"}]'}, "invalid_authorization_details"),
        (
            {"authorization_details": '[{"type":"account-access-consent","consent_id":"cns_none"}]'},
            "invalid_authorization_details",
        ),
    ],
)
async def test_a_pushed_request_that_breaks_a_rule_is_refused(server: Server, form: dict[str, Any], error: str) -> None:
    consent = await server.consent()
    refused(await server.post("/oauth/par", {**server.request(consent, V), **form}), error)


async def test_a_state_of_a_thousand_characters_comes_back(server: Server) -> None:
    consent = await server.consent()
    browser = server.browser()
    await browser.open(await server.push(consent, state="é" * 1000))
    assert answer_of(await browser.submit(decision="deny"))["state"] == "é" * 1000


async def test_another_clients_consent_cannot_be_pushed(server: Server) -> None:
    consent = await server.consent(client_id="shopco-app")
    refused(await server.post("/oauth/par", server.request(consent, V)), "invalid_authorization_details")


async def test_a_consent_under_another_type_cannot_be_pushed(server: Server) -> None:
    consent = await server.consent("domestic-vrp")
    details = json.dumps([{"type": "account-access-consent", "consent_id": consent.consent_id}])
    form = {**server.request(consent, V), "authorization_details": details, "scope": "accounts"}
    refused(await server.post("/oauth/par", form), "invalid_authorization_details")


async def test_a_consent_that_is_over_cannot_be_pushed(server: Server) -> None:
    consent = await server.consent(expires_ms=1)
    refused(await server.post("/oauth/par", server.request(consent, V)), "invalid_authorization_details")


async def test_a_request_is_pushed_only_by_a_client_that_authenticates(server: Server) -> None:
    form = {**server.request(await server.consent(), V), "client_assertion": None}
    refused(await server.post("/oauth/par", form), "invalid_client", status=401)
