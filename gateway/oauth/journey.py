"""The customer's way: the partner sends the browser, the customer logs in, says yes or no, and goes back with a code.

No page needs JavaScript. Nothing is asked of the bank's core inside a transaction; the pushed request's row is held
only while it is read or written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

import jinja2

from gateway.call import Answer, OpenCall
from gateway.consents import store as consents
from gateway.consents.consent import Consent, ConsentKind, ConsentStatus
from gateway.corebank.port import Account, CoreBank, CoreBankUnavailable
from gateway.corebank.sandbox.people import DEMO_PASSCODE, Counter
from gateway.database import Connection, Database
from gateway.oauth import store
from gateway.oauth.asking import read_form
from gateway.oauth.browser import Browser, back_to_client, name_hash, origin_of
from gateway.oauth.consent_view import choosable, view_of
from gateway.oauth.login import Logins
from gateway.oauth.refusals import BankUnreachable, PayeeNotConfirmed, RequestInvalid, RequestNotPushed
from gateway.oauth.store import PushedRequest
from gateway.oauth.visit import VISIT_MS, Visit, check_visit, request_digest
from gateway.oauth.vouching import Vouching, vouch
from gateway.pages import page_answer
from gateway.partners.partner import Partner
from gateway.partners.snapshot import SnapshotKeeper
from gateway.refusal import Refusal

CODE_LIFETIME_MS = 60_000  # FAPI 2.0 §5.3.2.1 note: a minute at most
Headers = tuple[tuple[str, str], ...]
NO_HEADERS: Headers = ()
DENIED = {"error": "access_denied", "error_description": "The customer did not approve"}


@dataclass(frozen=True, slots=True)
class Form:
    """A page's form that came from our own page in this browser."""

    fields: Mapping[str, str]
    client_id: str
    request_uri: str
    digest: bytes
    browser: str

    def required(self, name: str) -> str:
        if name not in self.fields:
            raise RequestInvalid(f"{name} is missing")
        return self.fields[name]


@dataclass(frozen=True, slots=True)
class Journey:
    """Three pages: authorize (which shows login or consent), login, consent."""

    database: Database
    corebank: CoreBank
    vouching: Vouching
    snapshots: SnapshotKeeper
    browser: Browser
    templates: jinja2.Environment
    issuer: str
    logins: Logins
    counter: Counter | None  # the sandbox bank's; None: a real bank, nothing is shown or approved for anybody

    async def open(self, call: OpenCall) -> Answer:
        """GET /oauth/authorize: everything but client_id and request_uri is ignored."""
        client_id, request_uri = call.query.get("client_id", ""), call.query.get("request_uri", "")
        if not request_uri:
            raise RequestNotPushed()
        digest = request_digest(request_uri)
        async with self.database.transaction() as conn:
            visit = await self._visit(conn, call, client_id=client_id, digest=digest)
            pushed = check_visit(visit, page="authorize")
            if call.is_head:
                return await self._login_page(pushed, form=Form({}, client_id, request_uri, digest, ""), status=200)
            consent = await consents.find(conn, pushed.consent_id)
            assert consent is not None, "the pushed request's foreign key"
            if consent.status_at(call.now_ms) not in (ConsentStatus.AWAITING, ConsentStatus.AUTHORISED):
                return await self._finish(conn, pushed, answer=DENIED, now_ms=call.now_ms)
            if self.counter is not None and await store.take_approval(conn, consent.consent_id):
                return await self._give_code(conn, pushed, consent, now_ms=call.now_ms)
            shown, headers = visit.browser, NO_HEADERS
            if not visit.same_browser:
                shown, cookie = self.browser.new_cookie()
                headers = (cookie,)
                ends_ms = call.now_ms + VISIT_MS
                await store.bind_browser(conn, digest, browser=name_hash(shown), ends_ms=ends_ms)
        assert shown is not None
        form = Form({}, client_id, request_uri, digest, shown)
        if visit.same_browser and pushed.customer_id is not None:
            return await self._consent_page(pushed, consent, form=form, now_ms=call.now_ms)
        return await self._login_page(pushed, form=form, status=200, headers=headers)

    async def log_in(self, call: OpenCall) -> Answer:
        """POST /oauth/login: the passcode is asked of the bank; five wrong ones end the request."""
        form = self._form(call, page="login")
        async with self.database.transaction() as conn:
            pushed = await self._check(conn, call, form=form, page="login")
            if form.fields.get("decision") == "deny":
                return await self._finish(conn, pushed, answer=DENIED, now_ms=call.now_ms)
            await store.count_login_try(conn, form.digest)
        login = await self.logins.ask(call, form.fields, client_id=form.client_id)
        if login is None:
            return await self._login_page(pushed, form=form, status=400)
        name, cookie = self.browser.new_cookie()
        async with self.database.transaction() as conn:
            await self._check(conn, call, form=form, page="login")
            await store.log_in(conn, form.digest, browser=name_hash(name), customer_id=login.customer_id)
        return Answer(303, None, (("location", self._address(form)), cookie, login.known_browser))

    async def decide(self, call: OpenCall) -> Answer:
        """POST /oauth/consent: yes gives a code, no gives access_denied; both end the request."""
        form = self._form(call, page="consent")
        async with self.database.transaction() as conn:
            pushed = await self._check(conn, call, form=form, page="consent")
            consent = await consents.lock(conn, pushed.consent_id)
            if form.required("decision") != "approve":
                actor = f"customer:{pushed.customer_id}"
                await consents.reject(
                    conn, consent.consent_id, customer_id=pushed.customer_id, actor=actor, now_ms=call.now_ms
                )
                return await self._finish(conn, pushed, answer=DENIED, now_ms=call.now_ms)
        open_to_choice = {account.account_id for account in choosable(consent, await self._own_accounts(pushed))}
        chosen = [value for name, value in form.fields.items() if name == "account" or name.startswith("account.")]
        if consent.status is ConsentStatus.AWAITING and not (chosen and open_to_choice >= set(chosen)):
            return await self._consent_page(pushed, consent, form=form, now_ms=call.now_ms, status=400)
        assert pushed.customer_id is not None, "check_logged_in"
        token = await self.vouching.token(consent, pushed.customer_id, now_ms=call.now_ms)
        async with self.database.transaction() as conn:
            pushed = await self._check(conn, call, form=form, page="consent")
            return await self._approve(conn, pushed, account_ids=chosen, token=token, now_ms=call.now_ms)

    # --- what a decision does ------------------------------------------------------------------------------------
    async def _approve(
        self, conn: Connection, pushed: PushedRequest, *, account_ids: list[str], token: str | None, now_ms: int
    ) -> Answer:
        assert pushed.customer_id is not None, "check_logged_in"
        try:
            consent = await consents.authorise(
                conn, pushed.consent_id, customer_id=pushed.customer_id, account_ids=account_ids,
                actor=f"customer:{pushed.customer_id}", now_ms=now_ms,
            )  # fmt: skip
        except Refusal as refusal:  # revoked or given by somebody else meanwhile: the client is told
            answer = {"error": "access_denied", "error_description": refusal.title}
            return await self._finish(conn, pushed, answer=answer, now_ms=now_ms)
        await vouch(conn, consent, token, now_ms=now_ms)
        return await self._give_code(conn, pushed, consent, now_ms=now_ms)

    async def _give_code(self, conn: Connection, pushed: PushedRequest, consent: Consent, *, now_ms: int) -> Answer:
        grant = await consents.create_grant(conn, consent, scopes=pushed.scopes, now_ms=now_ms)
        code = store.new_secret()
        await store.insert_code(
            conn,
            store.Code(
                store.digest_of(code), grant.grant_id, pushed.redirect_uri, pushed.challenge, pushed.jkt,
                now_ms + CODE_LIFETIME_MS,
            ),
        )  # fmt: skip
        return await self._finish(conn, pushed, answer={"code": code}, now_ms=now_ms)

    async def _finish(
        self, conn: Connection, pushed: PushedRequest, *, answer: Mapping[str, str], now_ms: int
    ) -> Answer:
        """The request_uri is used up now, and not before."""
        await store.complete(conn, pushed.digest, now_ms=now_ms)
        return back_to_client(pushed, issuer=self.issuer, answer=answer)

    # --- what the pages read -------------------------------------------------------------------------------------
    def _form(self, call: OpenCall, *, page: str) -> Form:
        fields = read_form(call)
        request_uri = fields.get("request_uri", "")
        digest = request_digest(request_uri)
        name = self.browser.check_form(call, fields, digest=digest, page=page)
        return Form(fields, fields.get("client_id", ""), request_uri, digest, name)

    async def _visit(self, conn: Connection, call: OpenCall, *, client_id: str, digest: bytes) -> Visit:
        row = await store.lock_pushed(conn, digest)
        app = self.snapshots.current.apps.get(client_id)
        if row is not None and row.client_id == client_id and app is not None:
            call.name_partner(app.partner_id)
        return Visit(client_id, digest, self.browser.name(call), row, self.snapshots.current, call.now_ms)

    async def _check(self, conn: Connection, call: OpenCall, *, form: Form, page: str) -> PushedRequest:
        visit = await self._visit(conn, call, client_id=form.client_id, digest=form.digest)
        return check_visit(visit, page=page)

    async def _own_accounts(self, pushed: PushedRequest) -> tuple[Account, ...]:
        assert pushed.customer_id is not None, "check_logged_in"
        try:
            return await self.corebank.accounts(pushed.customer_id)
        except CoreBankUnavailable:
            raise BankUnreachable() from None

    async def _payee(self, partner: Partner) -> str:
        """Whom the bank knows as the holder of the account that would be paid. Raises PayeeNotConfirmed."""
        try:
            holder = await self.corebank.registered_holder(partner.settlement_account)
        except CoreBankUnavailable:
            raise BankUnreachable() from None
        if holder is None:
            raise PayeeNotConfirmed()
        return holder

    # --- pages ---------------------------------------------------------------------------------------------------
    async def _login_page(
        self, pushed: PushedRequest, *, form: Form, status: int, headers: Headers = NO_HEADERS
    ) -> Answer:
        logins = await self.counter.demo_logins() if self.counter is not None else []
        return self._page(
            "login.html", pushed, form=form, status=status, headers=headers, logins=logins, passcode=DEMO_PASSCODE
        )

    async def _consent_page(
        self, pushed: PushedRequest, consent: Consent, *, form: Form, now_ms: int, status: int = 200
    ) -> Answer:
        accounts = choosable(consent, await self._own_accounts(pushed))
        snapshot = self.snapshots.current
        partner = snapshot.partners[snapshot.apps[pushed.client_id].partner_id]
        payee = await self._payee(partner) if consent.kind is ConsentKind.DOMESTIC_VRP else None
        view = view_of(consent, partner, payee=payee)
        return self._page("consent.html", pushed, form=form, status=status, consent=consent, accounts=accounts,
                          view=view, withdrawal=f"{self.issuer}/consents")  # fmt: skip

    def _page(
        self,
        template: str,
        pushed: PushedRequest,
        *,
        form: Form,
        status: int,
        headers: Headers = NO_HEADERS,
        **values: object,
    ) -> Answer:
        app = self.snapshots.current.apps[pushed.client_id]
        page = template.removesuffix(".html")
        html = self.templates.get_template(template).render(
            partner=self.snapshots.current.partners[app.partner_id],
            client_id=pushed.client_id,
            request_uri=form.request_uri,
            csrf=self.browser.form_token(form.browser, form.digest, page=page),
            refused=status != 200,
            **values,
        )
        return page_answer(html, status=status, headers=headers, form_target=origin_of(pushed.redirect_uri))

    def _address(self, form: Form) -> str:
        query = urlencode({"client_id": form.client_id, "request_uri": form.request_uri})
        return f"{self.issuer}/oauth/authorize?{query}"
