"""A customer's authorization over HTTP: push, log in, consent, code, tokens; and what must not work on the way."""

import json
from typing import Any

import pytest

from gateway.consents import store as consents
from gateway.partners.partner import PartnerState
from tests.api.oauth.conftest import CALLBACK, Server, answer_of, challenge, hidden
from tests.api.oauth.test_client_credentials import refused
from tests.unit.oauth.signing import ISSUER

V = "v" * 43


# --- the yes -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["account-access", "domestic-vrp"])
async def test_a_customer_consents_and_the_partner_gets_tokens(server: Server, kind: str) -> None:
    consent = await server.consent(kind)
    request_uri = await server.push(consent)
    browser = server.browser()
    page = await browser.open(request_uri)
    assert page.status_code == 200
    assert "ParkCo City Parking" in page.text
    assert "泊客城市停车" in page.text
    assert (await browser.log_in()).status_code == 303
    assert browser.page is not None
    assert 'id="consent-form"' in browser.page.text
    back = answer_of(await browser.approve())
    assert (back["state"], back["iss"]) == ("st 1&é", ISSUER)
    response = await server.redeem(back["code"])
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["scope"] == consent.kind.scope
    assert answer["authorization_details"] == [{"type": f"{kind}-consent", "consent_id": consent.consent_id}]
    token = server.read(answer["access_token"])
    assert token.consent_id == consent.consent_id
    assert token.subject.startswith("cus_")
    [row] = await server.sql("SELECT status, account_ids FROM consent WHERE consent_id = $1", consent.consent_id)
    assert row["status"] == "AUTH"
    assert len(row["account_ids"]) == 1


async def test_a_page_may_be_reloaded_before_it_is_finished(server: Server) -> None:
    consent = await server.consent()
    request_uri = await server.push(consent)
    browser = server.browser()
    await browser.open(request_uri)
    await browser.open(request_uri)
    await browser.log_in()
    await browser.open(request_uri)
    assert "code" in answer_of(await browser.approve())


async def test_the_same_customer_may_confirm_a_consent_again(server: Server) -> None:
    consent = await server.consent()
    first = await server.tokens(consent)
    second = await server.tokens(consent)
    assert server.read(first["access_token"]).grant_id != server.read(second["access_token"]).grant_id


async def test_a_sandbox_approval_goes_through_without_pages_once(server: Server) -> None:
    consent = await server.consent()
    approved = await server.http.post(f"/sandbox/v1/consents/{consent.consent_id}/authorisation")
    assert approved.status_code == 200, approved.text
    assert approved.json()["Data"]["Status"] == "AUTH"
    answer = answer_of(await server.browser().open(await server.push(consent)))
    assert (await server.redeem(answer["code"])).status_code == 200
    assert (await server.browser().open(await server.push(consent))).status_code == 200  # the login page


@pytest.mark.parametrize("body", [{"CustomerId": "cus_nobody"}, {"AccountIds": ["acc_other"]}, {"NoSuch": 1}, []])
async def test_a_sandbox_approval_for_what_is_not_the_customers_is_refused(server: Server, body: Any) -> None:
    consent = await server.consent()
    response = await server.http.post(f"/sandbox/v1/consents/{consent.consent_id}/authorisation", json=body)
    assert response.status_code == 400, response.text
    assert (await server.http.post("/sandbox/v1/consents/cns_none/authorisation")).status_code == 404


# --- the customer's no -------------------------------------------------------------------------------------------
async def test_a_customer_who_denies_ends_it(server: Server) -> None:
    consent = await server.consent()
    request_uri = await server.push(consent)
    browser = server.browser()
    await browser.open(request_uri)
    await browser.log_in()
    back = answer_of(await browser.submit(decision="deny"))
    assert (back["error"], back["state"], back["iss"]) == ("access_denied", "st 1&é", ISSUER)
    assert (await server.sql("SELECT status FROM consent WHERE consent_id = $1", consent.consent_id))[0][0] == "RJCT"
    assert (await browser.open(request_uri)).status_code == 400


async def test_a_customer_may_cancel_before_logging_in(server: Server) -> None:
    browser = server.browser()
    await browser.open(await server.push(await server.consent()))
    assert answer_of(await browser.submit(decision="deny"))["error"] == "access_denied"


# --- pushing -----------------------------------------------------------------------------------------------------
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


# --- the browser -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("request_uri", ["", "x", "urn:ietf:params:oauth:request_uri:unknown", CALLBACK, "é" * 300])
async def test_an_unknown_request_is_a_page_and_never_a_redirect(server: Server, request_uri: str) -> None:
    page = await server.browser().open(request_uri)
    assert page.status_code == 400
    assert page.headers["content-type"].startswith("text/html")
    assert "location" not in page.headers


async def test_parameters_beside_the_pushed_ones_are_ignored(server: Server) -> None:
    """An open redirect would be one of them."""
    request_uri = await server.push(await server.consent())
    browser = server.browser()
    browser.page = await browser.http.get(
        "/oauth/authorize",
        params={"client_id": "parkco-app", "request_uri": request_uri, "redirect_uri": "https://evil.example/",
                "state": "evil", "response_type": "token"},
    )  # fmt: skip
    back = answer_of(await browser.submit(decision="deny"))
    assert back["state"] == "st 1&é"


async def test_a_request_that_was_not_pushed_is_refused(server: Server) -> None:
    form = {**server.request(await server.consent(), V), "client_id": "parkco-app"}
    assert (await server.http.get("/oauth/authorize", params=form)).status_code == 400


async def test_another_clients_request_uri_is_refused(server: Server) -> None:
    request_uri = await server.push(await server.consent())
    assert (await server.browser().open(request_uri, client_id="shopco-app")).status_code == 400


async def test_a_request_is_opened_in_time_or_not_at_all(server: Server) -> None:
    consent = await server.consent()
    request_uri = await server.push(consent)
    browser = server.browser()
    await browser.open(request_uri)
    await server.sql("UPDATE pushed_request SET expires_ms = 1 WHERE consent_id = $1", consent.consent_id)
    assert (await browser.open(request_uri)).status_code == 200  # the browser that opened it in time
    assert (await server.browser().open(request_uri)).status_code == 400
    await server.sql("UPDATE pushed_request SET ends_ms = 1 WHERE consent_id = $1", consent.consent_id)
    form = browser.page
    assert (await browser.open(request_uri)).status_code == 400
    browser.page = form
    assert (await browser.log_in()).status_code == 403


async def test_a_completed_request_does_not_come_again(server: Server) -> None:
    request_uri = await server.push(await server.consent())
    browser = server.browser()
    await browser.open(request_uri)
    await browser.log_in()
    form = browser.page
    answer_of(await browser.approve())
    assert (await browser.open(request_uri)).status_code == 400
    browser.page = form
    assert (await browser.approve()).status_code == 400


async def test_a_wrong_passcode_shows_the_page_again_and_five_are_enough(server: Server) -> None:
    browser = server.browser()
    await browser.open(await server.push(await server.consent()))
    for _ in range(5):
        page = await browser.log_in(passcode="000000")
        assert page.status_code == 400
        assert 'id="login-error"' in page.text
    assert (await browser.log_in()).status_code == 429


async def test_a_form_from_elsewhere_is_refused(server: Server) -> None:
    """CSRF: without the cookie, with another browser's token, with another page's token, or from another site."""
    request_uri = await server.push(await server.consent())
    mine, other = server.browser(), server.browser()
    page = await mine.open(request_uri)
    fields = {**hidden(page.text), "login": "demo-1", "passcode": "246810", "decision": "login"}
    assert (await other.http.post("/oauth/login", data=fields)).status_code == 403
    assert (await mine.http.post("/oauth/login", data={**fields, "csrf": "x"})).status_code == 403
    assert (await mine.http.post("/oauth/consent", data={**fields, "decision": "approve"})).status_code == 403
    cross = {"Sec-Fetch-Site": "cross-site"}
    assert (await mine.http.post("/oauth/login", data=fields, headers=cross)).status_code == 403
    assert (await mine.http.post("/oauth/login", data=fields, headers={"Sec-Fetch-Site": "same-origin"})).is_redirect


async def test_a_consent_form_before_the_login_is_refused(server: Server) -> None:
    request_uri = await server.push(await server.consent())
    mine, victim = server.browser(), server.browser()
    await victim.open(request_uri)
    await victim.log_in()
    consent_page = victim.page
    await mine.open(request_uri)  # the attacker opens the same request: the victim's login is void
    victim.page = consent_page
    assert (await victim.approve()).status_code == 403
    assert 'id="login-form"' in mine.page.text  # type: ignore[union-attr]


async def test_the_cookie_changes_with_the_login(server: Server) -> None:
    browser = server.browser()
    await browser.open(await server.push(await server.consent()))
    before = browser.http.cookies["parasol"]
    await browser.log_in()
    assert browser.http.cookies["parasol"] != before


async def test_accounts_of_somebody_else_cannot_be_shared(server: Server) -> None:
    browser = server.browser()
    await browser.open(await server.push(await server.consent()))
    await browser.log_in()
    for fields in ({"account.1": "acc_other"}, {}):
        page = await browser.submit(decision="approve", **fields)
        assert page.status_code == 400
        assert 'id="consent-error"' in page.text


async def test_another_customer_cannot_confirm_a_consent(server: Server) -> None:
    consent = await server.consent()
    await server.tokens(consent)
    browser = server.browser()
    await browser.open(await server.push(consent))
    await browser.log_in("demo-2")
    assert answer_of(await browser.approve())["error"] == "access_denied"


async def test_pages_are_closed_to_scripts_frames_and_other_sites(server: Server) -> None:
    page = await server.browser().open(await server.push(await server.consent()))
    policy = page.headers["content-security-policy"]
    for directive in ("default-src 'none'", "script-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert directive in policy
    assert policy.endswith("form-action 'self' https://parkco.example")
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in page.headers
    assert "<script" not in page.text
    cookie = page.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


async def test_a_partner_that_was_suspended_is_not_shown(server: Server) -> None:
    request_uri = await server.push(await server.consent())
    server.change_partner(state=PartnerState.SUSPENDED)
    assert (await server.browser().open(request_uri)).status_code == 403


async def test_an_address_that_was_taken_away_is_not_redirected_to(server: Server) -> None:
    request_uri = await server.push(await server.consent())
    server.change_app(redirect_uris=("https://parkco.example/new",))
    assert (await server.browser().open(request_uri)).status_code == 400


async def test_a_consent_that_was_cancelled_meanwhile_goes_back_denied(server: Server) -> None:
    consent = await server.consent()
    request_uri = await server.push(consent)
    browser = server.browser()
    await browser.open(request_uri)
    await browser.log_in()
    async with server.database.transaction() as conn:
        await consents.revoke(conn, consent.consent_id, partner_id="parkco", actor="partner", now_ms=1)
    assert answer_of(await browser.approve())["error"] == "access_denied"


def test_the_challenge_of_these_tests_is_the_rfcs() -> None:
    assert challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


async def test_a_nul_character_is_refused_wherever_it_stands(server: Server) -> None:
    """PostgreSQL keeps none in a text: it must end in a no, not in a failure."""
    consent = await server.consent()
    address = f"/sandbox/v1/consents/{consent.consent_id}/authorisation"
    assert (await server.http.post("/sandbox/v1/consents/a%00b/authorisation")).status_code == 404
    assert (await server.http.post(address, json={"CustomerId": "a\0b"})).status_code == 400
    assert (await server.http.get("/oauth/authorize?client_id=a%00b&request_uri=x")).status_code == 400
    refused(await server.post("/oauth/introspect", {"token": "a\0b"}, proof=None), "invalid_request")


async def test_json_nested_without_end_is_refused(server: Server) -> None:
    address = "/sandbox/v1/consents/cns_1/authorisation"
    assert (await server.http.post(address, content=b'{"x":' * 5000)).status_code == 400
