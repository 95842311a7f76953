"""Who is looking at the console: a random cookie whose hash is a row, gone as soon as the operator logs out.

The operator's key itself is only in the login form. An operator whose key was withdrawn is out at the next page. Every
log-in, failed or not, and every log-out stands in the audit trail with the address it came from.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway import audit, metrics
from gateway.admission.operators import OperatorBook, is_whole, key_hash
from gateway.admission.refusals import OperatorNotAccepted
from gateway.call import OpenCall, Operator
from gateway.database import Connection, Database
from gateway.oauth import store
from gateway.oauth.browser import Browser, name_hash
from gateway.policies.limits import Limiter
from gateway.policies.policy import Rate

SESSION_MS = 8 * 3_600_000  # a working day
COOKIE = "parasol-console"
AUDITED = Rate(1, 60)  # failures that get a row of their own; above that a flood would fill the trail: it is counted
NO_DIGEST = b""  # these forms belong to no authorization


@dataclass(frozen=True, slots=True)
class ConsoleSessions:
    """One instance a worker; sessions are rows, so that a log-out is one on every worker and host."""

    database: Database
    operators: OperatorBook
    browser: Browser
    limiter: Limiter

    def login_form(self) -> tuple[str, tuple[str, str]]:
        """The hidden token of a login form, and the cookie of the browser that it is for."""
        name, cookie = self.browser.new_cookie()
        return self.browser.form_token(name, NO_DIGEST, page="console login"), cookie

    def form_token(self, call: OpenCall) -> str:
        """The hidden token of the pages behind the login."""
        name = self.browser.name(call)
        assert name is not None, "an operator is known by the cookie"
        return self.browser.form_token(name, NO_DIGEST, page="console")

    async def open(self, call: OpenCall, form: Mapping[str, str]) -> tuple[str, str] | None:
        """The set-cookie header of a new session; None, counted and audited, for anything but a whole key of somebody
        active. Raises FormForged for a form that our page did not send."""
        self.browser.check_form(call, form, digest=NO_DIGEST, page="console login")
        key = form.get("key", "").strip()
        operator = self._of_key(key)
        if operator is None:
            await self._failed(call)
            return None
        name, cookie = self.browser.new_cookie()
        async with self.database.transaction() as conn:
            await store.open_session(
                conn, name_hash(name), kind="operator", person=key_hash(key).hex(), ends_ms=call.now_ms + SESSION_MS
            )
            await _tell(conn, "operator.login", operator.operator_id, call=call)
        metrics.count("parasol_logins_total", who="operator", outcome="ok")
        return cookie

    async def close(self, call: OpenCall, form: Mapping[str, str]) -> tuple[str, str]:
        """At once, whoever has a copy of the cookie. Raises FormForged: nobody else logs an operator out."""
        name = self.browser.check_form(call, form, digest=NO_DIGEST, page="console")
        operator = await self.operator(call)
        async with self.database.transaction() as conn:
            await store.close_session(conn, name_hash(name))
            if operator is not None:
                await _tell(conn, "operator.logout", operator.operator_id, call=call)
        return self.browser.no_cookie()

    async def operator(self, call: OpenCall) -> Operator | None:
        """None: nobody, or not any more."""
        name = self.browser.name(call)
        if name is None:
            return None
        async with self.database.connection() as conn:
            person = await store.session_of(conn, name_hash(name), kind="operator", now_ms=call.now_ms)
        try:
            return self.operators.of_digest(bytes.fromhex(person)) if person is not None else None
        except OperatorNotAccepted:
            return None

    def _of_key(self, key: str) -> Operator | None:
        try:
            return self.operators.of_digest(key_hash(key)) if is_whole(key) else None
        except OperatorNotAccepted:
            return None

    async def _failed(self, call: OpenCall) -> None:
        metrics.count("parasol_logins_total", who="operator", outcome="failed")
        if self.limiter.check("console log-ins audited", AUDITED, now_ms=call.now_ms) == 0:
            async with self.database.transaction() as conn:
                await _tell(conn, "operator.login_failed", "unknown", call=call)


async def _tell(conn: Connection, action: str, who: str, *, call: OpenCall) -> None:
    await audit.record(conn, actor=who, action=action, subject="console", detail={}, now_ms=call.now_ms)
