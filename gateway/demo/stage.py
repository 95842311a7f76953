"""The people of the journey: partners with their credentials, a customer with a browser, the bank's operators."""

import hashlib
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
from cryptography.hazmat.primitives import hashes, hmac

from gateway.demo.client import CallFailed, PartnerClient

V1 = "/partner/v1"
AISP, PISP = "/open-banking/v4.0/aisp", "/open-banking/v4.0/pisp"


class DemoCannotStart(Exception):
    """What is missing, and what to do."""


@dataclass(slots=True)
class Checks:
    """What the journey found; each is an assertion on what came over HTTP."""

    held: int = 0
    failed: list[str] = field(default_factory=list)

    def expect(self, name: str, holds: bool, found: object = "") -> bool:
        if holds:
            self.held += 1
        else:
            self.failed.append(f"{name}: {found}" if found != "" else name)
        return holds


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody of bank operations; `key` is the bearer key of the sandbox."""

    http: httpx.AsyncClient
    url: str
    key: str = field(repr=False)

    async def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}"}
        return await self.http.request(method, f"{self.url}/admin/v1{path}", json=body, headers=headers)


@dataclass(slots=True)
class Stage:
    """Everything a step of the journey needs."""

    http: httpx.AsyncClient
    url: str
    home: Path
    parkco: PartnerClient
    shopco: PartnerClient
    maker: Operator
    checker: Operator
    checks: Checks
    run: str  # distinguishes this run's people and numbers from an earlier run's
    notes: dict[str, Any] = field(default_factory=dict)

    def phone(self, number: int) -> str:
        """A made-up mobile number of this run."""
        digest = int(hashlib.sha256(f"{self.run} {number}".encode()).hexdigest(), 16)
        return f"+8613{digest % 10**9:09d}"

    async def sandbox(self, path: str, body: Any) -> dict[str, Any]:
        """A call of the sandbox bank's counter. Raises CallFailed."""
        response = await self.http.post(f"{self.url}/sandbox/v1{path}", json=body)
        if response.status_code >= 300:
            raise CallFailed(response)
        return dict(response.json()["Data"])


def open_stage(http: httpx.AsyncClient, *, url: str, home: Path) -> Stage:
    """Reads the sandbox's credentials. Raises DemoCannotStart."""
    folder = home / "sandbox"
    try:
        partners = {name: json.loads((folder / f"{name}.json").read_text()) for name in ("parkco", "shopco")}
        keys = {entry["id"]: entry["key"] for entry in json.loads((folder / "operators.json").read_text())}
        maker, checker = (Operator(http, url, keys[name]) for name in ("ops-maker", "ops-checker"))
        parkco, shopco = (_client(http, partners[name]) for name in ("parkco", "shopco"))
    except OSError as error:
        raise DemoCannotStart(
            f"{error.filename} cannot be read: start `parasol serve --sandbox --home {home}` first, or name its --home"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise DemoCannotStart(f"{folder} does not hold a sandbox's credentials: name another --home") from None
    return Stage(http, url, home, parkco, shopco, maker, checker, Checks(), secrets.token_hex(4))


def _client(http: httpx.AsyncClient, entry: Mapping[str, Any]) -> PartnerClient:
    """Raises KeyError, TypeError or ValueError where that is no partner's file."""
    if not entry["issuer"] or not entry["client_id"] or not entry["scopes"]:
        raise ValueError("no member may be empty")
    return PartnerClient(http, entry)


async def data(client: PartnerClient, method: str, path: str, **how: Any) -> dict[str, Any]:
    """`Data` of a call that must succeed. Raises CallFailed."""
    response = await client.call(method, path, **how)
    if response.status_code >= 300:
        raise CallFailed(response)
    return dict(response.json()["Data"])


async def identity_token(client: PartnerClient, phone: str, keys: Mapping[str, Any]) -> str:
    """The partner's own computation: HMAC-SM3 over the phone, so that no phone is ever sent."""
    mac = hmac.HMAC(urlsafe_b64decode(keys["Key"] + "=" * (-len(keys["Key"]) % 4)), hashes.SM3())
    mac.update(phone.encode())
    return f"idt_{keys['Epoch']}_{urlsafe_b64encode(mac.finalize()).rstrip(b'=').decode()}"


async def browse_consent(
    http: httpx.AsyncClient, address: str, *, login: str, passcode: str, decision: str = "approve"
) -> str:
    """The customer's way through the login and consent pages, as a browser walks it; returns the last redirect."""
    page = await http.get(address)
    form = read_form(page)
    page = await http.post(form.action, data={**form.fields, "login": login, "passcode": passcode, "decision": "login"})
    while page.status_code == 303 and "code=" not in page.headers["location"]:
        page = await http.get(urljoin(str(page.url), page.headers["location"]))
    form = read_form(page)
    page = await http.post(form.action, data={**form.fields, "decision": decision})
    if page.status_code != 303:
        raise CallFailed(page)
    return page.headers["location"]


@dataclass(frozen=True, slots=True)
class Form:
    """The one form of a page: where it goes, and what is filled in or ticked."""

    action: str
    fields: dict[str, str]


def read_form(page: httpx.Response) -> Form:
    """Raises CallFailed for a page without a form."""
    reader = _FormReader()
    reader.feed(page.text)
    if page.status_code != 200 or not reader.action:
        raise CallFailed(page)
    return Form(urljoin(str(page.url), reader.action), reader.fields)


class _FormReader(HTMLParser):
    """Hidden fields, and choices that are ticked, or all boxes where the customer may tick several."""

    def __init__(self) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name, kind = given.get("name") or "", given.get("type")
        if tag == "form":
            self.action = given.get("action") or ""
        elif tag == "input" and (kind in ("hidden", "checkbox") or (kind == "radio" and "checked" in given)):
            self.fields[name] = given.get("value") or ""
