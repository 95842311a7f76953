"""Guessing a customer's passcode: growing delays where the guessing is done, and none for the customer it is aimed at.

A try counts as failed before the bank is asked, so that a thousand at once are no more than one after the other; what
turns out right is given back. A browser in which the customer has logged in before carries a proof of it and has a
count of its own: whatever strangers try under that name, it is not held up.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from gateway import metrics
from gateway.call import OpenCall
from gateway.database import Connection
from gateway.oauth import store
from gateway.oauth.refusals import TooManyLogins
from gateway.oauth.store import new_secret
from gateway.policies.limits import Limiter
from gateway.policies.policy import Rate
from gateway.policies.throttle import Throttle, neighbourhood

FORGOTTEN_MS = 86_400_000  # a day without a failure: the name starts afresh
KNOWN_S = 180 * 86_400  # a browser is known for half a year after its last log-in
CLIENT_LOGINS = Rate(20, 400)  # tries of strangers that come by way of one client
ADDRESS_LOGINS = Rate(1, 60)  # failures of strangers from one address, or it could use up what is everybody's


@dataclass(frozen=True, slots=True)
class Ladder:
    """`free` failures cost nothing; each one more doubles the wait, up to `longest_ms`."""

    free: int
    first_ms: int
    longest_ms: int

    def wait_ms(self, failures: int) -> int:
        steps = min(failures - self.free - 1, 30)
        return min(self.first_ms << steps, self.longest_ms) if steps >= 0 else 0


HERE = Ladder(5, 2_000, 900_000)  # one name from one address, or from one known browser
EVERYWHERE = Ladder(20, 5_000, 300_000)  # one name from all strangers together: 300 guesses a day, of a million


@dataclass(frozen=True, slots=True)
class Attempt:
    """A try that was let through: what it has counted against, until it turns out right. `own` is the nearer count."""

    own: bytes
    shared: bytes | None
    address: str = ""  # of a stranger


class LoginGuard:
    """One instance a worker; the counts are rows, as nothing of them may be lost with a process."""

    def __init__(self, *, issuer: str, secret: bytes, limiter: Limiter, throttle: Throttle) -> None:
        secure = issuer.startswith("https://")
        self._cookie = "__Host-parasol-known" if secure else "parasol-known"
        self._attributes = f"; Path=/; HttpOnly; SameSite=Lax; Max-Age={KNOWN_S}" + ("; Secure" if secure else "")
        self._secret = secret
        self._limiter = limiter
        self._throttle = throttle

    async def begin(self, conn: Connection, call: OpenCall, *, login: str, client_id: str) -> Attempt:
        """Count a try under that name, before anybody looks at the passcode. Raises TooManyLogins, counting nothing."""
        browser = self._known_browser(call, login)
        if browser is not None:
            attempt = Attempt(self._key("browser", login, browser), None)
        else:
            address = neighbourhood(call.source)
            self._limit_strangers(address, client_id, now_ms=call.now_ms)
            attempt = Attempt(self._key("address", login, address), self._key("everywhere", login, ""), address)
        await self._count(conn, attempt.own, HERE, now_ms=call.now_ms)
        if attempt.shared is not None:
            await self._count(conn, attempt.shared, EVERYWHERE, now_ms=call.now_ms)
        return attempt

    async def succeed(self, conn: Connection, attempt: Attempt, *, login: str) -> tuple[str, str]:
        """The passcode was right: the header that makes this browser a known one."""
        await store.forget_login_failures(conn, attempt.own)
        await self.undo(conn, (attempt.shared,))
        self._forgive(attempt)
        metrics.count("parasol_logins_total", who="customer", outcome="ok")
        name = new_secret()
        return "set-cookie", f"{self._cookie}={name}.{self._proof(login, name)}{self._attributes}"

    async def abandon(self, conn: Connection, attempt: Attempt) -> None:
        """Nobody could say whether it was right."""
        await self.undo(conn, (attempt.own, attempt.shared))
        self._forgive(attempt)

    async def undo(self, conn: Connection, keys: Sequence[bytes | None]) -> None:
        for key in keys:
            if key is not None:
                await store.take_login_failure_back(conn, key)

    async def _count(self, conn: Connection, key: bytes, ladder: Ladder, *, now_ms: int) -> None:
        failures = await store.count_login_failure(conn, key, now_ms=now_ms, since_ms=now_ms - FORGOTTEN_MS)
        if failures is None:
            raise _too_many(await store.next_login_ms(conn, key) - now_ms)
        wait_ms = ladder.wait_ms(failures)
        if wait_ms:
            await store.put_login_off(conn, key, until_ms=now_ms + wait_ms)

    def _limit_strangers(self, address: str, client_id: str, *, now_ms: int) -> None:
        """The address first: what it may not do counts against nobody else."""
        wait_ms = self._throttle.wait_ms(_stranger(address), ADDRESS_LOGINS, now_ms=now_ms)
        wait_ms = wait_ms or self._limiter.check(f"{client_id} log-in", CLIENT_LOGINS, now_ms=now_ms)
        if wait_ms:
            raise _too_many(wait_ms)

    def _forgive(self, attempt: Attempt) -> None:
        """Thousands of customers share one address of a mobile network: what holds it up is failures alone."""
        if attempt.address:
            self._throttle.give_back(_stranger(attempt.address), ADDRESS_LOGINS)

    def _known_browser(self, call: OpenCall, login: str) -> str | None:
        """The browser's name, if this very customer has logged in there."""
        name, _, proof = call.cookies.get(self._cookie, "").partition(".")
        return name if name and hmac.compare_digest(proof.encode(), self._proof(login, name).encode()) else None

    def _proof(self, login: str, name: str) -> str:
        text = f"known browser\n{login}\n{name}"
        return hmac.new(self._secret, text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()

    def _key(self, kind: str, login: str, place: str) -> bytes:
        text = f"{kind}\n{login}\n{place}".encode("utf-8", "surrogateescape")
        return hmac.new(self._secret, text, hashlib.sha256).digest()[:16]


def _stranger(address: str) -> str:
    return f"stranger {address}"


def _too_many(wait_ms: int) -> TooManyLogins:
    metrics.count("parasol_logins_total", who="customer", outcome="throttled")
    return TooManyLogins.for_now(-(-max(wait_ms, 1) // 1000))
