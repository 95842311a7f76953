"""A customer's authorization over HTTP: push, log in, consent, code, tokens; and what must not work on the way."""

from typing import Any

import pytest

from tests.api.oauth.conftest import Server, answer_of
from tests.unit.oauth.signing import ISSUER


# --- the yes -----------------------------------------------------------------------------------------------------
async def test_a_customer_reads_who_asks_in_the_language_of_the_browser(server: Server) -> None:
    browser = server.browser()
    browser.http.headers["accept-language"] = "zh-CN,zh;q=0.9"
    page = await browser.open(await server.push(await server.consent("account-access")))
    assert "泊客城市停车" in page.text
    assert "ParkCo City Parking" not in page.text


@pytest.mark.parametrize("kind", ["account-access", "domestic-vrp"])
async def test_a_customer_consents_and_the_partner_gets_tokens(server: Server, kind: str) -> None:
    consent = await server.consent(kind)
    request_uri = await server.push(consent)
    browser = server.browser()
    page = await browser.open(request_uri)
    assert page.status_code == 200
    assert "ParkCo City Parking" in page.text
    assert "泊客城市停车" not in page.text  # one language at a time
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
