"""What the bank's operators see of referrals: every claim with its true state and reason, and the events set aside."""

from dataclasses import dataclass
from typing import Any

from gateway.admission.refusals import QueryMalformed
from gateway.call import Answer, OpsCall
from gateway.clock import rfc3339
from gateway.database import Database
from gateway.referrals.api import (
    GOALS_SHOWN,
    goal_members,
    read_page,
    sentence_members,
    touch_members,
)
from gateway.referrals.explain import explain
from gateway.referrals.model import Claim, ClaimState
from gateway.referrals.store import claims
from gateway.refusal import UnknownResource

_NEWEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ReferralsOps:
    """ListPartnerClaims, GetPartnerClaim, ListGoalsSetAside."""

    database: Database

    async def list_claims(self, call: OpsCall) -> Answer:
        page, state = read_page(call.query, own_fields=("State",)), _state(call.query.get("State"))
        async with self.database.connection() as conn:
            found = await claims.page_for_bank(
                conn, call.path["PartnerId"], state=state, after=page.cursor, limit=page.limit + 1
            )
        shown = found[: page.limit]
        more = {"NextCursor": shown[-1].claim_id} if len(found) > page.limit else {}
        return Answer(200, {"Data": {"Claim": list(map(_claim, shown)), **more}})

    async def get_claim(self, call: OpsCall) -> Answer:
        """With every touch, scans too, its goals, and the whole trace with every name."""
        async with self.database.connection() as conn:
            claim = await claims.find_for_bank(conn, call.path["PartnerId"], call.path["ClaimId"])
            if claim is None:
                raise UnknownResource(f"There is no claim {call.path['ClaimId']}")
            steps, rule = await claims.trace(conn, claim)
            touches = await claims.touches(conn, claim)
            goals = await claims.goals(conn, claim, limit=GOALS_SHOWN)
        data = {
            **_claim(claim),
            "Touch": list(map(touch_members, touches)),
            "Goal": list(map(goal_members, goals)),
            "Rule": rule,
            "Trace": list(map(sentence_members, explain(steps, viewer=None))),
        }
        return Answer(200, {"Data": data})

    async def list_goals_set_aside(self, call: OpsCall) -> Answer:
        """Newest first; `Cursor` pages back."""
        page = read_page(call.query, own_fields=())
        if page.cursor and not (page.cursor.isdigit() and len(page.cursor) < 19):
            raise QueryMalformed("Cursor is what NextCursor gave", path="$query.Cursor")
        async with self.database.connection() as conn:
            found = await claims.set_aside(conn, before_id=int(page.cursor or _NEWEST), limit=page.limit + 1)
        shown = found[: page.limit]
        more = {"NextCursor": str(shown[-1]["aside_id"])} if len(found) > page.limit else {}
        return Answer(200, {"Data": {"GoalSetAside": list(map(_aside, shown)), **more}})


def _claim(claim: Claim) -> dict[str, Any]:
    paid = {"PaidDateTime": rfc3339(claim.paid_at_ms)} if claim.paid_at_ms is not None else {}
    return {
        "ClaimId": claim.claim_id,
        "PartnerId": claim.partner_id,
        "CustomerToken": claim.customer_token,
        "State": claim.state.value,
        **({"Reason": claim.reason} if claim.reason else {}),
        "RecordedDateTime": rfc3339(claim.recorded_at_ms),
        "ExpirationDateTime": rfc3339(claim.expires_at_ms),
        **paid,
    }


def _aside(row: Any) -> dict[str, Any]:
    return {
        "BankEventId": row["bank_event_id"], "Goal": row["goal"], "Reason": row["reason"],
        "FeedCursor": row["feed_cursor"], "SetAsideDateTime": rfc3339(row["set_aside_at_ms"]),
    }  # fmt: skip


def _state(text: str | None) -> ClaimState | None:
    if text is None:
        return None
    if text not in ClaimState.__members__:
        raise QueryMalformed(f"State is one of {', '.join(ClaimState)}", path="$query.State")
    return ClaimState(text)
