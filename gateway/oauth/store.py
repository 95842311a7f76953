"""All SQL of the authorization server's own memory: pushed requests, codes, refresh tokens, sandbox approvals.

Secrets are kept as their SHA-256 only: whoever reads the tables cannot use what they find.
"""

import hashlib
import secrets
from dataclasses import dataclass

from gateway import audit
from gateway.clock import CLOCK_SKEW_MS
from gateway.database import Connection
from gateway.database.changes import announce
from gateway.database.expiry import Expiry

SECRET_BYTES = 32  # 256 bits; FAPI 2.0 §5.4.1 asks for 128 at least
KEEP_CODES_MS = 86_400_000  # a day: as long, a code that comes again revokes what it gave
CLOCK_BACK_MS = 120_000  # so far the machine's clock may go back, and no proof counts twice
DAY_MS = 86_400_000
EXPIRIES = (
    Expiry("spent_proof", "expires_ms < $1", kept_ms=CLOCK_BACK_MS, by_clock=True),
    Expiry("pushed_request", "expires_ms < $1", kept_ms=3_600_000, by_clock=True),
    Expiry("oauth_code", "expires_ms < $1", kept_ms=KEEP_CODES_MS, by_clock=True),
    Expiry("revoked_grant", "until_ms < $1", kept_ms=CLOCK_BACK_MS, by_clock=True),
    Expiry("login_failure", "last_ms < $1", kept_ms=DAY_MS),
    Expiry("person_session", "ends_ms < $1", by_clock=True),
)


def new_secret() -> str:
    """43 characters, base64url."""
    return secrets.token_urlsafe(SECRET_BYTES)


def digest_of(secret: str) -> bytes:
    """What is kept of it."""
    return hashlib.sha256(secret.encode()).digest()


@dataclass(frozen=True, slots=True)
class PushedRequest:
    """An authorization request on its way through the customer's browser; see the table for what each member means."""

    digest: bytes
    client_id: str
    consent_id: str
    redirect_uri: str
    scopes: frozenset[str]
    state: str | None
    challenge: str
    jkt: str | None
    expires_ms: int
    browser: bytes | None = None
    ends_ms: int | None = None
    customer_id: str | None = None
    login_tries: int = 0
    completed_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code; `challenge` and `jkt` say what must be proven to use it."""

    digest: bytes
    grant_id: str
    redirect_uri: str
    challenge: str
    jkt: str | None
    expires_ms: int
    used_ms: int | None = None


# --- pushed requests ---------------------------------------------------------------------------------------------
async def insert_pushed(conn: Connection, pushed: PushedRequest) -> None:
    await conn.execute(
        """INSERT INTO pushed_request
               (digest, client_id, consent_id, redirect_uri, scopes, state, challenge, jkt, expires_ms)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)""",
        pushed.digest, pushed.client_id, pushed.consent_id, pushed.redirect_uri, sorted(pushed.scopes), pushed.state,
        pushed.challenge, pushed.jkt, pushed.expires_ms,
    )  # fmt: skip


async def lock_pushed(conn: Connection, digest: bytes) -> PushedRequest | None:
    """Held until the transaction ends: of two that complete it at once, the second sees that it is done."""
    row = await conn.fetchrow(
        """SELECT digest, client_id, consent_id, redirect_uri, scopes, state, challenge, jkt, expires_ms, browser,
                  ends_ms, customer_id, login_tries, completed_ms
           FROM pushed_request WHERE digest = $1 FOR UPDATE""",
        digest,
    )
    return PushedRequest(**{**row, "scopes": frozenset(row["scopes"])}) if row else None


async def bind_browser(conn: Connection, digest: bytes, *, browser: bytes, ends_ms: int) -> None:
    """A browser opens the request: it starts anew there, nobody is logged in."""
    await conn.execute(
        "UPDATE pushed_request SET browser = $2, ends_ms = $3, customer_id = NULL WHERE digest = $1",
        digest, browser, ends_ms,
    )  # fmt: skip


async def count_login_try(conn: Connection, digest: bytes) -> None:
    await conn.execute("UPDATE pushed_request SET login_tries = login_tries + 1 WHERE digest = $1", digest)


async def log_in(conn: Connection, digest: bytes, *, browser: bytes, customer_id: str) -> None:
    """The browser gets a new cookie with the login, so that a cookie known before is worth nothing after it."""
    await conn.execute(
        "UPDATE pushed_request SET browser = $2, customer_id = $3 WHERE digest = $1", digest, browser, customer_id
    )


async def complete(conn: Connection, digest: bytes, *, now_ms: int) -> None:
    await conn.execute("UPDATE pushed_request SET completed_ms = $2 WHERE digest = $1", digest, now_ms)


# --- codes and refresh tokens ------------------------------------------------------------------------------------
async def insert_code(conn: Connection, code: Code) -> None:
    await conn.execute(
        """INSERT INTO oauth_code (digest, grant_id, redirect_uri, challenge, jkt, expires_ms)
           VALUES ($1, $2, $3, $4, $5, $6)""",
        code.digest, code.grant_id, code.redirect_uri, code.challenge, code.jkt, code.expires_ms,
    )  # fmt: skip


async def lock_code(conn: Connection, digest: bytes) -> Code | None:
    """Held until the transaction ends: of two uses at once, the second sees the first."""
    row = await conn.fetchrow(
        """SELECT digest, grant_id, redirect_uri, challenge, jkt, expires_ms, used_ms
           FROM oauth_code WHERE digest = $1 FOR UPDATE""",
        digest,
    )
    return Code(**row) if row else None


async def use_code(conn: Connection, digest: bytes, *, now_ms: int) -> None:
    await conn.execute("UPDATE oauth_code SET used_ms = $2 WHERE digest = $1", digest, now_ms)


async def insert_refresh_token(conn: Connection, digest: bytes, *, grant_id: str, now_ms: int) -> None:
    await conn.execute(
        "INSERT INTO refresh_token (digest, grant_id, created_ms) VALUES ($1, $2, $3)", digest, grant_id, now_ms
    )


async def grant_of_refresh_token(conn: Connection, digest: bytes) -> str | None:
    found: str | None = await conn.fetchval("SELECT grant_id FROM refresh_token WHERE digest = $1", digest)
    return found


# --- sandbox -----------------------------------------------------------------------------------------------------
async def approve_next(conn: Connection, consent_id: str, *, now_ms: int) -> None:
    await conn.execute(
        "INSERT INTO sandbox_approval (consent_id, created_ms) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        consent_id, now_ms,
    )  # fmt: skip


async def take_approval(conn: Connection, consent_id: str) -> bool:
    """True once for each approval."""
    taken = await conn.fetchval("DELETE FROM sandbox_approval WHERE consent_id = $1 RETURNING true", consent_id)
    return bool(taken)


# --- bank keys ---------------------------------------------------------------------------------------------------
async def revoke_bank_key(conn: Connection, kid: str, *, actor: str, reason: str, now_ms: int) -> bool:
    """Nothing that the key signed is good any more, on any worker within a second; False: it is revoked, or unknown.

    The caller makes the next signing key of the purpose in the same transaction (`Keyring.ensure`).
    """
    purpose = await conn.fetchval(
        """UPDATE bank_key SET state = 'revoked', retired_at_ms = coalesce(retired_at_ms, $2)
           WHERE kid = $1 AND state <> 'revoked' RETURNING purpose""",
        kid, now_ms,
    )  # fmt: skip
    if purpose is None:
        return False
    await audit.record(conn, actor=actor, action="bank_key.revoke", subject=kid,
                       detail={"purpose": purpose, "reason": reason}, now_ms=now_ms)  # fmt: skip
    await announce(conn, "bank_key", kid, now_ms=now_ms)
    return True


# --- log-ins that failed -----------------------------------------------------------------------------------------
async def count_login_failure(conn: Connection, key: bytes, *, now_ms: int, since_ms: int) -> int | None:
    """One more, unless the key's next try is still to come (None); one whose last is older than that starts afresh.
    A last one further ahead than clocks differ was of a clock that has gone back: nobody waits until it is there again.

    The row is held until the transaction ends, so tries at once are counted one by one.
    """
    failures: int | None = await conn.fetchval(
        """INSERT INTO login_failure AS f (key, failures, last_ms, next_ms) VALUES ($1, 1, $2, 0)
           ON CONFLICT (key) DO UPDATE SET last_ms = $2,
               failures = CASE WHEN f.last_ms < $3 THEN 1 ELSE f.failures + 1 END
           WHERE f.next_ms <= $2 OR f.last_ms > $2 + $4::bigint RETURNING failures""",
        key, now_ms, since_ms, CLOCK_SKEW_MS,
    )  # fmt: skip
    return failures


async def next_login_ms(conn: Connection, key: bytes) -> int:
    """When a try under that key is looked at again."""
    return await conn.fetchval("SELECT next_ms FROM login_failure WHERE key = $1", key) or 0


async def put_login_off(conn: Connection, key: bytes, *, until_ms: int) -> None:
    await conn.execute("UPDATE login_failure SET next_ms = $2 WHERE key = $1", key, until_ms)


async def take_login_failure_back(conn: Connection, key: bytes) -> None:
    """It was none. The next try may come at once: this one was let through, so no wait was left before it."""
    await conn.execute("DELETE FROM login_failure WHERE key = $1 AND failures = 1", key)
    await conn.execute("UPDATE login_failure SET failures = failures - 1, next_ms = 0 WHERE key = $1", key)


async def forget_login_failures(conn: Connection, key: bytes) -> None:
    await conn.execute("DELETE FROM login_failure WHERE key = $1", key)


# --- who is logged in at our own pages ---------------------------------------------------------------------------
async def open_session(conn: Connection, digest: bytes, *, kind: str, person: str, ends_ms: int) -> None:
    """`digest` is the SHA-256 of the cookie; `kind` operator or customer."""
    await conn.execute(
        "INSERT INTO person_session (digest, kind, person, ends_ms) VALUES ($1, $2, $3, $4)",
        digest, kind, person, ends_ms,
    )  # fmt: skip


async def session_of(conn: Connection, digest: bytes, *, kind: str, now_ms: int) -> str | None:
    """Who it is, until the session ends or its person logs out."""
    person: str | None = await conn.fetchval(
        "SELECT person FROM person_session WHERE digest = $1 AND kind = $2 AND ends_ms > $3", digest, kind, now_ms
    )
    return person


async def close_session(conn: Connection, digest: bytes) -> None:
    await conn.execute("DELETE FROM person_session WHERE digest = $1", digest)
