"""Every page in a real browser: on a phone and on a desk, light and dark, English and Chinese. Debian's Chromium.

With SCREENSHOTS=FOLDER each page is also kept as a picture, to be looked at.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Page, async_playwright

from gateway.corebank.sandbox.people import DEMO_PASSCODE
from gateway.demo.client import PartnerClient
from gateway.referrals.qr import qr_svg
from tests.conftest import CONSENTS, ROOT
from tests.faults.serving import Serving, serving

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="no browser is installed (Debian: apt install chromium)"),
]
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip
AUDIT = (Path(__file__).parent / "audit.js").read_text()
PHONE, DESK = {"width": 375, "height": 740}, {"width": 1280, "height": 800}
DEMO_S = 300
OPEN_PAGES = {
    "welcome": "/",
    "portal": "/portal",
    "errors": "/portal/errors",
    **{
        f"reference-{path.stem}": f"/portal/reference/{path.stem}" for path in sorted((ROOT / "openapi").glob("*.yaml"))
    },
    "no-contract": "/portal/reference/nothing",
    "no-path": "/console/nothing",
    "no-link": "/r/nonsense",
    "not-pushed": "/oauth/authorize",
    "landing": "/sandbox/v1/landings/open-account?ScanTicket=tkt_abcdefghijklmnopqrstuvwxyz0",
    "landing-without-ticket": "/sandbox/v1/landings/open-account",
    "no-landing": "/sandbox/v1/landings/nothing",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A gateway whose pages have something to show: the demonstration went through it."""
    with serving(tmp_path_factory.mktemp("pages"), workers=1) as gateway:
        demo = [sys.executable, "-m", "gateway.cli", "demo", "--url", gateway.address, "--home", str(gateway.home)]
        subprocess.run(demo, check=True, timeout=DEMO_S, stdout=subprocess.DEVNULL)
        yield gateway


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        await opened.close()


@dataclass(slots=True)
class Reader:
    """Goes from page to page and notes what is wrong with each."""

    page: Page
    served: Serving
    language: str
    folder: str
    wrong: dict[str, list[str]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    async def open(self, name: str, address: str) -> None:
        await self.page.goto(address if address.startswith("http") else self.served.address + address)
        await self.look(name)

    async def look(self, name: str) -> None:
        self.seen.append(name)
        faults = await self.page.evaluate(AUDIT, self.language)
        if faults:
            self.wrong[name] = faults
        pictures = os.environ.get("SCREENSHOTS")
        if pictures:
            await self.page.screenshot(path=f"{pictures}/{self.folder}/{name}.png", full_page=True)

    async def press(self, name: str, button: str, **typed: str) -> None:
        for field_id, text in typed.items():
            await self.page.fill(f"#{field_id}", text)
        await self.page.click(button)
        await self.look(name)


@pytest.mark.parametrize("language", ["en", "zh-CN"])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
async def test_every_page_is_readable(
    served: Serving, browser: Browser, size: dict[str, int], theme: str, language: str
) -> None:
    context = await browser.new_context(
        viewport={"width": size["width"], "height": size["height"]}, color_scheme=theme, locale=language
    )
    reader = Reader(await context.new_page(), served, language, f"{size['width']}-{theme}-{language}")
    await read_open_pages(reader)
    await read_console(reader)
    await read_consents(reader)
    await context.close()
    assert reader.wrong == {}
    assert len(reader.seen) >= 24


async def read_open_pages(reader: Reader) -> None:
    for name, address in OPEN_PAGES.items():
        await reader.open(name, address)


async def read_console(reader: Reader) -> None:
    await reader.open("console-login", "/console")
    await reader.press("console-refused", "#enter", key="pop_nothing")
    operators = json.loads((reader.served.home / "sandbox" / "operators.json").read_text())
    await reader.page.goto(reader.served.address + "/console")
    await reader.press("console", "#enter", key=operators[0]["key"])


async def read_consents(reader: Reader) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        credentials = json.loads((reader.served.home / "sandbox" / "parkco.json").read_text())
        parkco = PartnerClient(http, credentials)
        await give_consent(parkco, "accounts")
        await reader.open("login", await ask_for_consent(parkco, "accounts"))
        await reader.press("login-refused", "#login-submit", login="nobody", passcode="000000")
        await reader.press("consent", "#login-submit", login="demo-1", passcode=DEMO_PASSCODE)
        await reader.page.evaluate("document.querySelectorAll('input').forEach((box) => box.checked = false)")
        await reader.press("consent-without-account", "#consent-approve")
        await reader.page.goto(await ask_for_consent(parkco, "payments"))
        await reader.press("mandate", "#login-submit", login="demo-1", passcode=DEMO_PASSCODE)
    await reader.open("consents-login", "/consents")
    await reader.press("consents", "#login-submit", login="demo-1", passcode=DEMO_PASSCODE)
    await reader.page.click("#logout")
    await reader.press("consents-none", "#login-submit", login="demo-3", passcode=DEMO_PASSCODE)
    await reader.page.click("#logout")
    await reader.page.evaluate("document.querySelector('[name=csrf]').value = 'x'")
    await reader.press("form-forged", "#login-submit", login="demo-3", passcode=DEMO_PASSCODE)


async def make_consent(client: PartnerClient, scope: str) -> tuple[str, str]:
    """Its kind and its id."""
    kind, path, body = CONSENTS[scope]
    made = await client.call("POST", path, body=body, sign="jws" if scope == "payments" else "")
    assert made.status_code == 201, made.text
    consent: dict[str, Any] = made.json()["Data"]
    return kind, consent["ConsentId"]


async def give_consent(client: PartnerClient, scope: str) -> None:
    kind, consent_id = await make_consent(client, scope)
    await client.approve(consent_id, kind=kind, scope=scope)


async def ask_for_consent(client: PartnerClient, scope: str) -> str:
    """The address that the customer's browser is sent to."""
    kind, consent_id = await make_consent(client, scope)
    address, _ = await client.push(consent_id, kind=kind, scope=scope)
    return address


async def test_a_chosen_language_stays_and_the_same_page_is_shown(served: Serving, browser: Browser) -> None:
    context = await browser.new_context(locale="en-US")
    page = await context.new_page()
    await page.goto(f"{served.address}/portal/errors?x=1")
    await page.click(".language")
    assert page.url == f"{served.address}/portal/errors?x=1"
    assert await page.locator("h1").inner_text() == "错误码"
    await page.goto(f"{served.address}/console")
    assert await page.get_attribute("html", "lang") == "zh-CN"
    await page.click(".language")
    assert await page.get_attribute("html", "lang") == "en"
    await context.close()


async def test_a_qr_code_is_read_on_a_dark_page(served: Serving, browser: Browser) -> None:
    """Its quiet zone is white whatever lies below."""
    context = await browser.new_context(color_scheme="dark")
    page = await context.new_page()
    await page.goto("about:blank")
    await page.set_content(f"<body style='background:#181b20;margin:0'>{qr_svg('https://bank.example/r/x').decode()}")
    shot = await page.screenshot(clip={"x": 0, "y": 0, "width": 2, "height": 2})
    assert shot == await white_pixels(page)
    await context.close()


async def white_pixels(page: Page) -> bytes:
    await page.set_content("<body style='background:white'>")
    return await page.screenshot(clip={"x": 0, "y": 0, "width": 2, "height": 2})


async def test_a_page_with_faults_is_not_passed_over(browser: Browser) -> None:
    """The questions themselves: each fault of this page is found."""
    page = await browser.new_page(viewport={"width": 375, "height": 740})
    await page.set_content(
        "<html lang=fr><body style='background:#fff'><h1>Twice</h1><p>Twice</p><p style='color:#999'>pale</p>"
        "<input id=x style='border:1px solid #ddd'><pre style='width:900px'>wide</pre>"
    )
    found = await page.evaluate(AUDIT, "en")
    for fault in (
        "lang is fr",
        "no viewport",
        "wider than the window",
        "stands twice",
        "text at",
        "edge at",
        "no label",
    ):
        assert any(fault in sentence for sentence in found), (fault, found)
