"""What a goal of the bank's feed means: whom it counts for, whether it pays, or what it waits for.

Who brought a customer is decided once, as of the moment the person joined the bank (attribution.py). The owner's
contract names the goals with which its time begins; what happens from the first of them on, as long as the post window
runs, counts for the owner. Afterwards it counts for nobody: a customer is not passed on. Only spending counts every
time; of anything else the first one in time does. None of this asks in which order the bank tells its goals: one that
lies before everything known is kept, and judged again when an earlier beginning is told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.referrals.attribution import Decision, Step
from gateway.referrals.model import GoalReached, Joining, ReferralTerms, Tenure, Unreadable

REPEATABLE = frozenset(("SPEND",))
JOINING_GOAL = "ACCOUNT_OPENED"  # reached by joining: its moment is known with every goal


class GoalOutcome(StrEnum):
    """Why an event did or did not become goal.reached; also the label of parasol_claims_total."""

    OWNED = "owned"  # the goal with which the owner's time begins
    CONVERTED = "converted"  # followed it
    REPEATED = "repeated"  # not the first of its kind
    NOBODY = "nobody"  # nobody brought the customer
    WINDOW_OVER = "window_over"  # the owner's post window has ended
    NO_CONTRACT = "no_contract"  # the owner has no contract in force at that time
    NO_COMMISSION = "no_commission"  # its contract pays nothing for this goal: then the owner does not hear of it
    CURRENCY = "currency"  # the amount is not in the contract's currency
    WAITS_FOR_ANCHOR = "waits_for_anchor"  # the owner's time has not begun, as far as the bank has told
    WAITS_FOR_OWNER = "waits_for_owner"  # a file that names the customer, or unreadable terms, may say who that is
    WAITS_FOR_TERMS = "waits_for_terms"  # the owner's terms cannot be read by this program

    @property
    def pays(self) -> bool:
        return self in (GoalOutcome.OWNED, GoalOutcome.CONVERTED)

    @property
    def waits(self) -> bool:
        return self in (GoalOutcome.WAITS_FOR_ANCHOR, GoalOutcome.WAITS_FOR_OWNER, GoalOutcome.WAITS_FOR_TERMS)


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who brought a customer, for good. `partner_id` is empty where nobody did."""

    customer_id: str
    joined_at_ms: int
    partner_id: str
    claim_id: str
    touch_id: int | None
    evidence: str
    campaign: str
    subject_token: str
    exclusive_for: frozenset[str]
    post_window_ms: int
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class First:
    """The first goal of its kind: when, as the bank says, and the event that counts for it."""

    reached_at_ms: int
    bank_event_id: str


@dataclass(slots=True)
class Relation:
    """What is known of one customer since the person joined; `ownership` None: not decided yet."""

    customer_id: str
    joined_at_ms: int
    ownership: Ownership | None
    firsts: dict[str, First]

    @property
    def anchor_at_ms(self) -> int | None:
        """When the owner's time began; None: not, as far as is known."""
        if self.ownership is None:
            return None
        begins = [first.reached_at_ms for goal, first in self.firsts.items() if goal in self.ownership.exclusive_for]
        if JOINING_GOAL in self.ownership.exclusive_for:
            begins.append(self.joined_at_ms)
        return min(begins, default=None)

    def note_first(self, goal: GoalReached) -> bool:
        """Whether that was news. The bank says of every spend when the first one was: any of them will do."""
        if goal.goal in self.firsts or is_repeated(goal, self.firsts):
            return False
        self.firsts[goal.goal] = First(goal.first_at_ms, goal.bank_event_id)
        return True


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one event came to. `owner` is whom it counts for, `anchor_at_ms` since when."""

    goal: GoalReached
    joined_at_ms: int
    outcome: GoalOutcome
    owner: Ownership | None = None
    terms: ReferralTerms | None = None
    anchor_at_ms: int | None = None


def is_repeated(goal: GoalReached, firsts: Mapping[str, First]) -> bool:
    """Not the first of its kind in time; of two in one millisecond the one that was told first is."""
    if goal.goal in REPEATABLE:
        return False
    first = firsts.get(goal.goal)
    return goal.occurred_at_ms > goal.first_at_ms or (first is not None and first.bank_event_id != goal.bank_event_id)


def judge(goal: GoalReached, relation: Relation, terms: ReferralTerms | Unreadable | None) -> Verdict:
    """`terms` are the owner's, in force when the goal occurred. The relation has noted the goal already."""
    owner, anchor_ms = relation.ownership, relation.anchor_at_ms
    if is_repeated(goal, relation.firsts):
        return Verdict(goal, relation.joined_at_ms, GoalOutcome.REPEATED)
    if owner is None:
        return Verdict(goal, relation.joined_at_ms, GoalOutcome.WAITS_FOR_OWNER)
    if not owner.partner_id:
        return Verdict(goal, relation.joined_at_ms, GoalOutcome.NOBODY)
    if anchor_ms is None or goal.occurred_at_ms < anchor_ms:
        return Verdict(goal, relation.joined_at_ms, GoalOutcome.WAITS_FOR_ANCHOR, owner)
    if goal.occurred_at_ms > anchor_ms + owner.post_window_ms:
        return Verdict(goal, relation.joined_at_ms, GoalOutcome.WINDOW_OVER, owner)
    if isinstance(terms, Unreadable):
        return Verdict(goal, relation.joined_at_ms, GoalOutcome.WAITS_FOR_TERMS, owner)
    yes = GoalOutcome.OWNED if goal.goal in owner.exclusive_for and goal.occurred_at_ms == anchor_ms else None
    outcome = _payable(goal, terms, yes or GoalOutcome.CONVERTED)
    return Verdict(goal, relation.joined_at_ms, outcome, owner, terms, anchor_ms)


def own(joining: Joining, decision: Decision, terms: Mapping[str, ReferralTerms]) -> Ownership:
    """The decision in the form that is kept. Nobody's is kept too: who came alone cannot be claimed later."""
    touch = decision.owner
    if touch is None:
        return Ownership(
            joining.customer_id, joining.joined_at_ms, "", "", None, "", "", "", frozenset(), 0, decision.steps
        )
    agreed = terms[touch.partner_id]
    return Ownership(
        joining.customer_id, joining.joined_at_ms, touch.partner_id, touch.claim_id, touch.touch_id,
        touch.evidence.value, touch.campaign, touch.customer_token, agreed.exclusive_for, agreed.post_window_ms,
        decision.steps,
    )  # fmt: skip


def joined_as(joined_at_ms: int, tenures: Sequence[Tenure], known_ms: Sequence[int]) -> int:
    """The same joining as one of `known_ms`, if no account ended in between: the bank may correct the moment, but a
    customer is not brought again by that."""
    ends = [tenure.until_ms for tenure in tenures if tenure.until_ms is not None]
    for known in sorted(known_ms, key=lambda known: abs(known - joined_at_ms)):
        low, high = sorted((known, joined_at_ms))
        if not any(low < end <= high for end in ends):
            return known
    return joined_at_ms


def _payable(goal: GoalReached, terms: ReferralTerms | None, yes: GoalOutcome) -> GoalOutcome:
    if terms is None:
        return GoalOutcome.NO_CONTRACT
    if goal.goal not in terms.paid_for:
        return GoalOutcome.NO_COMMISSION
    if goal.amount_minor and goal.currency != terms.currency:
        return GoalOutcome.CURRENCY
    return yes
