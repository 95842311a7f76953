"""Where a customer sees what was allowed to whom, and takes it back: log in, a list, one button a consent, log out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2

from gateway.call import Answer, OpenCall
from gateway.clock import rfc3339
from gateway.consents import store as consents
from gateway.consents.consent import Consent, ConsentStatus
from gateway.corebank.sandbox.people import DEMO_PASSCODE, Counter
from gateway.database import Database
from gateway.oauth import store
from gateway.oauth.asking import read_form
from gateway.oauth.browser import Browser, name_hash
from gateway.oauth.consent_view import view_of
from gateway.oauth.login import Logins
from gateway.oauth.refusals import FormForged, RequestInvalid
from gateway.pages import page_answer
from gateway.partners.snapshot import SnapshotKeeper
from gateway.refusal import Refusal

PATH = "/consents"
COOKIE = "parasol-consents"
SESSION_MS = 600_000  # ten minutes, as for giving one
SHOWN = 200  # consents of one customer, the newest
NO_DIGEST = b""  # these forms belong to no pushed request


class ConsentNotYours(Refusal):
    """None of this customer's, or none that is there."""

    status, code, outcome = 404, "consent_not_yours", "unknown"
    title = "You have given no such consent"


@dataclass(frozen=True, slots=True)
class WithdrawalPages:
    """One instance a worker. `counter` is the sandbox bank's, to show whom one can log in as."""

    database: Database
    snapshots: SnapshotKeeper
    browser: Browser
    logins: Logins
    templates: jinja2.Environment
    issuer: str
    counter: Counter | None

    async def show(self, call: OpenCall) -> Answer:
        """The list; the login form for a browser in which nobody is logged in."""
        name = self.browser.name(call)
        customer_id = await self._customer(name, now_ms=call.now_ms)
        if name is None or customer_id is None:
            return await self._login_page()
        async with self.database.connection() as conn:
            given = await consents.of_customer(conn, customer_id, limit=SHOWN)
        return self._page("consents.html", name=name, shown=[self._shown(each, now_ms=call.now_ms) for each in given])

    async def log_in(self, call: OpenCall) -> Answer:
        """The same guard as at the login of an authorization."""
        fields = read_form(call)
        self.browser.check_form(call, fields, digest=NO_DIGEST, page="consents_login")
        login = await self.logins.ask(call, fields, client_id="")
        if login is None:
            return await self._login_page(status=400)
        name, cookie = self.browser.new_cookie()
        ends_ms = call.now_ms + SESSION_MS
        async with self.database.transaction() as conn:
            await store.open_session(conn, name_hash(name), kind="customer", person=login.customer_id, ends_ms=ends_ms)
        return Answer(303, None, (("location", f"{self.issuer}{PATH}"), cookie, login.known_browser))

    async def withdraw(self, call: OpenCall) -> Answer:
        """The consent and every token under it end, on all workers within a second."""
        fields, customer_id = await self._form_of_customer(call)
        consent_id = fields.get("consent_id")
        if consent_id is None:
            raise RequestInvalid("consent_id is missing")
        async with self.database.transaction() as conn:
            if not await consents.withdraw(conn, consent_id, customer_id=customer_id, now_ms=call.now_ms):
                raise ConsentNotYours()
        return Answer(303, None, (("location", f"{self.issuer}{PATH}"),))

    async def log_out(self, call: OpenCall) -> Answer:
        """At once: the cookie opens nothing any more, wherever it may have got to."""
        await self._form_of_customer(call)
        name = self.browser.name(call)
        assert name is not None, "its form was checked"
        async with self.database.transaction() as conn:
            await store.close_session(conn, name_hash(name))
        return Answer(303, None, (("location", f"{self.issuer}{PATH}"), self.browser.no_cookie()))

    async def _form_of_customer(self, call: OpenCall) -> tuple[Mapping[str, str], str]:
        fields = read_form(call)
        name = self.browser.check_form(call, fields, digest=NO_DIGEST, page="consents")
        customer_id = await self._customer(name, now_ms=call.now_ms)
        if customer_id is None:
            raise FormForged("You are not logged in any more; log in again")
        return fields, customer_id

    async def _customer(self, name: str | None, *, now_ms: int) -> str | None:
        if name is None:
            return None
        async with self.database.connection() as conn:
            return await store.session_of(conn, name_hash(name), kind="customer", now_ms=now_ms)

    def _shown(self, consent: Consent, *, now_ms: int) -> dict[str, Any]:
        partner = self.snapshots.current.partners.get(consent.partner_id)
        status = consent.status_at(now_ms)
        return {
            "consent_id": consent.consent_id,
            "partner": partner,
            "partner_id": consent.partner_id,
            "lines": view_of(consent, partner) if partner is not None else (),
            "given": rfc3339(consent.changed_ms)[:10],
            "in_force": status is ConsentStatus.AUTHORISED,
        }

    async def _login_page(self, *, status: int = 200) -> Answer:
        """With a new cookie each time: a login form belongs to the browser that it was shown in."""
        name, cookie = self.browser.new_cookie()
        logins = await self.counter.demo_logins() if self.counter is not None else []
        return self._page("consents_login.html", name=name, status=status, headers=(cookie,), logins=logins,
                          passcode=DEMO_PASSCODE, refused=status != 200)  # fmt: skip

    def _page(
        self, template: str, *, name: str, status: int = 200, headers: tuple[tuple[str, str], ...] = (), **values: Any
    ) -> Answer:
        token = self.browser.form_token(name, NO_DIGEST, page=template.removesuffix(".html"))
        html = self.templates.get_template(template).render(csrf=token, **values)
        return page_answer(html, status=status, headers=headers)
