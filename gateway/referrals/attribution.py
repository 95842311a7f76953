"""Who brought a customer: a pure function of the touch log and the terms, the same on every replay.

It is decided once, as of the moment the person became a customer, which the bank tells with every goal: whichever goal
is told first, the answer is the same. A touch stands if its partner's contract counts it: the kind of evidence, how far
back, and nobody who had an account when it was recorded. Of all that stand, the bank's declared order, the same for
all, finds the partner: evidence, first or last, server receipt, id. Which of that partner's own touches is named then
follows its contract. The order is total: one owner or none, every loser has the reason that beat it, and more touches
never lose a customer.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.referrals.model import Evidence, Joining, Pick, ReferralTerms, Tenure, Touch


@dataclass(frozen=True, slots=True)
class BankRule:
    """The bank's declared order between partners. A changed rule gets a new version; replays name it."""

    version: str
    order: tuple[Evidence, ...]
    pick: Pick


BANK_RULE = BankRule("2026-2", (Evidence.SIGNED_SCAN, Evidence.CLICK_ID, Evidence.BATCH, Evidence.CODE), Pick.LAST)


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
    """`losers` are the claims that could have won; `excluded` those of which no touch counted, each with a reason."""

    owner: Touch | None
    losers: frozenset[str]
    excluded: Mapping[str, str]
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
    joining: Joining,
    touches: Iterable[Touch],
    *,
    terms: Mapping[str, ReferralTerms],
    rule: BankRule = BANK_RULE,
) -> Decision:
    """Decide one customer. `terms` holds each partner's terms in force when the person joined; the order of `touches`
    is of no effect."""
    standing: list[Touch] = []
    excluded: list[Step] = []
    for touch in sorted(touches, key=lambda touch: touch.touch_id):
        reason = _disqualified(touch, joining, terms.get(touch.partner_id))
        if reason is None:
            standing.append(touch)
        else:
            excluded.append(_step(touch, *reason))
    counted = {touch.claim_id for touch in standing}
    reasons = {step.claim_id: step.code for step in excluded if step.claim_id not in counted}
    if not standing:
        return Decision(None, frozenset(), reasons, tuple(excluded))
    best, rivals = _contest(standing, _Bout(rule.order, rule.pick), prefix="")
    own_terms = terms[best.partner_id]
    own = [touch for touch in standing if touch.partner_id == best.partner_id]
    owner, own_steps = _contest(own, _Bout(own_terms.order, own_terms.pick), prefix="own_")
    won = _step(owner, "won", {"evidence": owner.evidence.value, "occurred_at": owner.occurred_at_ms})
    losers = frozenset(counted) - {owner.claim_id}
    foreign = [step for step in rivals if step.partner_id != best.partner_id]
    return Decision(owner, losers, reasons, (won, *foreign, *own_steps, *excluded))


def _contest(touches: list[Touch], bout: _Bout, *, prefix: str) -> tuple[Touch, list[Step]]:
    """The best touch of a round, and why each of the others is not, the nearest first."""
    winner, *rest = sorted(touches, key=bout.key)
    steps = []
    for loser in rest:
        code, facts = bout.reason(winner, loser)
        steps.append(_step(loser, prefix + code, facts))
    return winner, steps


def had_account(touch: Touch, tenures: Iterable[Tenure], *, no_account_since_ms: int | None) -> int | None:
    """Since when the person had the account that excludes the touch; None: nobody's customer then."""
    heard_ms = touch.recorded_at_ms
    for tenure in tenures:
        ended_long_ago = (
            tenure.until_ms is not None
            and no_account_since_ms is not None
            and tenure.until_ms <= heard_ms - no_account_since_ms
        )
        if tenure.since_ms <= heard_ms and not ended_long_ago:
            return tenure.since_ms
    return None


Check = Callable[[Touch, Joining, ReferralTerms], dict[str, Any] | None]


def _disqualified(touch: Touch, joining: Joining, terms: ReferralTerms | None) -> tuple[str, dict[str, Any]] | None:
    """Why a touch does not count at all; None: it stands."""
    if terms is None:
        return "no_contract", {}
    for code, check in _CHECKS:
        facts = check(touch, joining, terms)
        if facts is not None:
            return code, facts
    return None


def _had_account(touch: Touch, joining: Joining, terms: ReferralTerms) -> dict[str, Any] | None:
    """Only who was no customer when the touch was heard of can have been brought by it, whatever moment it names."""
    since_ms = had_account(touch, joining.tenures, no_account_since_ms=terms.no_account_since_ms)
    if since_ms is None and touch.recorded_at_ms < joining.joined_at_ms:
        return None
    return {"recorded_at": touch.recorded_at_ms, "since": joining.joined_at_ms if since_ms is None else since_ms}


def _goal_not_agreed(_: Touch, __: Joining, terms: ReferralTerms) -> dict[str, Any] | None:
    return None if terms.exclusive_for else {}


def _evidence_not_agreed(touch: Touch, _: Joining, terms: ReferralTerms) -> dict[str, Any] | None:
    return None if touch.evidence in terms.order else {"evidence": touch.evidence.value}


def _outside_lookback(touch: Touch, joining: Joining, terms: ReferralTerms) -> dict[str, Any] | None:
    if joining.joined_at_ms - touch.occurred_at_ms <= terms.lookback_ms:
        return None
    return {"occurred_at": touch.occurred_at_ms, "joined_at": joining.joined_at_ms}


_CHECKS: tuple[tuple[str, Check], ...] = (
    ("had_account", _had_account),
    ("goal_not_agreed", _goal_not_agreed),
    ("evidence_not_agreed", _evidence_not_agreed),
    ("outside_lookback", _outside_lookback),
)


def _step(touch: Touch, code: str, facts: dict[str, Any]) -> Step:
    return Step(code, touch.partner_id, touch.claim_id, touch.touch_id, facts)
