"""A chunk of the bank's feed in memory: what its goals are judged on, in their order, and all that comes of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from gateway.events import outbox
from gateway.referrals.attribution import attribute
from gateway.referrals.goal import First, GoalOutcome, Ownership, Relation, Verdict, joined_as, judge, own
from gateway.referrals.model import ClaimState, GoalReached, Joining, ReferralTerms, TermsBook, Touch, Unreadable
from gateway.referrals.store.goals import NEARER, ClaimChange
from gateway.referrals.store.spans import Pair
from gateway.referrals.store.waiting import Key, Undecided, Waiting
from gateway.referrals.terms import terms_or_wait


@dataclass(slots=True)
class Known:
    """What the database and the keys say about the customers of a chunk."""

    relations: dict[str, list[Relation]]  # by customer
    waiting: dict[Key, dict[str, Waiting]]
    undecided: dict[Key, Undecided]
    tokens: dict[str, list[Pair]]  # by bank event
    touches: dict[Pair, list[Touch]]
    named: dict[Pair, int]  # in a file that is not applied, received then

    def partners(self) -> set[str]:
        """Whose claims may change: who has touched one of these customers, and their owners."""
        owners = {r.ownership.partner_id for several in self.relations.values() for r in several if r.ownership}
        return owners - {""} | {partner_id for partner_id, _ in self.touches}


@dataclass(slots=True)
class Outcome:
    """What a chunk comes to, or a part of it; all of a chunk is written in one transaction."""

    verdicts: dict[str, tuple[Verdict, str | None]] = field(default_factory=dict)  # with the id of its goal.reached
    events: list[outbox.Event] = field(default_factory=list)
    claims: dict[tuple[str, str], ClaimChange] = field(default_factory=dict)
    decided: list[Ownership] = field(default_factory=list)
    firsts: list[tuple[str, int, str, First]] = field(default_factory=list)
    undecided: list[Undecided] = field(default_factory=list)
    closed: set[Key] = field(default_factory=set)  # were undecided, and are not any more
    vouched: set[Pair] = field(default_factory=set)


@dataclass(slots=True)
class Chunk:
    """Judges goals one after the other; each may change what the next one is judged on."""

    terms: TermsBook
    known: Known
    outcome: Outcome = field(default_factory=Outcome)

    def hand_over(self) -> Outcome:
        """What has come of it since the last time."""
        outcome, self.outcome = self.outcome, Outcome()
        return outcome

    def take(self, goal: GoalReached) -> None:
        relations = self.known.relations.setdefault(goal.customer_id, [])
        joined_ms = joined_as(goal.joined_at_ms, goal.tenures, [relation.joined_at_ms for relation in relations])
        relation = next((relation for relation in relations if relation.joined_at_ms == joined_ms), None)
        if relation is None:
            relation = Relation(goal.customer_id, joined_ms, None, {})
            relations.append(relation)
        pairs = self.known.tokens.get(goal.bank_event_id, [])
        joining = Joining(goal.customer_id, joined_ms, goal.tenures)
        if relation.ownership is None:
            self._decide(relation, self.known.undecided.get(joining.key) or Undecided(joining, tuple(pairs)))
        self._exclude_who_came_after(relation, pairs)
        is_news = relation.note_first(goal)
        if is_news:
            self.outcome.firsts.append((*joining.key, goal.goal, relation.firsts[goal.goal]))
        self._judge(goal, relation, pairs)
        if is_news:
            self.judge_again(relation)

    def decide_again(self, relation: Relation) -> None:
        """The terms that a decision or its goals have waited for may be readable now."""
        waiting = self.known.undecided.get((relation.customer_id, relation.joined_at_ms))
        if relation.ownership is None and waiting is not None:
            self._decide(relation, waiting)
        self.judge_again(relation)

    def judge_again(self, relation: Relation) -> None:
        """What has waited, in the order of time."""
        waiting = self.known.waiting.get((relation.customer_id, relation.joined_at_ms), {})
        for one in sorted(waiting.values(), key=lambda one: (one.goal.occurred_at_ms, one.goal.bank_event_id)):
            verdict = self._verdict(one.goal, relation)
            if verdict.outcome is not one.outcome:
                self._conclude(verdict, ())

    def _decide(self, relation: Relation, waiting: Undecided) -> None:
        """Who brought the customer; left open where unreadable terms have a say in it, or a file that names the
        customer, was here before, and is not applied."""
        joining = waiting.joining
        touches = [touch for pair in waiting.tokens for touch in self.known.touches.get(pair, ())]
        partners = {touch.partner_id for touch in touches}
        found = {name: terms_or_wait(self.terms, name, at_ms=joining.joined_at_ms) for name in partners}
        is_open = Unreadable.TERMS in found.values() or any(
            self.known.named.get(pair, joining.joined_at_ms) < joining.joined_at_ms for pair in waiting.tokens
        )
        if is_open:
            self.known.undecided[joining.key] = waiting
            self.outcome.undecided.append(waiting)
            return
        terms = {name: terms for name, terms in found.items() if isinstance(terms, ReferralTerms)}
        decision = attribute(joining, touches, terms=terms)
        relation.ownership = own(joining, decision, terms)
        self.outcome.decided.append(relation.ownership)
        if self.known.undecided.pop(joining.key, None):
            self.outcome.closed.add(joining.key)
        partner_of = {touch.claim_id: touch.partner_id for touch in touches}
        for claim_id, reason in decision.excluded.items():
            self._change(_excluded(partner_of[claim_id], claim_id, relation, reason))
        for claim_id in decision.losers:
            self._change(ClaimChange(partner_of[claim_id], claim_id, ClaimState.LOST, *joining.key))
        if decision.owner is not None:
            self._change(_owning(relation, ClaimState.OWNING, paid=False))
            self.outcome.events.append(_owned(relation.ownership, terms[decision.owner.partner_id]))

    def _exclude_who_came_after(self, relation: Relation, pairs: Iterable[Pair]) -> None:
        """Touches of somebody who was a customer already: the bank sees why they are worth nothing."""
        for pair in pairs:
            for touch in self.known.touches.get(pair, ()):
                if touch.recorded_at_ms >= relation.joined_at_ms and relation.ownership is not None:
                    self._change(_excluded(touch.partner_id, touch.claim_id, relation, "had_account"))

    def _verdict(self, goal: GoalReached, relation: Relation) -> Verdict:
        owner = relation.ownership
        terms = (
            terms_or_wait(self.terms, owner.partner_id, at_ms=goal.occurred_at_ms)
            if owner is not None and owner.partner_id
            else None
        )
        return judge(goal, relation, terms)

    def _judge(self, goal: GoalReached, relation: Relation, pairs: Iterable[Pair]) -> None:
        self._conclude(self._verdict(goal, relation), pairs)

    def _conclude(self, verdict: Verdict, pairs: Iterable[Pair]) -> None:
        key, event_id = (verdict.goal.customer_id, verdict.joined_at_ms), verdict.goal.bank_event_id
        reached = _reached(verdict)
        self.outcome.verdicts[event_id] = verdict, reached.event_id if reached else None
        if verdict.outcome.waits:
            self.known.waiting.setdefault(key, {})[event_id] = Waiting(verdict.goal, verdict.outcome)
        else:
            self.known.waiting.get(key, {}).pop(event_id, None)
        if reached is None or verdict.owner is None:
            return
        self.outcome.events.append(reached)
        state = ClaimState.OWNING if verdict.outcome is GoalOutcome.OWNED else ClaimState.CONVERTED
        self._change(_paid(verdict, state))
        owner = verdict.owner  # the token of its claim is known by the row or the ticket that made it
        self.outcome.vouched.update(p for p in pairs if p[0] == owner.partner_id and p[1] != owner.subject_token)

    def _change(self, change: ClaimChange) -> None:
        """The nearest to the customer that a claim has come in this chunk."""
        key = change.partner_id, change.claim_id
        before = self.outcome.claims.get(key)
        if before is None:
            self.outcome.claims[key] = change
            return
        nearest = before if NEARER.index(before.state) > NEARER.index(change.state) else change
        is_paid = before.paid or change.paid
        self.outcome.claims[key] = nearest if nearest.paid == is_paid else replace(nearest, paid=is_paid)


def _excluded(partner_id: str, claim_id: str, relation: Relation, reason: str) -> ClaimChange:
    return ClaimChange(
        partner_id, claim_id, ClaimState.EXCLUDED, relation.customer_id, relation.joined_at_ms, reason=reason
    )


def _owning(relation: Relation, state: ClaimState, *, paid: bool) -> ClaimChange:
    owner = relation.ownership
    assert owner is not None, "it has just been decided"
    begins_ms = relation.joined_at_ms if relation.anchor_at_ms is None else relation.anchor_at_ms
    return ClaimChange(
        owner.partner_id, owner.claim_id, state, relation.customer_id, relation.joined_at_ms,
        until_ms=begins_ms + owner.post_window_ms, paid=paid,
    )  # fmt: skip


def _paid(verdict: Verdict, state: ClaimState) -> ClaimChange:
    owner, anchor_ms = verdict.owner, verdict.anchor_at_ms
    assert owner is not None, "somebody is paid"
    assert anchor_ms is not None, "since some moment"
    return ClaimChange(
        owner.partner_id, owner.claim_id, state, owner.customer_id, owner.joined_at_ms,
        until_ms=anchor_ms + owner.post_window_ms, paid=True,
    )  # fmt: skip


def _reached(verdict: Verdict) -> outbox.Event | None:
    """The fact that commissions are computed from, in the currency of its contract version."""
    owner, terms, goal = verdict.owner, verdict.terms, verdict.goal
    if owner is None or terms is None or not verdict.outcome.pays:
        return None
    return outbox.Event(
        type="goal.reached", occurred_at_ms=goal.occurred_at_ms, partner=owner.partner_id,
        campaign=owner.campaign or None, contract=terms.contract_id, contract_version=terms.version,
        currency=terms.currency, amount_minor=goal.amount_minor, subject_token=owner.subject_token,
        data={
            "goal": goal.goal, "claim_id": owner.claim_id, "anchor_at_ms": verdict.anchor_at_ms,
            "evidence": owner.evidence,
        },
    )  # fmt: skip


def _owned(owner: Ownership, terms: ReferralTerms) -> outbox.Event:
    """The customer has an owner: the bank's own fact, as in the partner's tree it would tell before it pays."""
    return outbox.Event(
        type="claim.owned", occurred_at_ms=owner.joined_at_ms, contract=terms.contract_id,
        contract_version=terms.version, subject_token=owner.subject_token,
        data={
            "partner": owner.partner_id, "claim_id": owner.claim_id, "evidence": owner.evidence,
            "campaign": owner.campaign, "post_window_ms": owner.post_window_ms,
        },
    )  # fmt: skip
