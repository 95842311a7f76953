"""SQL of goals: one load and one write for a chunk of the bank's feed, whatever its size."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.database import Connection
from gateway.jsonio import encode
from gateway.referrals.attribution import BANK_RULE
from gateway.referrals.goal import Ownership, Verdict
from gateway.referrals.model import ClaimState, Touch
from gateway.referrals.store.claims import touch_of
from gateway.referrals.store.links import PresentedScan


@dataclass(frozen=True, slots=True)
class ClaimChange:
    """A claim after a chunk."""

    partner_id: str
    claim_id: str
    state: ClaimState
    customer_id: str
    goal: str
    until_ms: int | None


async def read_cursor(conn: Connection) -> str:
    return str(await conn.fetchval("SELECT after_cursor FROM referral_goal_cursor"))


async def move_cursor(conn: Connection, *, old: str, new: str) -> bool:
    """Locks the feed's place for this transaction; False: another process has moved on from `old`."""
    status = await conn.execute(
        "UPDATE referral_goal_cursor SET after_cursor = $2 WHERE after_cursor = $1", old, new
    )  # fmt: skip
    return status == "UPDATE 1"


async def known_events(conn: Connection, bank_event_ids: Sequence[str]) -> set[str]:
    rows = await conn.fetch(
        "SELECT bank_event_id FROM referral_goal WHERE bank_event_id = ANY ($1::text[])", list(bank_event_ids)
    )
    return {row["bank_event_id"] for row in rows}


async def ownerships(conn: Connection, customer_ids: Iterable[str]) -> dict[str, dict[str, Ownership]]:
    """By customer, then goal: what has been decided about these customers."""
    rows = await conn.fetch(
        """SELECT customer_id, goal, via, partner_id, claim_id, touch_id, evidence, campaign, subject_token,
                  anchor_at_ms, until_ms, bank_event_id
           FROM referral_owner WHERE customer_id = ANY ($1::text[])""",
        list(customer_ids),
    )  # fmt: skip
    found: dict[str, dict[str, Ownership]] = {}
    for row in rows:
        texts = {name: row[name] or "" for name in ("partner_id", "claim_id", "evidence", "campaign", "subject_token")}
        found.setdefault(row["customer_id"], {})[row["goal"]] = Ownership(**{**row, **texts})
    return found


async def touches_of_tokens(conn: Connection, tokens: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[Touch]]:
    """The touch log of (partner, token) pairs."""
    if not tokens:
        return {}
    rows = await conn.fetch(
        """SELECT c.customer_token, t.touch_id, t.partner_id, t.claim_id, t.evidence, t.occurred_at_ms,
                  t.recorded_at_ms, t.campaign
           FROM unnest($1::text[], $2::text[]) AS wanted (partner_id, customer_token)
           JOIN referral_claim c USING (partner_id, customer_token)
           JOIN referral_touch t ON t.claim_id = c.claim_id AND t.partner_id = c.partner_id""",
        *map(list, zip(*tokens, strict=True)),
    )  # fmt: skip
    found: dict[tuple[str, str], list[Touch]] = {}
    for row in rows:
        found.setdefault((row["partner_id"], row["customer_token"]), []).append(touch_of(row))
    return found


async def claim_by_scan(conn: Connection, scans: Sequence[tuple[str, str, int, PresentedScan]], *, now_ms: int) -> None:
    """(new claim's id, token, expiry, scan): one claim a partner and token, one touch a scan."""
    for claim_id, token, expires_ms, scan in scans:
        kept = await conn.fetchval(
            """INSERT INTO referral_claim AS c (partner_id, claim_id, customer_token, state, recorded_at_ms,
                                                expires_at_ms)
               VALUES ($1, $2, $3, 'ELIGIBLE', $4, $5)
               ON CONFLICT (partner_id, customer_token) DO UPDATE
               SET expires_at_ms = GREATEST(c.expires_at_ms, excluded.expires_at_ms)
               RETURNING claim_id""",
            scan.partner_id, claim_id, token, now_ms, expires_ms,
        )  # fmt: skip
        await conn.execute(
            """INSERT INTO referral_touch (partner_id, claim_id, evidence, occurred_at_ms, recorded_at_ms, consent_ref,
                                           site, campaign, link_id)
               VALUES ($1, $2, 'signed_scan', $3, $3, $4, $5, $6, $7)""",
            scan.partner_id, kept, scan.scanned_at_ms, scan.consent_ref, scan.site, scan.campaign, scan.link_id,
        )  # fmt: skip


async def keep_verdicts(conn: Connection, verdicts: Sequence[tuple[Verdict, str | None]], *, now_ms: int) -> None:
    """Each verdict with the id of its goal.reached event, if any; a bank event that is here already breaks the key."""
    rows = [
        (
            v.goal.bank_event_id, v.goal.customer_id, v.goal.goal, v.goal.occurred_at_ms, now_ms, v.goal.amount_minor,
            v.outcome.value, v.owner.partner_id if v.owner else None, v.owner.claim_id if v.owner else None, event_id,
        )
        for v, event_id in verdicts
    ]  # fmt: skip
    await conn.execute(
        """INSERT INTO referral_goal (bank_event_id, customer_id, goal, occurred_at_ms, recorded_at_ms, amount_minor,
                                      outcome, partner_id, claim_id, event_id)
           SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[],
                                $7::text[], $8::text[], $9::text[], $10::text[])""",
        *_columns(rows, 10),
    )  # fmt: skip


async def keep_ownerships(conn: Connection, decided: Sequence[Ownership], *, now_ms: int) -> None:
    rows = [
        (
            own.customer_id, own.goal, own.via, own.partner_id or None, own.claim_id or None, own.touch_id,
            own.evidence or None, own.campaign or None, own.subject_token or None, own.anchor_at_ms, own.until_ms,
            BANK_RULE.version, encode(own.steps).decode(), own.bank_event_id, now_ms,
        )
        for own in decided
    ]  # fmt: skip
    await conn.execute(
        """INSERT INTO referral_owner (customer_id, goal, via, partner_id, claim_id, touch_id, evidence, campaign,
               subject_token, anchor_at_ms, until_ms, rule, trace, bank_event_id, decided_at_ms)
           SELECT n.customer_id, n.goal, n.via, n.partner_id, n.claim_id, n.touch_id, n.evidence, n.campaign, n.token,
               n.anchor_at_ms, n.until_ms, n.rule, n.trace::jsonb, n.bank_event_id, n.decided_at_ms
           FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[],
                       $9::text[], $10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::text[], $15::bigint[])
                AS n (customer_id, goal, via, partner_id, claim_id, touch_id, evidence, campaign, token, anchor_at_ms,
                      until_ms, rule, trace, bank_event_id, decided_at_ms)""",
        *_columns(rows, 15),
    )  # fmt: skip


async def change_claims(conn: Connection, changes: Iterable[ClaimChange]) -> None:
    """A claim that owns a customer is not lost to another goal's decision."""
    rows = [(c.partner_id, c.claim_id, c.state.value, c.customer_id, c.goal, c.until_ms) for c in changes]
    await conn.execute(
        """UPDATE referral_claim AS c
           SET state = n.state, customer_id = n.customer_id, goal = n.goal,
               expires_at_ms = coalesce(n.until_ms, c.expires_at_ms)
           FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[])
                AS n (partner_id, claim_id, state, customer_id, goal, until_ms)
           WHERE c.partner_id = n.partner_id AND c.claim_id = n.claim_id
             AND NOT (n.state = 'LOST' AND c.state IN ('OWNING', 'CONVERTED'))""",
        *_columns(rows, 6),
    )  # fmt: skip


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Rows as unnest wants them: one list a column, `width` empty ones where there is no row."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]
