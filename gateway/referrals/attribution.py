"""Who owns a customer's goal: a pure function of the touch log and the terms, the same on every replay.

A touch stands if its partner's contract counts it: the kind of evidence, the goal, how far back, met and reported
before the goal. Of all that stand, the bank's declared order, the same for all, finds the partner: evidence, first or
last, server receipt, id. Which of that partner's own touches is named then follows its contract. The order is total:
one owner or none, every loser has the reason that beat it, and more touches never lose a customer.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.referrals.model import Evidence, GoalReached, Pick, ReferralTerms, Touch


@dataclass(frozen=True, slots=True)
class BankRule:
    """The bank's declared order between partners. A changed rule gets a new version; replays name it."""

    version: str
    order: tuple[Evidence, ...]
    pick: Pick


BANK_RULE = BankRule("2026-1", (Evidence.SIGNED_SCAN, Evidence.CLICK_ID, Evidence.BATCH, Evidence.CODE), Pick.LAST)


RIVALRY_CODES = frozenset(
    ("evidence_outranked", "later_touch_counts", "earlier_touch_counts", "received_later", "higher_id")
)  # how one touch that stands beats another; with "own_" in front: of the same partner


@dataclass(frozen=True, slots=True)
class Step:
    """One sentence of the trace: what happened to this touch and the values that were compared."""

    code: str
    partner_id: str
    claim_id: str
    touch_id: int
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Decision:
    """`losers` are the claims that could have won; touches that did not count at all are in the trace only."""

    owner: Touch | None
    losers: frozenset[str]
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class _Bout:
    """The comparison of one round: evidence rank, then first or last, then receipt, then id."""

    order: tuple[Evidence, ...]
    pick: Pick

    def key(self, touch: Touch) -> tuple[int, int, int, int]:
        moment = -touch.occurred_at_ms if self.pick is Pick.LAST else touch.occurred_at_ms
        return (self.order.index(touch.evidence), moment, touch.recorded_at_ms, touch.touch_id)

    def reason(self, winner: Touch, loser: Touch) -> tuple[str, dict[str, Any]]:
        """The first thing in which they differ."""
        if winner.evidence is not loser.evidence:
            return "evidence_outranked", {"winner": winner.evidence.value, "loser": loser.evidence.value}
        if winner.occurred_at_ms != loser.occurred_at_ms:
            code = "later_touch_counts" if self.pick is Pick.LAST else "earlier_touch_counts"
            return code, {"winner": winner.occurred_at_ms, "loser": loser.occurred_at_ms}
        if winner.recorded_at_ms != loser.recorded_at_ms:
            return "received_later", {"winner": winner.recorded_at_ms, "loser": loser.recorded_at_ms}
        return "higher_id", {"winner": winner.touch_id, "loser": loser.touch_id}


def attribute(
    goal: GoalReached,
    touches: Iterable[Touch],
    *,
    terms: Mapping[str, ReferralTerms],
    rule: BankRule = BANK_RULE,
) -> Decision:
    """Decide one goal. `terms` holds each partner's terms in force when the goal occurred; the order of `touches` is
    of no effect."""
    standing: list[Touch] = []
    excluded: list[Step] = []
    for touch in sorted(touches, key=lambda touch: touch.touch_id):
        reason = _disqualified(touch, goal, terms.get(touch.partner_id))
        if reason is None:
            standing.append(touch)
        else:
            excluded.append(_step(touch, *reason))
    if not standing:
        return Decision(None, frozenset(), tuple(excluded))
    best, rivals = _contest(standing, _Bout(rule.order, rule.pick), prefix="")
    own_terms = terms[best.partner_id]
    own = [touch for touch in standing if touch.partner_id == best.partner_id]
    owner, own_steps = _contest(own, _Bout(own_terms.order, own_terms.pick), prefix="own_")
    won = _step(owner, "won", {"evidence": owner.evidence.value, "occurred_at": owner.occurred_at_ms})
    losers = frozenset(touch.claim_id for touch in standing) - {owner.claim_id}
    foreign = [step for step in rivals if step.partner_id != best.partner_id]
    return Decision(owner, losers, (won, *foreign, *own_steps, *excluded))


def _contest(touches: list[Touch], bout: _Bout, *, prefix: str) -> tuple[Touch, list[Step]]:
    """The best touch of a round, and why each of the others is not, the nearest first."""
    winner, *rest = sorted(touches, key=bout.key)
    steps = []
    for loser in rest:
        code, facts = bout.reason(winner, loser)
        steps.append(_step(loser, prefix + code, facts))
    return winner, steps


Check = Callable[[Touch, GoalReached, ReferralTerms], dict[str, Any] | None]


def _disqualified(touch: Touch, goal: GoalReached, terms: ReferralTerms | None) -> tuple[str, dict[str, Any]] | None:
    """Why a touch does not count for this goal at all; None: it stands."""
    if terms is None:
        return "no_contract", {}
    for code, check in _CHECKS:
        facts = check(touch, goal, terms)
        if facts is not None:
            return code, facts
    return None


def _goal_not_agreed(_: Touch, goal: GoalReached, terms: ReferralTerms) -> dict[str, Any] | None:
    return None if goal.goal in terms.exclusive_for else {"goal": goal.goal}


def _evidence_not_agreed(touch: Touch, _: GoalReached, terms: ReferralTerms) -> dict[str, Any] | None:
    return None if touch.evidence in terms.order else {"evidence": touch.evidence.value}


def _after_goal(touch: Touch, goal: GoalReached, _: ReferralTerms) -> dict[str, Any] | None:
    """Met and reported before the goal: nobody claims a customer after the fact, by a back-dated row either."""
    if max(touch.occurred_at_ms, touch.recorded_at_ms) < goal.occurred_at_ms:
        return None
    return {"recorded_at": touch.recorded_at_ms, "goal_at": goal.occurred_at_ms}


def _outside_lookback(touch: Touch, goal: GoalReached, terms: ReferralTerms) -> dict[str, Any] | None:
    if goal.occurred_at_ms - touch.occurred_at_ms <= terms.lookback_ms:
        return None
    return {"occurred_at": touch.occurred_at_ms, "goal_at": goal.occurred_at_ms}


_CHECKS: tuple[tuple[str, Check], ...] = (
    ("goal_not_agreed", _goal_not_agreed),
    ("evidence_not_agreed", _evidence_not_agreed),
    ("after_goal", _after_goal),
    ("outside_lookback", _outside_lookback),
)


def _step(touch: Touch, code: str, facts: dict[str, Any]) -> Step:
    return Step(code, touch.partner_id, touch.claim_id, touch.touch_id, facts)
