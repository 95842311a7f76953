"""Where a customer takes a consent back: the page that consent pages name, and what strangers can do at it."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.consents.consent import Consent
from gateway.partners.partner import PartnerState
from tests.api.oauth.conftest import Browser, Server, hidden


@pytest.fixture(autouse=True)
async def afresh(server: Server) -> None:
    await server.sql("DELETE FROM login_failure")


@pytest.fixture
async def customer(server: Server) -> AsyncIterator[Browser]:
    """A browser at the page, nobody logged in."""
    browser = server.browser()
    async with browser.http:
        browser.page = await browser.http.get("/consents")
        yield browser


async def press(browser: Browser, action: str, **fields: str) -> httpx.Response:
    """The form of the page that goes there."""
    assert browser.page is not None
    forms = re.findall(r'<form[^>]* action="([^"]+)">(.*?)</form>', browser.page.text, re.DOTALL)
    inside = next(inside for to, inside in forms if to == action and all(value in inside for value in fields.values()))
    answer = await browser.http.post(action, data={**hidden(inside), **fields})
    browser.page = await browser.http.get("/consents")
    return answer


async def refreshes(server: Server, given: dict[str, str]) -> int:
    form = {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}
    return (await server.post("/oauth/token", form)).status_code


async def given(server: Server) -> tuple[Consent, dict[str, str]]:
    consent = await server.consent()
    return consent, await server.tokens(consent)


async def test_the_consent_page_says_where_to_take_it_back_and_that_page_is_there(server: Server) -> None:
    browser = server.browser()
    await browser.open(await server.push(await server.consent()))
    await browser.log_in()
    assert browser.page is not None
    found = re.search(r'<p id="withdrawal".*?<a href="([^"]+)">', browser.page.text, re.DOTALL)
    assert found is not None
    page = await server.http.get(found[1])
    assert page.status_code == 200
    assert 'id="login-form"' in page.text


async def test_a_consent_that_its_customer_takes_back_stops_at_once(server: Server, customer: Browser) -> None:
    consent, tokens = await given(server)
    assert await refreshes(server, tokens) == 200
    assert (await customer.log_in()).status_code == 303
    assert consent.consent_id in (customer.page.text if customer.page else "")
    back = await press(customer, "/consents/withdrawal", consent_id=consent.consent_id)
    assert back.status_code == 303
    assert await refreshes(server, tokens) == 400
    (row,) = await server.sql("SELECT actor FROM audit WHERE subject = $1 AND action = 'consent.cancelled'",
                              consent.consent_id)  # fmt: skip
    assert row["actor"].startswith("customer:")
    again = await customer.http.post(
        "/consents/withdrawal",
        data={**hidden(customer.page.text), "consent_id": consent.consent_id},  # type: ignore[union-attr]
    )
    assert again.status_code == 303  # it is back already


async def test_nobody_takes_back_what_another_customer_gave(server: Server, customer: Browser) -> None:
    consent, tokens = await given(server)
    await customer.log_in("demo-2")
    assert customer.page is not None
    assert consent.consent_id not in customer.page.text
    for consent_id in (consent.consent_id, "cns_nothing"):
        answer = await customer.http.post(
            "/consents/withdrawal", data={**hidden(customer.page.text), "consent_id": consent_id}
        )
        assert answer.status_code == 404
    assert await refreshes(server, tokens) == 200


async def test_a_withdrawal_that_another_site_sends_is_refused(server: Server, customer: Browser) -> None:
    consent, tokens = await given(server)
    await customer.log_in()
    assert customer.page is not None
    fields = {**hidden(customer.page.text), "consent_id": consent.consent_id}
    for path in ("/consents/withdrawal", "/consents/logout", "/consents/login"):
        forged = await customer.http.post(path, data={**fields, "csrf": "x" * 64})
        assert forged.status_code == 403
        elsewhere = await customer.http.post(path, data=fields, headers={"Sec-Fetch-Site": "cross-site"})
        assert elsewhere.status_code == 403
    stranger = await server.http.post("/consents/withdrawal", data=fields)
    assert stranger.status_code == 403
    assert await refreshes(server, tokens) == 200


async def test_after_the_log_out_the_cookie_opens_nothing(server: Server, customer: Browser) -> None:
    await customer.log_in()
    stolen = customer.http.cookies["parasol-consents"]
    assert (await press(customer, "/consents/logout")).status_code == 303
    page = await server.http.get("/consents", headers={"Cookie": f"parasol-consents={stolen}"})
    assert 'id="login-form"' in page.text


async def test_a_session_ends_by_itself(server: Server, customer: Browser) -> None:
    await customer.log_in()
    await server.sql("UPDATE person_session SET ends_ms = 1")
    page = await customer.http.get("/consents")
    assert 'id="login-form"' in page.text


async def test_a_wrong_passcode_opens_nothing_and_is_waited_for(customer: Browser) -> None:
    for _ in range(6):
        assert (await customer.log_in(passcode="000000")).status_code == 400
    assert (await customer.log_in()).status_code == 429


async def test_a_consent_to_a_partner_that_was_suspended_can_be_taken_back(server: Server, customer: Browser) -> None:
    consent, _ = await given(server)
    server.change_partner(state=PartnerState.SUSPENDED)
    await customer.log_in()
    assert (await press(customer, "/consents/withdrawal", consent_id=consent.consent_id)).status_code == 303


async def test_the_list_tells_where_payments_go_whether_the_bank_answers_or_not(
    server: Server, customer: Browser
) -> None:
    await server.tokens(await server.consent("domestic-vrp"))
    await customer.log_in()
    assert customer.page is not None
    assert (
        "Collect payments to the account **** 8888 that ParkCo City Parking agreed with the bank" in customer.page.text
    )
