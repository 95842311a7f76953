"""A partner, a customer and a browser around the authorization server: real database, real sandbox bank, real HTTP."""

import json
import re
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from html import unescape
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import httpx
import jwt
import pytest

from gateway.admission.addresses import AddressRule, AddressThrottle
from gateway.admission.possession import CertificateReader
from gateway.clock import now_ms
from gateway.consents import store as consents
from gateway.consents.consent import Consent, ConsentKind
from gateway.corebank.sandbox.bank import Clock, SandboxBank
from gateway.corebank.sandbox.people import DEMO_PASSCODE, Counter
from gateway.database import Database
from gateway.edge import Edge, Table
from gateway.keyring import Keyring, read_kek
from gateway.oauth.api import OAuthApi, oauth_templates
from gateway.oauth.browser import Browser as Forms
from gateway.oauth.sandbox import SandboxApi
from gateway.oauth.tokens import VerifiedToken, verify_access_token
from gateway.oauth.vouching import Vouching
from gateway.oauth.withdrawal import COOKIE, WithdrawalPages
from gateway.partners.identity import IdentityKeys
from gateway.partners.partner import App, Partner, PartnerState
from gateway.partners.snapshot import Snapshot
from gateway.policies.limits import Limiter
from gateway.policies.policy import SCOPES, Policy, Rate
from gateway.policies.throttle import Throttle
from gateway.routes import OPERATIONS
from tests.conftest import settings_for, with_database
from tests.unit.oauth.signing import ISSUER, KEYS, app, public_jwk

_BROWSERS = count(1)
CALLBACK = "https://parkco.example/cb?x=1"
SETTLEMENT, PAYEE = "62228888", "ParkCo Parking (Shanghai) Ltd"  # the account agreed, and its holder as the bank knows
VRP = {
    "ReadRefundAccount": "Yes",
    "ControlParameters": {
        "MaximumIndividualAmount": {"Amount": "100.00", "Currency": "CNY"},
        "PeriodicLimits": [
            {"PeriodType": "Month", "PeriodAlignment": "Calendar", "Amount": "2000.00", "Currency": "CNY"}
        ],
        "VRPType": ["UK.OBIE.VRPType.Other"],
        "PSUAuthenticationMethods": ["UK.OBIE.SCANotRequired"],
    },
    "Initiation": {"CreditorAccount": {"Name": "ParkCo City Parking", "Identification": SETTLEMENT, "SchemeName": "x"}},
}
GENEROUS = dict.fromkeys(("client", "page", "log-in"), AddressRule(Rate(1_000_000, 1_000_000), refused_only=False))
AIS = {"Permissions": ["ReadAccountsBasic", "ReadBalances", "ReadTransactionsBasic", "ReadTransactionsDebits"]}


@dataclass(slots=True)
class Keeper:
    """What a worker knows; tests change it as an operator would."""

    current: Snapshot


@dataclass(slots=True)
class Server:
    """The authorization server and its surroundings."""

    http: httpx.AsyncClient
    edge: Edge
    database: Database
    keyring: Keyring
    keeper: Keeper
    counter: Counter

    # --- the partner's side ------------------------------------------------------------------------------------------
    def assertion(self, *, client_id: str = "parkco-app", alg: str = "ES256", **claims: Any) -> dict[str, str]:
        now = int(time.time())
        said = {
            "iss": client_id, "sub": client_id, "aud": ISSUER, "jti": uuid.uuid4().hex, "iat": now, "exp": now + 60,
            **claims,
        }  # fmt: skip
        return {
            "client_id": client_id,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": jwt.encode(said, KEYS[alg], algorithm=alg, headers={"kid": alg}),
        }

    def proof(self, path: str, *, alg: str = "ES256", **claims: Any) -> str:
        said = {"jti": uuid.uuid4().hex, "htm": "POST", "htu": ISSUER + path, "iat": int(time.time()), **claims}
        header = {"typ": "dpop+jwt", "jwk": public_jwk(alg)}
        return jwt.encode(said, KEYS[alg], algorithm=alg, headers=header)

    async def post(self, path: str, form: dict[str, str], *, proof: str | None = "", **more: Any) -> httpx.Response:
        """`proof` "": a fresh one; None: none."""
        client_id, alg = more.pop("client_id", "parkco-app"), more.pop("alg", "ES256")
        fields = {**self.assertion(client_id=client_id), **form}
        headers = more.pop("headers", {})
        if proof is not None:
            headers["DPoP"] = proof or self.proof(path, alg=alg)
        present = {name: value for name, value in fields.items() if value is not None}
        return await self.http.post(path, data=present, headers=headers, **more)

    async def consent(self, kind: str = "account-access", *, client_id: str = "parkco-app", **more: Any) -> Consent:
        body = AIS if kind == "account-access" else VRP
        async with self.database.transaction() as conn:
            return await consents.create(
                conn, partner_id=client_id.removesuffix("-app"), client_id=client_id, kind=ConsentKind(kind),
                body=more.pop("body", body), expires_ms=more.pop("expires_ms", None), now_ms=now_ms(),
            )  # fmt: skip

    def request(self, consent: Consent, verifier: str, **more: Any) -> dict[str, Any]:
        """A good authorization request."""
        detail = {"type": f"{consent.kind}-consent", "consent_id": consent.consent_id}
        return {
            "response_type": "code", "redirect_uri": CALLBACK, "state": "st 1&é", "scope": consent.kind.scope,
            "code_challenge": challenge(verifier), "code_challenge_method": "S256",
            "authorization_details": json.dumps([detail]), **more,
        }  # fmt: skip

    async def push(self, consent: Consent, *, verifier: str = "v" * 43, **more: Any) -> str:
        response = await self.post("/oauth/par", self.request(consent, verifier, **more))
        assert response.status_code == 201, response.text
        return str(response.json()["request_uri"])

    async def redeem(self, code: str, *, verifier: str | None = "v" * 43, **more: Any) -> httpx.Response:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": verifier}
        return await self.post("/oauth/token", {**form, **more.pop("form", {})}, **more)

    def read(self, token: str) -> VerifiedToken:
        return verify_access_token(token, keys=self.keyring, issuer=ISSUER, audience=ISSUER)

    # --- the customer's side -----------------------------------------------------------------------------------------
    def browser(self) -> "Browser":
        """At an address of its own: failed log-ins of the tests before are none of its concern."""
        number = next(_BROWSERS)
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        transport = httpx.ASGITransport(app=self.edge, client=(address, 40000))
        return Browser(httpx.AsyncClient(transport=transport, base_url=ISSUER))

    async def code(self, consent: Consent, **more: Any) -> str:
        """The whole way through the pages."""
        request_uri = await self.push(consent, **more)
        browser = self.browser()
        await browser.open(request_uri)
        await browser.log_in()
        return answer_of(await browser.approve())["code"]

    async def tokens(self, consent: Consent) -> dict[str, Any]:
        response = await self.redeem(await self.code(consent))
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    # --- the bank's side ---------------------------------------------------------------------------------------------
    def change_partner(self, **changes: Any) -> None:
        partners = dict(self.keeper.current.partners)
        partners["parkco"] = replace(partners["parkco"], **changes)
        self.keeper.current = replace(self.keeper.current, partners=partners)

    def change_app(self, **changes: Any) -> None:
        apps = dict(self.keeper.current.apps)
        apps["parkco-app"] = replace(apps["parkco-app"], **changes)
        self.keeper.current = replace(self.keeper.current, apps=apps)

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        async with self.database.connection() as conn:
            return list(await conn.fetch(statement, *values))


@dataclass(slots=True)
class Browser:
    """A browser without scripts: it keeps cookies and sends the forms of the page that it shows."""

    http: httpx.AsyncClient
    page: httpx.Response | None = None

    async def open(self, request_uri: str, *, client_id: str = "parkco-app") -> httpx.Response:
        self.page = await self.http.get("/oauth/authorize", params={"client_id": client_id, "request_uri": request_uri})
        return self.page

    async def submit(self, **fields: str) -> httpx.Response:
        """The form on the page, with these fields filled in."""
        assert self.page is not None
        action = re.search(r'action="([^"]+)"', self.page.text)
        assert action is not None, self.page.text
        sent = await self.http.post(action[1], data={**hidden(self.page.text), **fields})
        if sent.status_code == 303 and sent.headers["location"].startswith(ISSUER):
            self.page = await self.http.get(sent.headers["location"])
        elif sent.headers.get("content-type", "").startswith("text/html"):
            self.page = sent
        return sent

    async def log_in(self, login: str = "demo-1", passcode: str = DEMO_PASSCODE) -> httpx.Response:
        return await self.submit(login=login, passcode=passcode, decision="login")

    async def approve(self) -> httpx.Response:
        """Every account on the page, or the first of the radio buttons."""
        assert self.page is not None
        boxes = re.findall(r'type="(?:checkbox|radio)" name="([^"]+)"[^>]* value="([^"]+)"', self.page.text)
        return await self.submit(**dict(reversed(boxes)), decision="approve")


def hidden(html: str) -> dict[str, str]:
    return {name: unescape(value) for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', html)}


def challenge(verifier: str) -> str:
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def answer_of(response: httpx.Response) -> dict[str, str]:
    """What came back to the client in the redirect."""
    assert response.status_code == 303, response.text
    location = response.headers["location"]
    assert location.startswith(CALLBACK + "&"), location
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items() if name != "x"}


def _snapshot() -> Snapshot:
    apps = {"parkco-app": app(), "shopco-app": replace(app(), client_id="shopco-app", partner_id="shopco")}
    policy = Policy("p", 1, frozenset(), SCOPES, Rate(10_000, 10_000), {}, frozenset(("CNY",)), 1)
    partners = {a.partner_id: _partner(a) for a in apps.values()}
    return Snapshot(1, partners, apps, dict.fromkeys(partners, policy), {}, frozenset())


def _partner(of: App) -> Partner:
    name = {"parkco": ("ParkCo City Parking", "泊客城市停车")}.get(of.partner_id, ("ShopCo", "小店"))
    return Partner(of.partner_id, *name, "trade", PartnerState.ACTIVE, "p", (of,), settlement_account=SETTLEMENT)


def _operations(*rooms: Any) -> Any:
    """The rows of the operation table that are these rooms'."""
    by_type = {type(room): room for room in rooms}
    for operation in OPERATIONS:
        if operation.room in by_type:
            yield replace(operation, endpoint=partial(operation.endpoint, by_type[operation.room]))


@pytest.fixture(scope="session")
async def one_server(home: Path, server_url: str, template: str) -> AsyncIterator[Server]:
    """One database for all of these tests: nothing here counts rows of others, and each request is fresh anyway."""
    await _admin(server_url, f"CREATE DATABASE oauth_tests TEMPLATE {template}")
    url = with_database(server_url, "oauth_tests")
    settings = settings_for(home, url, client_cert_header="x-client-cert", trusted_proxies="127.0.0.1/32")
    database = await Database.connect(url, pool_size=4)
    keyring = Keyring(read_kek(settings.home_path, make=True))
    async with database.transaction() as conn:
        await keyring.ensure(conn)
    counter, bank = Counter(database), SandboxBank(database, Clock(now_ms))
    await counter.seed([(SETTLEMENT, PAYEE)], currency="CNY")
    keeper: Any = Keeper(_snapshot())
    oauth = OAuthApi.build(
        settings, database=database, keyring=keyring, snapshots=keeper, corebank=bank, counter=counter,
        limiter=Limiter(None), throttle=Throttle(None, secret=b"log-ins of tests"),
    )  # fmt: skip
    vouching = Vouching(bank, IdentityKeys(database, keyring))
    certificates = CertificateReader(header=settings.client_cert_header, trusted=settings.trusted_proxies)
    nothing: Any = None
    withdrawal = WithdrawalPages(
        database, keeper, Forms(issuer=ISSUER, secret=b"tests", cookie=COOKIE), oauth.journey.logins,
        oauth_templates(), ISSUER, counter,
    )  # fmt: skip
    edge = Edge(
        Table(_operations(oauth, withdrawal, SandboxApi(database, bank, counter, vouching))), door=nothing,
        operators=nothing,
        certificates=certificates, sign=lambda body, moment_ms: "", fallback=nothing,
        addresses=AddressThrottle(Throttle(None, secret=b"tests"), GENEROUS),
    )  # fmt: skip
    transport = httpx.ASGITransport(app=edge, client=("127.0.0.1", 40000))
    async with httpx.AsyncClient(transport=transport, base_url=ISSUER) as http:
        yield Server(http, edge, database, keyring, keeper, counter)
    await database.close()
    await _admin(server_url, "DROP DATABASE oauth_tests WITH (FORCE)")


@pytest.fixture
def server(one_server: Server) -> Server:
    """With the partners as agreed, whatever a test before did to them."""
    one_server.keeper.current = _snapshot()
    return one_server


async def _admin(url: str, statement: str) -> None:
    admin = await asyncpg.connect(url)
    try:
        await admin.execute(statement)
    finally:
        await admin.close()
