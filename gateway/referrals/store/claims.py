"""SQL of claims as their partner reads them, and of their end."""

from dataclasses import dataclass
from typing import Any

from gateway.database import Connection
from gateway.referrals.attribution import Step
from gateway.referrals.model import Claim, ClaimState, Evidence, Fate, Touch

_COLUMNS = """claim_id, partner_id, customer_token, state, reason, recorded_at_ms, told_until_ms, expires_at_ms,
    customer_id, joined_at_ms, paid_at_ms"""
_PAGE = f"SELECT {_COLUMNS} FROM referral_claim WHERE partner_id = $1 AND claim_id > $2"  # noqa: S608
# A scan's claim begins when the bank's customer shows the ticket: until it pays, its partner does not hear of it.
_SEEN = "(witness = 'partner' OR paid_at_ms IS NOT NULL)"
_TOUCHES_SHOWN = 50  # of one claim


@dataclass(frozen=True, slots=True)
class GoalCounted:
    """A goal that was counted for a claim; `event_id` is the fact that statements name."""

    goal: str
    event_id: str
    occurred_at_ms: int
    amount_minor: int


async def page(conn: Connection, partner_id: str, *, fate: Fate | None, after: str, limit: int) -> list[Claim]:
    """What the partner sees, in the order of ids, which is the order of their batches."""
    if fate is Fate.PAID:
        query = f"{_PAGE} AND paid_at_ms IS NOT NULL ORDER BY claim_id LIMIT $3"
    elif fate is Fate.RECORDED:
        query = f"{_PAGE} AND witness = 'partner' AND paid_at_ms IS NULL ORDER BY claim_id LIMIT $3"
    else:
        query = f"{_PAGE} AND {_SEEN} ORDER BY claim_id LIMIT $3"
    return list(map(_claim, await conn.fetch(query, partner_id, after, limit)))


async def page_for_bank(
    conn: Connection, partner_id: str, *, state: ClaimState | None, after: str, limit: int
) -> list[Claim]:
    """Every claim of a partner."""
    if state is None:
        rows = await conn.fetch(f"{_PAGE} ORDER BY claim_id LIMIT $3", partner_id, after, limit)
    elif state is ClaimState.ELIGIBLE:
        rows = await conn.fetch(
            f"{_PAGE} AND state = 'ELIGIBLE' ORDER BY claim_id LIMIT $3", partner_id, after, limit
        )  # fmt: skip
    else:  # spelled so that the partial index on the rarer states fits
        rows = await conn.fetch(
            f"{_PAGE} AND state = $4 AND state <> 'ELIGIBLE' ORDER BY claim_id LIMIT $3",
            partner_id, after, limit, state.value,
        )  # fmt: skip
    return list(map(_claim, rows))


async def find(conn: Connection, partner_id: str, claim_id: str) -> Claim | None:
    """What the partner sees."""
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM referral_claim WHERE partner_id = $1 AND claim_id = $2 AND {_SEEN}",  # noqa: S608
        partner_id, claim_id,
    )  # fmt: skip
    return _claim(row) if row else None


async def find_for_bank(conn: Connection, partner_id: str, claim_id: str) -> Claim | None:
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM referral_claim WHERE partner_id = $1 AND claim_id = $2",  # noqa: S608
        partner_id, claim_id,
    )  # fmt: skip
    return _claim(row) if row else None


async def counts(conn: Connection, partner_id: str) -> tuple[int, int, int]:
    """(told by the partner, brought a customer and not paid yet, paid)."""
    row = await conn.fetchrow(
        """SELECT count(*) FILTER (WHERE witness = 'partner') AS told,
                  count(*) FILTER (WHERE paid_at_ms IS NULL AND state IN ('OWNING', 'CONVERTED')) AS brought,
                  count(*) FILTER (WHERE paid_at_ms IS NOT NULL) AS paid
           FROM referral_claim WHERE partner_id = $1""",
        partner_id,
    )  # fmt: skip
    assert row is not None, "a count has one row"
    return row["told"], row["brought"], row["paid"]


async def set_aside(conn: Connection, *, before_id: int, limit: int) -> list[Any]:
    """Events of the bank's feed that could not be judged, newest first."""
    return list(
        await conn.fetch(
            """SELECT aside_id, feed_cursor, bank_event_id, goal, reason, set_aside_at_ms FROM referral_goal_aside
               WHERE aside_id < $1 ORDER BY aside_id DESC LIMIT $2""",
            before_id, limit,
        )
    )  # fmt: skip


async def touches(conn: Connection, claim: Claim) -> list[tuple[Touch, str, str]]:
    """The claim's latest touches, each with its consent reference and site."""
    rows = await conn.fetch(
        """SELECT touch_id, partner_id, claim_id, evidence, occurred_at_ms, recorded_at_ms, campaign, consent_ref, site,
                  $4::text AS customer_token
           FROM referral_touch WHERE partner_id = $1 AND claim_id = $2 ORDER BY touch_id DESC LIMIT $3""",
        claim.partner_id, claim.claim_id, _TOUCHES_SHOWN, claim.customer_token,
    )  # fmt: skip
    return [(touch_of(row), row["consent_ref"], row["site"]) for row in rows]


async def trace(conn: Connection, claim: Claim) -> tuple[list[Step], str]:
    """The decision about the claim's customer and the version of the rule that made it; empty before there is one."""
    if claim.customer_id is None:
        return [], ""
    row = await conn.fetchrow(
        "SELECT trace, rule FROM referral_owner WHERE customer_id = $1 AND joined_at_ms = $2",
        claim.customer_id, claim.joined_at_ms,
    )  # fmt: skip
    assert row is not None, "a claim names a customer that was decided"
    return [Step(**step) for step in row["trace"]], row["rule"]


async def goals(conn: Connection, claim: Claim, *, limit: int) -> list[GoalCounted]:
    rows = await conn.fetch(
        """SELECT goal, event_id, occurred_at_ms, amount_minor FROM referral_goal
           WHERE partner_id = $1 AND claim_id = $2 AND event_id IS NOT NULL
           ORDER BY occurred_at_ms, event_id LIMIT $3""",
        claim.partner_id, claim.claim_id, limit,
    )  # fmt: skip
    return [GoalCounted(row["goal"], row["event_id"], row["occurred_at_ms"], row["amount_minor"]) for row in rows]


async def expire(conn: Connection, *, now_ms: int, limit: int) -> int:
    """The look-back of an ELIGIBLE claim is over, or the post window of an owner. What was decided stays decided."""
    rows = await conn.fetch(
        """UPDATE referral_claim SET state = 'EXPIRED' WHERE (partner_id, claim_id) IN (
               SELECT partner_id, claim_id FROM referral_claim
               WHERE state IN ('ELIGIBLE', 'OWNING', 'CONVERTED') AND expires_at_ms < $1
               ORDER BY expires_at_ms LIMIT $2 FOR UPDATE SKIP LOCKED)
           RETURNING 1""",
        now_ms, limit,
    )  # fmt: skip
    return len(rows)


def touch_of(row: Any) -> Touch:
    return Touch(
        row["touch_id"], row["partner_id"], row["claim_id"], Evidence(row["evidence"]), row["occurred_at_ms"],
        row["recorded_at_ms"], row["campaign"], row["customer_token"],
    )  # fmt: skip


def _claim(row: Any) -> Claim:
    return Claim(**{**row, "state": ClaimState(row["state"])})
