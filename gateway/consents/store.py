"""All SQL of consents and of the grants that stand for them. Every change is audited and told to all workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway import audit
from gateway.consents import consent as rules
from gateway.consents.consent import Consent, ConsentKind, ConsentStatus
from gateway.database import Connection
from gateway.database.changes import announce
from gateway.ids import new_id
from gateway.refusal import UnknownResource

TOKEN_LIFE_MS = 600_000  # no access token may live longer than ten minutes; so long a revocation must be remembered
EXPIRY_BATCH = 200  # consents that one run of the chore ends
_COLUMNS = """consent_id, partner_id, client_id, kind, status, body, customer_id, account_ids,
    created_ms, changed_ms, expires_ms"""


@dataclass(frozen=True, slots=True)
class CustomerGrant:
    """One authorization by one customer: codes, refresh tokens and access tokens carry its id."""

    grant_id: str
    client_id: str
    partner_id: str
    customer_id: str
    consent_id: str
    scopes: frozenset[str]
    revoked_ms: int | None


# --- consents ----------------------------------------------------------------------------------------------------
async def create(
    conn: Connection,
    *,
    partner_id: str,
    client_id: str,
    kind: ConsentKind,
    body: Mapping[str, Any],
    expires_ms: int | None,
    now_ms: int,
    consent_id: str | None = None,
) -> Consent:
    """A consent that awaits its customer. Give `consent_id` where an idempotency key has claimed it already."""
    made = Consent(
        consent_id or new_id("cns"), partner_id, client_id, kind, ConsentStatus.AWAITING, body, None, (),
        now_ms, now_ms, expires_ms,
    )  # fmt: skip
    await conn.execute(
        """INSERT INTO consent
               (consent_id, partner_id, client_id, kind, status, body, created_ms, changed_ms, expires_ms)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)""",
        made.consent_id, partner_id, client_id, kind.value, made.status.value, dict(body), now_ms, now_ms, expires_ms,
    )  # fmt: skip
    return made


async def load(conn: Connection, consent_id: str, *, partner_id: str) -> Consent:
    """The partner's own. Raises UnknownResource, ForeignResource."""
    found = await find(conn, consent_id)
    if found is None:
        raise UnknownResource(f"There is no consent {consent_id}")
    found.check_owner(partner_id)
    return found


async def find(conn: Connection, consent_id: str) -> Consent | None:
    """Whosever it is: for the authorization server, which checks the client, and for the worker's book."""
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM consent WHERE consent_id = $1", consent_id)
    return _consent(row) if row else None


async def lock(conn: Connection, consent_id: str) -> Consent:
    """Held until the transaction ends. Raises UnknownResource."""
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM consent WHERE consent_id = $1 FOR UPDATE",
        consent_id,
    )
    if row is None:
        raise UnknownResource(f"There is no consent {consent_id}")
    return _consent(row)


async def authorise(
    conn: Connection, consent_id: str, *, customer_id: str, account_ids: Sequence[str], actor: str, now_ms: int
) -> Consent:
    """The customer's yes. The caller has seen that the accounts are the customer's own."""
    before = await lock(conn, consent_id)
    after = rules.authorised(before, customer_id=customer_id, account_ids=account_ids, now_ms=now_ms)
    await _write(conn, before, after, actor=actor)
    return after


async def reject(conn: Connection, consent_id: str, *, customer_id: str | None, actor: str, now_ms: int) -> Consent:
    """The customer's no."""
    before = await lock(conn, consent_id)
    after = rules.rejected(before, customer_id=customer_id, now_ms=now_ms)
    await _write(conn, before, after, actor=actor)
    return after


async def revoke(conn: Connection, consent_id: str, *, partner_id: str, actor: str, now_ms: int) -> Consent:
    """End the partner's consent and every grant under it: tokens stop on all workers within a second."""
    before = await lock(conn, consent_id)
    before.check_owner(partner_id)
    after = rules.cancelled(before, now_ms=now_ms)
    await _write(conn, before, after, actor=actor)
    await _revoke_grants_of(conn, consent_id, now_ms=now_ms)
    return after


async def of_customer(conn: Connection, customer_id: str, *, limit: int) -> list[Consent]:
    """What the customer has given, the newest first."""
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} FROM consent WHERE customer_id = $1 ORDER BY created_ms DESC, consent_id LIMIT $2",
        customer_id, limit,
    )  # fmt: skip
    return [_consent(row) for row in rows]


async def withdraw(conn: Connection, consent_id: str, *, customer_id: str, now_ms: int) -> bool:
    """The customer takes it back, with every grant under it; twice is the same as once. False: none of theirs."""
    before = await find(conn, consent_id)
    if before is None or before.customer_id != customer_id:
        return False
    before = await lock(conn, consent_id)
    if before.status is ConsentStatus.AUTHORISED:
        await _write(conn, before, rules.cancelled(before, now_ms=now_ms), actor=f"customer:{customer_id}")
        await _revoke_grants_of(conn, consent_id, now_ms=now_ms)
    return True


async def expire_due(conn: Connection, *, now_ms: int) -> int:
    """A chore: say EXPD on consents whose time is over, and end their grants; returns how many."""
    rows = await conn.fetch(
        f"""SELECT {_COLUMNS} FROM consent WHERE status IN ('AWAU', 'AUTH') AND expires_ms <= $1
            ORDER BY expires_ms LIMIT $2 FOR UPDATE SKIP LOCKED""",
        now_ms, EXPIRY_BATCH,
    )  # fmt: skip
    for before in map(_consent, rows):
        await _write(conn, before, rules.expired(before, now_ms=now_ms), actor="clock")
        await _revoke_grants_of(conn, before.consent_id, now_ms=now_ms)
    return len(rows)


async def _write(conn: Connection, before: Consent, after: Consent, *, actor: str) -> None:
    if after is before:
        return
    await conn.execute(
        """UPDATE consent SET status = $2, customer_id = $3, account_ids = $4, changed_ms = $5
           WHERE consent_id = $1""",
        after.consent_id, after.status.value, after.customer_id, list(after.account_ids), after.changed_ms,
    )  # fmt: skip
    await audit.record(
        conn, actor=actor, action=f"consent.{after.status.name.lower()}", subject=after.consent_id,
        detail={"before": before.status.value, "after": after.status.value, "client_id": after.client_id},
        now_ms=after.changed_ms,
    )  # fmt: skip
    await announce(conn, "consent", after.consent_id, now_ms=after.changed_ms)


def _consent(row: Any) -> Consent:
    return Consent(
        row["consent_id"], row["partner_id"], row["client_id"], ConsentKind(row["kind"]), ConsentStatus(row["status"]),
        row["body"], row["customer_id"], tuple(row["account_ids"]), row["created_ms"], row["changed_ms"],
        row["expires_ms"],
    )  # fmt: skip


# --- grants ------------------------------------------------------------------------------------------------------
async def create_grant(conn: Connection, consent: Consent, *, scopes: frozenset[str], now_ms: int) -> CustomerGrant:
    """The authorized consent as something that tokens can stand for."""
    assert consent.customer_id is not None, "a grant is made by a customer"
    grant = CustomerGrant(
        new_id("grt"), consent.client_id, consent.partner_id, consent.customer_id, consent.consent_id, scopes, None
    )
    await conn.execute(
        """INSERT INTO oauth_grant (grant_id, client_id, partner_id, customer_id, consent_id, scopes, created_ms)
           VALUES ($1, $2, $3, $4, $5, $6, $7)""",
        grant.grant_id, grant.client_id, grant.partner_id, grant.customer_id, grant.consent_id, sorted(scopes), now_ms,
    )  # fmt: skip
    return grant


async def find_grant(conn: Connection, grant_id: str) -> CustomerGrant | None:
    row = await conn.fetchrow(
        """SELECT grant_id, client_id, partner_id, customer_id, consent_id, scopes, revoked_ms
           FROM oauth_grant WHERE grant_id = $1""",
        grant_id,
    )
    return CustomerGrant(**{**row, "scopes": frozenset(row["scopes"])}) if row else None


async def revoke_grant(conn: Connection, grant_id: str, *, now_ms: int) -> None:
    """Stop every code and token that carries the id, an app's own token too; twice is the same as once."""
    await conn.execute("UPDATE oauth_grant SET revoked_ms = $2 WHERE grant_id = $1 AND revoked_ms IS NULL",
                       grant_id, now_ms)  # fmt: skip
    fresh = await conn.fetchval(
        """INSERT INTO revoked_grant (grant_id, revoked_at_ms, until_ms) VALUES ($1, $2, $3)
           ON CONFLICT (grant_id) DO NOTHING RETURNING true""",
        grant_id, now_ms, now_ms + TOKEN_LIFE_MS,
    )  # fmt: skip
    if fresh:
        await announce(conn, "grant", grant_id, now_ms=now_ms)


async def is_revoked(conn: Connection, grant_id: str) -> bool:
    """A customer's grant for good, an app's own while its token may still be alive."""
    return bool(
        await conn.fetchval(
            """SELECT EXISTS (SELECT FROM revoked_grant WHERE grant_id = $1)
                   OR EXISTS (SELECT FROM oauth_grant WHERE grant_id = $1 AND revoked_ms IS NOT NULL)""",
            grant_id,
        )
    )


async def _revoke_grants_of(conn: Connection, consent_id: str, *, now_ms: int) -> None:
    rows = await conn.fetch(
        "SELECT grant_id FROM oauth_grant WHERE consent_id = $1 AND revoked_ms IS NULL ORDER BY grant_id", consent_id
    )
    for row in rows:
        await revoke_grant(conn, row["grant_id"], now_ms=now_ms)
