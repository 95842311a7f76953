"""What a goal of the bank's feed means: decided for a touch, followed to the owner, or nobody's.

A goal is decided at its first occurrence, once and for good, for all partners. What follows goes to the customer's
owner while the post window runs. Only spending counts every time; anything else is reached once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from gateway.referrals.attribution import Decision, Step, attribute
from gateway.referrals.model import GoalReached, ReferralTerms, Touch

REPEATABLE = frozenset(("SPEND",))


class GoalOutcome(StrEnum):
    """Why an event did or did not become goal.reached; also the label of parasol_claims_total."""

    OWNED = "owned"  # decided now, for a touch
    CONVERTED = "converted"  # followed the owner
    REPEATED = "repeated"  # reached before
    NOBODY = "nobody"  # no touch stood
    WINDOW_OVER = "window_over"  # the owner's post window has ended
    NO_CONTRACT = "no_contract"  # the owner has no contract in force at that time
    CURRENCY = "currency"  # the amount is not in the contract's currency

    @property
    def pays(self) -> bool:
        return self in (GoalOutcome.OWNED, GoalOutcome.CONVERTED)


@dataclass(frozen=True, slots=True)
class Ownership:
    """The first time a customer reached a goal. `partner_id` is empty where nobody brought the customer."""

    customer_id: str
    goal: str
    via: str  # touch | owner | nobody
    partner_id: str
    claim_id: str
    touch_id: int | None
    evidence: str
    campaign: str
    subject_token: str
    anchor_at_ms: int
    until_ms: int
    bank_event_id: str = ""
    steps: tuple[Step, ...] = ()

    def runs_at(self, moment_ms: int) -> bool:
        return self.via == "touch" and self.anchor_at_ms <= moment_ms <= self.until_ms


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one event came to. `owner` is whom it counts for; `decided` is new knowledge to be kept."""

    goal: GoalReached
    outcome: GoalOutcome
    owner: Ownership | None
    decided: Ownership | None
    terms: ReferralTerms | None
    losers: frozenset[str] = frozenset()


def judge(
    goal: GoalReached,
    known: Mapping[str, Ownership],
    *,
    touches: Iterable[Touch],
    terms: Mapping[str, ReferralTerms],
) -> Verdict:
    """`known` holds the customer's goals decided so far, by goal; `terms` what was in force when the goal occurred."""
    before = known.get(goal.goal)
    if before is not None and goal.goal not in REPEATABLE:
        return Verdict(goal, GoalOutcome.REPEATED, None, None, None)
    owner = _running_owner(known.values(), goal.occurred_at_ms)
    if owner is not None:
        return _follow(goal, owner, terms.get(owner.partner_id), first=before is None)
    over = any(entry.via == "touch" for entry in known.values())
    nobody = GoalOutcome.WINDOW_OVER if over else GoalOutcome.NOBODY
    if before is not None:
        return Verdict(goal, nobody, None, None, None)
    decision = attribute(goal, touches, terms=terms)
    if decision.owner is None:
        return Verdict(goal, nobody, None, _unowned(goal, decision), None)
    return _own(goal, decision, terms[decision.owner.partner_id])


def _running_owner(known: Iterable[Ownership], moment_ms: int) -> Ownership | None:
    """Of several that run, the one that began first: a customer is not passed on while somebody owns it."""
    running = [entry for entry in known if entry.runs_at(moment_ms)]
    return min(running, key=lambda entry: (entry.anchor_at_ms, entry.goal), default=None)


def _follow(goal: GoalReached, owner: Ownership, terms: ReferralTerms | None, *, first: bool) -> Verdict:
    step = Step(
        "follows_owner", owner.partner_id, owner.claim_id, owner.touch_id or 0,
        {"anchor_at": owner.anchor_at_ms, "until": owner.until_ms},
    )  # fmt: skip
    decided = replace(
        owner, goal=goal.goal, via="owner", touch_id=None, bank_event_id=goal.bank_event_id, steps=(step,),
        anchor_at_ms=goal.occurred_at_ms,
    )  # fmt: skip
    return Verdict(goal, _payable(goal, terms, GoalOutcome.CONVERTED), owner, decided if first else None, terms)


def _own(goal: GoalReached, decision: Decision, terms: ReferralTerms) -> Verdict:
    touch = decision.owner
    assert touch is not None
    owner = Ownership(
        customer_id=goal.customer_id, goal=goal.goal, via="touch", partner_id=touch.partner_id,
        claim_id=touch.claim_id, touch_id=touch.touch_id, evidence=touch.evidence.value, campaign=touch.campaign,
        subject_token=touch.customer_token, anchor_at_ms=goal.occurred_at_ms,
        until_ms=goal.occurred_at_ms + terms.post_window_ms,
        bank_event_id=goal.bank_event_id, steps=decision.steps,
    )  # fmt: skip
    return Verdict(goal, _payable(goal, terms, GoalOutcome.OWNED), owner, owner, terms, decision.losers)


def _unowned(goal: GoalReached, decision: Decision) -> Ownership:
    """Kept too: a customer who came by itself cannot be claimed later for the same goal."""
    return Ownership(
        goal.customer_id, goal.goal, "nobody", "", "", None, "", "", "", goal.occurred_at_ms, goal.occurred_at_ms,
        goal.bank_event_id, decision.steps,
    )  # fmt: skip


def _payable(goal: GoalReached, terms: ReferralTerms | None, yes: GoalOutcome) -> GoalOutcome:
    if terms is None:
        return GoalOutcome.NO_CONTRACT
    if goal.amount_minor and goal.currency != terms.currency:
        return GoalOutcome.CURRENCY
    return yes
