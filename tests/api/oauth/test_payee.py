"""Whom a customer is asked to pay: by the name that the bank has registered, never by one that a partner wrote."""

import re
from html import unescape
from typing import Any

import httpx
import pytest

from gateway.corebank.port import CoreBankUnavailable
from gateway.corebank.sandbox.bank import SandboxBank
from tests.api.oauth.conftest import PAYEE, SETTLEMENT, VRP, Server


async def consent_page(server: Server, *, written: str = "Tax Office", language: str = "en") -> httpx.Response:
    account = {"Name": written, "Identification": SETTLEMENT, "SchemeName": "x"}
    body = {**VRP, "Initiation": {"CreditorAccount": account}}
    browser = server.browser()
    browser.http.headers["accept-language"] = language
    await browser.open(await server.push(await server.consent("domestic-vrp", body=body)))
    await browser.log_in()
    assert browser.page is not None
    return browser.page


async def test_the_payee_is_who_the_bank_has_registered(server: Server) -> None:
    """A partner may write any name, and call itself any: the money goes to the account that it agreed with the bank."""
    text = (await consent_page(server)).text
    assert f"Collect payments to {PAYEE}: so the bank has registered the holder of the account **** 8888" in text
    assert f"向“{PAYEE}”付款" in (await consent_page(server, language="zh-CN")).text
    assert "calls the payee “Tax Office”; that is not the name that the bank has registered" in text
    assert "Collect payments to Tax Office" not in text


@pytest.mark.parametrize(
    "written", [PAYEE, PAYEE.upper(), f"  {PAYEE.replace(' ', '   ')}", "ParkCo Parking （Shanghai） Ltd"]
)
async def test_a_payee_that_the_partner_names_as_the_bank_does_is_named_once(server: Server, written: str) -> None:
    assert "calls the payee" not in (await consent_page(server, written=written)).text


async def test_what_a_partner_writes_is_text_on_the_page(server: Server) -> None:
    text = (await consent_page(server, written="</li><b id=x>Tax Office</b>")).text
    assert not re.search(r"<b id=.?x", text)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("Tax Office”, as the bank has checked. “", "“Tax Office', as the bank has checked. '”; that is not"),
        ("Tax\u202eecfifO", "“TaxecfifO”; that is not"),
        ("x" * 300, f"“{'x' * 70}…”; that is not"),
    ],
)
async def test_what_a_partner_writes_stays_between_its_quotation_marks(
    server: Server, written: str, shown: str
) -> None:
    assert shown in unescape((await consent_page(server, written=written)).text)


async def test_nobody_is_asked_to_pay_somebody_whom_the_bank_does_not_know(server: Server) -> None:
    server.change_partner(settlement_account="62220000")
    page = await consent_page(server)
    assert page.status_code == 409
    assert "consent-approve" not in page.text


async def test_while_the_bank_does_not_answer_nobody_is_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_answer(self: Any, account_number: str) -> str:
        raise CoreBankUnavailable

    monkeypatch.setattr(SandboxBank, "registered_holder", no_answer)
    page = await consent_page(server)
    assert page.status_code == 503
    assert "consent-approve" not in page.text
