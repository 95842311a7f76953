"""The authorization server's endpoints. What each checks, and in which order, is in steps.py and visit.py."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2

from gateway.call import Answer, OpenCall
from gateway.consents import store as consents
from gateway.consents.consent import ConsentNotInForce
from gateway.corebank.port import CoreBank
from gateway.corebank.sandbox.people import Counter
from gateway.database import Connection, Database
from gateway.keyring import Keyring
from gateway.oauth import questions, store
from gateway.oauth.asking import Asking, walk
from gateway.oauth.browser import Browser
from gateway.oauth.consent_view import masked
from gateway.oauth.core import TokenCore
from gateway.oauth.grants import CORE_GRANTS, GRANTS, WITHOUT_ROWS
from gateway.oauth.journey import Journey
from gateway.oauth.login import Logins
from gateway.oauth.login_guard import LoginGuard
from gateway.oauth.metadata import metadata
from gateway.oauth.refusals import DetailsRefused
from gateway.oauth.replay import SpentTokens
from gateway.oauth.settling import settle, spend
from gateway.oauth.steps import steps_of
from gateway.oauth.visit import REQUEST_S, REQUEST_URI
from gateway.oauth.vouching import Vouching
from gateway.partners.identity import IdentityKeys
from gateway.partners.snapshot import SnapshotKeeper
from gateway.policies.limits import Limiter
from gateway.policies.throttle import Throttle
from gateway.settings import Settings
from gateway.templates import template_environment

NO_STORE = (("cache-control", "no-store"), ("pragma", "no-cache"))  # RFC 6749 §5.1
METADATA_HEADERS = (("cache-control", "public, max-age=300"),)
PAR, TOKEN, REVOKE, INTROSPECT = map(steps_of, ("par", "token", "revoke", "introspect"))


@dataclass(frozen=True, slots=True)
class OAuthApi:
    """One instance a worker; made by `OAuthApi.build`, with the sandbox bank's `counter` in a sandbox."""

    database: Database
    spent: SpentTokens
    keyring: Keyring
    snapshots: SnapshotKeeper
    journey: Journey
    core: TokenCore
    issuer: str
    limiter: Limiter
    metadata_document: dict[str, Any]

    @classmethod
    def build(
        cls,
        settings: Settings,
        *,
        database: Database,
        keyring: Keyring,
        snapshots: SnapshotKeeper,
        corebank: CoreBank,
        counter: Counter | None,
        limiter: Limiter,
        throttle: Throttle,
    ) -> "OAuthApi":
        templates = oauth_templates()
        browser = Browser(issuer=settings.issuer, secret=keyring.secret("oauth forms"))
        guard = LoginGuard(issuer=settings.issuer, secret=keyring.secret("log-ins"), limiter=limiter, throttle=throttle)
        logins = Logins(database, corebank, guard)
        return cls(
            database=database,
            spent=SpentTokens(database),
            keyring=keyring,
            snapshots=snapshots,
            journey=Journey(
                database, corebank, Vouching(corebank, IdentityKeys(database, keyring)), snapshots, browser, templates,
                settings.issuer, logins, counter,
            ),
            core=TokenCore(keyring, issuer=settings.issuer, grants=CORE_GRANTS),
            issuer=settings.issuer,
            limiter=limiter,
            metadata_document=metadata(settings.issuer, certificates=bool(settings.client_cert_header)),
        )  # fmt: skip

    # --- what anybody may read -----------------------------------------------------------------------------------
    async def oauth_metadata(self, call: OpenCall) -> Answer:
        """RFC 8414, under both well-known names."""
        return Answer(200, self.metadata_document, METADATA_HEADERS)

    async def jwks(self, call: OpenCall) -> Answer:
        """RFC 7517: the bank's public keys."""
        return Answer(200, self.keyring.jwks(), METADATA_HEADERS)

    # --- what a client asks --------------------------------------------------------------------------------------
    async def push(self, call: OpenCall) -> Answer:
        """RFC 9126: the authorization request, before the browser has anything to do with it."""
        asking = await self._asking(call, PAR)
        return await settle(self.database, asking, lambda conn: self._keep_pushed(conn, asking))

    async def token(self, call: OpenCall) -> Answer:
        """The grant loads its rows, the core decides, the grant writes: see grants/."""
        asking = await self._asking(call, TOKEN)
        if asking.form["grant_type"] in WITHOUT_ROWS:
            return await self._issue(None, asking)
        return await settle(self.database, asking, lambda conn: self._issue(conn, asking))

    async def revoke(self, call: OpenCall) -> Answer:
        """RFC 7009."""
        asking = await self._asking(call, REVOKE)
        await settle(self.database, asking, lambda conn: questions.revoke(conn, asking, keys=self.keyring))
        return Answer(200, None, NO_STORE)

    async def introspect(self, call: OpenCall) -> Answer:
        """RFC 7662."""
        asking = await self._asking(call, INTROSPECT)
        members = await settle(
            self.database, asking, lambda conn: questions.introspect(conn, asking, keys=self.keyring)
        )
        return Answer(200, members, NO_STORE)

    # --- what a customer sees ------------------------------------------------------------------------------------
    async def authorize(self, call: OpenCall) -> Answer:
        return await self.journey.open(call)

    async def login(self, call: OpenCall) -> Answer:
        return await self.journey.log_in(call)

    async def decide_consent(self, call: OpenCall) -> Answer:
        return await self.journey.decide(call)

    # --- how -----------------------------------------------------------------------------------------------------
    async def _asking(self, call: OpenCall, steps: tuple[Callable[[Asking], None], ...]) -> Asking:
        """What is asked, once all checks have passed and what it was proven with is spent."""
        asking = Asking(call, self.issuer, self.snapshots.current, self.limiter)
        walk(steps, asking)
        await spend(self.spent, asking)
        return asking

    async def _keep_pushed(self, conn: Connection, asking: Asking) -> Answer:
        """The consent is there, is this client's, and can be asked for; then 201."""
        details = asking.details
        assert details is not None, "read_details"
        consent = await consents.find(conn, details.consent_id)
        if consent is None or consent.client_id != asking.app.client_id or consent.kind is not details.kind:
            raise DetailsRefused("There is no such consent of this client")
        try:
            consent.check_can_be_asked(asking.now_ms)
        except ConsentNotInForce as refusal:
            raise DetailsRefused(refusal.detail) from None
        request_uri = REQUEST_URI + store.new_secret()
        await store.insert_pushed(
            conn,
            store.PushedRequest(
                digest=store.digest_of(request_uri),
                client_id=asking.app.client_id,
                consent_id=consent.consent_id,
                redirect_uri=asking.form["redirect_uri"],
                scopes=asking.scopes,
                state=asking.form.get("state"),
                challenge=asking.form["code_challenge"],
                jkt=asking.form.get("dpop_jkt") or (asking.sender.jkt if asking.sender else None),
                expires_ms=asking.now_ms + REQUEST_S * 1000,
            ),
        )
        return Answer(201, {"request_uri": request_uri, "expires_in": REQUEST_S}, NO_STORE)

    async def _issue(self, conn: Connection | None, asking: Asking) -> Answer:
        grant = GRANTS[asking.form["grant_type"]]
        rows = await grant.load(conn, asking)
        issued = self.core.decide(asking, rows)
        await grant.keep(conn, asking, rows=rows, issued=issued)
        return Answer(200, issued.answer, NO_STORE)


def oauth_templates() -> jinja2.Environment:
    """The pages of this package."""
    templates = template_environment(str(files("gateway.oauth") / "templates"))
    templates.filters["masked"] = masked
    return templates
