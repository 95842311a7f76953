"""SQL of goals: one load and one write for a chunk of the bank's feed, whatever its size."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from gateway.database import Connection
from gateway.jsonio import encode
from gateway.referrals.attribution import BANK_RULE
from gateway.referrals.goal import First, Ownership, Relation, Verdict
from gateway.referrals.model import ClaimState, Touch
from gateway.referrals.store.claims import touch_of
from gateway.referrals.store.links import PresentedScan
from gateway.referrals.store.waiting import as_columns


@dataclass(frozen=True, slots=True)
class ClaimChange:
    """A claim after a chunk. `paid`: a commission is due for it from now on."""

    partner_id: str
    claim_id: str
    state: ClaimState
    customer_id: str
    joined_at_ms: int
    reason: str | None = None
    until_ms: int | None = None
    paid: bool = False


NEARER = (ClaimState.EXCLUDED, ClaimState.LOST, ClaimState.OWNING, ClaimState.CONVERTED)


async def read_cursor(conn: Connection) -> str:
    return str(await conn.fetchval("SELECT after_cursor FROM referral_goal_cursor"))


async def hold_cursor(conn: Connection) -> str:
    """Nobody else decides anything until this transaction ends; returns the feed's place."""
    return str(await conn.fetchval("SELECT after_cursor FROM referral_goal_cursor FOR UPDATE"))


async def move_cursor(conn: Connection, new: str, *, joined_until_ms: int) -> None:
    """By who holds it, who has heard of people that joined until then."""
    await conn.execute(
        """UPDATE referral_goal_cursor SET after_cursor = $1, joined_until_ms = GREATEST(joined_until_ms, $2)""",
        new, joined_until_ms,
    )  # fmt: skip


async def hold_receipts(conn: Connection) -> int:
    """Until this transaction ends no goal is judged; returns when the last person joined of whom the feed has told."""
    return int(await conn.fetchval("SELECT joined_until_ms FROM referral_goal_cursor FOR SHARE"))


async def known_events(conn: Connection, bank_event_ids: Sequence[str]) -> set[str]:
    rows = await conn.fetch(
        "SELECT bank_event_id FROM referral_goal WHERE bank_event_id = ANY ($1::text[])", list(bank_event_ids)
    )
    return {row["bank_event_id"] for row in rows}


async def relations(conn: Connection, customer_ids: Iterable[str]) -> dict[str, list[Relation]]:
    """By customer, one for each time of joining: what has been decided, and the first goals."""
    found: dict[tuple[str, int], Relation] = {}
    for row in await conn.fetch(
        """SELECT customer_id, joined_at_ms, partner_id, claim_id, touch_id, evidence, campaign, subject_token,
                  exclusive_for, post_window_ms
           FROM referral_owner WHERE customer_id = ANY ($1::text[])""",
        customers := list(customer_ids),
    ):
        texts = {name: row[name] or "" for name in ("partner_id", "claim_id", "evidence", "campaign", "subject_token")}
        owner = Ownership(**{**row, **texts, "exclusive_for": frozenset(row["exclusive_for"])})
        key = owner.customer_id, owner.joined_at_ms
        found[key] = Relation(*key, owner, {})
    for row in await conn.fetch(
        """SELECT customer_id, joined_at_ms, goal, reached_at_ms, bank_event_id
           FROM referral_first WHERE customer_id = ANY ($1::text[])""",
        customers,
    ):
        key = row["customer_id"], row["joined_at_ms"]
        relation = found.setdefault(key, Relation(*key, None, {}))
        relation.firsts[row["goal"]] = First(row["reached_at_ms"], row["bank_event_id"])
    by_customer: dict[str, list[Relation]] = {}
    for relation in found.values():
        by_customer.setdefault(relation.customer_id, []).append(relation)
    return by_customer


async def touches_of_tokens(
    conn: Connection, tokens: Collection[tuple[str, str]]
) -> dict[tuple[str, str], list[Touch]]:
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
            """INSERT INTO referral_claim AS c (partner_id, claim_id, customer_token, witness, state, recorded_at_ms,
                                                expires_at_ms)
               VALUES ($1, $2, $3, 'bank', 'ELIGIBLE', $4, $5)
               ON CONFLICT (partner_id, customer_token, witness) DO UPDATE
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
    """Each verdict with the id of its goal.reached event, if any. One that waited is replaced; another one never is."""
    rows = [
        (
            v.goal.bank_event_id, v.goal.customer_id, v.joined_at_ms, v.goal.goal, v.goal.occurred_at_ms,
            v.goal.amount_minor, v.goal.currency, v.outcome.value, v.owner.partner_id if v.owner else None,
            v.owner.claim_id if v.owner else None, event_id,
        )
        for v, event_id in verdicts
    ]  # fmt: skip
    status = await conn.execute(
        """INSERT INTO referral_goal AS g (bank_event_id, customer_id, joined_at_ms, goal, occurred_at_ms,
               recorded_at_ms, amount_minor, currency, outcome, partner_id, claim_id, event_id)
           SELECT n.bank_event_id, n.customer_id, n.joined_at_ms, n.goal, n.occurred_at_ms, $12::bigint,
                  n.amount_minor, n.currency, n.outcome, n.partner_id, n.claim_id, n.event_id
           FROM unnest($1::text[], $2::text[], $3::text::bigint[], $4::text[], $5::text::bigint[], $6::text::bigint[],
                       $7::text[], $8::text[], $9::text[], $10::text[], $11::text[])
                AS n (bank_event_id, customer_id, joined_at_ms, goal, occurred_at_ms, amount_minor, currency, outcome,
                      partner_id, claim_id, event_id)
           ON CONFLICT (bank_event_id) DO UPDATE
           SET outcome = excluded.outcome, recorded_at_ms = excluded.recorded_at_ms, partner_id = excluded.partner_id,
               claim_id = excluded.claim_id, event_id = excluded.event_id
           WHERE g.outcome IN ('waits_for_anchor', 'waits_for_owner', 'waits_for_terms')""",
        *as_columns(rows, 11, numbers=(2, 4, 5)), now_ms,
    )  # fmt: skip
    assert status == f"INSERT 0 {len(rows)}", "a goal is judged for good once"


async def keep_ownerships(conn: Connection, decided: Sequence[Ownership], *, now_ms: int) -> None:
    rows = [
        (
            own.customer_id, own.joined_at_ms, own.partner_id or None, own.claim_id or None, own.touch_id,
            own.evidence or None, own.campaign or None, own.subject_token or None, ",".join(sorted(own.exclusive_for)),
            own.post_window_ms, encode(own.steps).decode(),
        )
        for own in decided
    ]  # fmt: skip
    await conn.execute(
        """INSERT INTO referral_owner (customer_id, joined_at_ms, partner_id, claim_id, touch_id, evidence, campaign,
               subject_token, exclusive_for, post_window_ms, rule, trace, decided_at_ms)
           SELECT n.customer_id, n.joined_at_ms, n.partner_id, n.claim_id, n.touch_id, n.evidence, n.campaign, n.token,
               string_to_array(n.goals, ','), n.post_window_ms, $12, n.trace::jsonb, $13::bigint
           FROM unnest($1::text[], $2::text::bigint[], $3::text[], $4::text[], $5::text::bigint[], $6::text[],
                       $7::text[], $8::text[], $9::text[], $10::text::bigint[], $11::text[])
                AS n (customer_id, joined_at_ms, partner_id, claim_id, touch_id, evidence, campaign, token, goals,
                      post_window_ms, trace)""",
        *as_columns(rows, 11, numbers=(1, 4, 9)), BANK_RULE.version, now_ms,
    )  # fmt: skip


async def keep_firsts(conn: Connection, firsts: Sequence[tuple[str, int, str, First]]) -> None:
    """(customer, joining, goal, first)."""
    rows = [
        (customer, joined, goal, first.reached_at_ms, first.bank_event_id) for customer, joined, goal, first in firsts
    ]
    await conn.execute(
        """INSERT INTO referral_first (customer_id, joined_at_ms, goal, reached_at_ms, bank_event_id)
           SELECT * FROM unnest($1::text[], $2::text::bigint[], $3::text[], $4::text::bigint[], $5::text[])""",
        *as_columns(rows, 5, numbers=(1, 3)),
    )  # fmt: skip


async def change_claims(conn: Connection, changes: Iterable[ClaimChange], *, now_ms: int) -> None:
    """A claim only ever comes nearer to its customer; one that has paid stays seen."""
    rows = [
        (c.partner_id, c.claim_id, c.state.value, c.customer_id, c.joined_at_ms, c.reason, c.until_ms, c.paid)
        for c in changes
    ]
    await conn.execute(
        """UPDATE referral_claim AS c
           SET state = n.state, customer_id = n.customer_id, joined_at_ms = n.joined_at_ms, reason = n.reason,
               expires_at_ms = coalesce(n.until_ms, c.expires_at_ms),
               paid_at_ms = coalesce(c.paid_at_ms, CASE WHEN n.paid THEN $9::bigint END)
           FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text::bigint[], $6::text[],
                       $7::text::bigint[], $8::bool[])
                AS n (partner_id, claim_id, state, customer_id, joined_at_ms, reason, until_ms, paid)
           WHERE c.partner_id = n.partner_id AND c.claim_id = n.claim_id
             AND array_position($10::text[], n.state) >= coalesce(array_position($10::text[], c.state), 0)""",
        *as_columns(rows, 8, numbers=(4, 6)), now_ms, [state.value for state in NEARER],
    )  # fmt: skip
