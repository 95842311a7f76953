"""The customer's browser at our pages: what is shown to whom, and the attacks that a browser can be used for."""

import pytest

from gateway.consents import store as consents
from gateway.partners.partner import PartnerState
from tests.api.oauth.conftest import CALLBACK, Server, answer_of, challenge, hidden
from tests.api.oauth.test_client_credentials import refused


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
    form = {**server.request(await server.consent(), "v" * 43), "client_id": "parkco-app"}
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


async def test_a_look_at_an_authorization_leaves_it_to_the_customers_browser(server: Server) -> None:
    """HEAD bound the request to whoever had sent it, and took a sandbox's approval."""
    consent = await server.consent()
    request_uri = await server.push(consent)
    await server.http.post(f"/sandbox/v1/consents/{consent.consent_id}/authorisation")
    address = {"client_id": "parkco-app", "request_uri": request_uri}
    looked = await server.browser().http.head("/oauth/authorize", params=address)
    assert (looked.status_code, looked.headers.get("set-cookie"), looked.headers.get("location")) == (200, None, None)
    assert looked.headers["content-type"].startswith("text/html")
    [row] = await server.sql("SELECT * FROM pushed_request WHERE consent_id = $1", consent.consent_id)
    assert (row["browser"], row["completed_ms"]) == (None, None)
    assert "code" in answer_of(await server.browser().open(request_uri))


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
