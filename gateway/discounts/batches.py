"""Batches of holds and of steps: what many requests of this worker decide together, each with its own answer.

One transaction a batch; a row that a rule refuses leaves its neighbours alone. Holds lock counters, orders, keys; steps
lock redemptions, the day, capped funders' counters, keys, all other counters; by name within each. Batches of several
workers wait for each other; in a ring only where a partner sends the same keys with different offers at once (`raced`).
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import TypeVar

from asyncpg import DeadlockDetectedError, UniqueViolationError

from gateway import metrics
from gateway.database import Connection, Database
from gateway.database.idempotency import IdempotencyKeyReused, KeyedRequest
from gateway.discounts import store
from gateway.discounts.limits import fund_counter, refusal_of
from gateway.discounts.model import CounterChange, HeldRow, Hold, Redemption, RedemptionState
from gateway.discounts.redemption import Outcome, Terms, offer_of
from gateway.partners.contract import Contract
from gateway.refusal import ForeignResource, Refusal, UnknownResource

R = TypeVar("R")
RACES = 3  # tries of a batch that another worker was faster with, before its rows are tried one by one


@dataclass(frozen=True, slots=True)
class Step:
    """A rule to apply to a redemption, with the key that makes it happen once; None for the bank's own steps.

    `funds`: the rule splits a discount among funders, so it has to know what capped ones have left.
    """

    partner_id: str
    redemption_id: str
    request: KeyedRequest | None
    now_ms: int
    rule: Callable[[Redemption, Terms], Outcome]
    funds: bool = False


async def hold_batch(database: Database, holds: Sequence[Hold], *, now_ms: int) -> list[Redemption | Refusal]:
    """The redemptions that are held now, the ones that a key stands for already, or what broke."""
    answers: dict[int, Redemption | Refusal] = {}
    waiting = list(enumerate(holds))
    while waiting:
        chosen, repeated = _apart(waiting)
        decisions, known = await raced(lambda: _decide(database, [hold for _, hold in chosen], now_ms=now_ms))  # noqa: B023
        for (place, hold), decision in zip(chosen, decisions, strict=True):
            answers[place] = _held(hold, decision, known, now_ms=now_ms)
        waiting = repeated
    return [answers[place] for place in range(len(holds))]


def _apart(waiting: Sequence[tuple[int, Hold]]) -> tuple[list[tuple[int, Hold]], list[tuple[int, Hold]]]:
    """Those that can be decided together, and those whose key or order is among them: decided after the first."""
    seen: set[tuple[str, ...]] = set()
    chosen: list[tuple[int, Hold]] = []
    repeated: list[tuple[int, Hold]] = []
    for entry in waiting:
        row = entry[1].row
        names = {_key(row), (row.partner_id, row.order_reference)}
        (repeated if names & seen else chosen).append(entry)
        seen |= names
    return chosen, repeated


async def _decide(
    database: Database, holds: Sequence[Hold], *, now_ms: int
) -> tuple[list[store.Decision], dict[str, Redemption]]:
    async with database.connection() as conn:
        decisions = await store.hold_many(conn, holds, now_ms=now_ms)
        return decisions, await store.load_many(conn, [d.known_id for d in decisions if d.known_id is not None])


async def raced(attempt: Callable[[], Awaitable[R]]) -> R:
    """Once more where another worker wrote the same key or order at the same time: now it is seen, and answered.

    Batches that wait for each other's keys and orders in a ring are told so by PostgreSQL: one of them goes on, the
    other one comes again.
    """
    for _ in range(RACES - 1):
        try:
            return await attempt()
        except (UniqueViolationError, DeadlockDetectedError):
            continue
    return await attempt()


def _held(hold: Hold, decision: store.Decision, known: dict[str, Redemption], *, now_ms: int) -> Redemption | Refusal:
    row = hold.row
    if decision.known_id is not None:
        assert decision.known_hash is not None, "they are columns of one row"
        try:
            KeyedRequest(row.partner_id, row.operation, row.key, row.request_hash).check_same(decision.known_hash)
        except IdempotencyKeyReused as refusal:
            return refusal
        return known[decision.known_id]
    if decision.broken is not None:
        return refusal_of(decision.broken)
    metrics.count("parasol_redemptions_total", state="HELD", partner=row.partner_id)
    return Redemption(
        redemption_id=row.redemption_id, partner_id=row.partner_id, contract_id=row.contract_id,
        contract_version=row.contract_version, discount_id=row.discount_id, state=RedemptionState.HELD,
        currency=row.currency, order_minor=row.order_minor, held_minor=row.held_minor, discount_minor=0,
        reversed_minor=0, subject_token=row.subject_token, site_id=row.site_id, mcc=row.mcc,
        order_reference=row.order_reference, hold_key=row.key, bound_to=None, occurred_at_ms=row.occurred_at_ms,
        held_at_ms=now_ms, expires_ms=row.expires_ms, changed_at_ms=now_ms,
        takes={take.counter: take.amount for take in hold.takes}, funding=None,
    )  # fmt: skip


async def step_batch(
    database: Database, steps: Sequence[Step], *, terms: Callable[[Redemption], Contract]
) -> list[Redemption | Refusal]:
    """Each redemption as its step left it, or why the step was refused. A key that is known changes nothing."""
    now_ms = max(step.now_ms for step in steps)
    requests = [step.request for step in steps if step.request is not None]
    async with database.transaction() as conn:
        begun = await store.begin_steps(conn, [step.redemption_id for step in steps], requests, now_ms=now_ms)
        funders = _funders(steps, begun.redemptions.values(), terms)
        funded = await store.lock_funders(conn, funders) if funders else {}
        book = _Steps(begun.redemptions, begun.known, terms, funded, now_ms)
        answers = [book.take(step) for step in steps]
        await _write(conn, book, day=begun.day, now_ms=now_ms)
    for outcome in book.outcomes:
        state, partner_id = outcome.redemption.state, outcome.redemption.partner_id
        metrics.count("parasol_redemptions_total", state=state, partner=partner_id)
    return answers


def _funders(steps: Sequence[Step], locked: Iterable[Redemption], terms: Callable[[Redemption], Contract]) -> set[str]:
    """The counters of the batch's capped funders, where any of its steps asks a cap. No others: these come before all
    counters that a step locks, whichever batch it is in, and another one locked so early would close a ring."""
    if not any(step.funds for step in steps):
        return set()
    offers = {(r.partner_id, r.contract_id, r.contract_version, r.discount_id): r for r in locked}
    names: set[str] = set()
    for redemption in offers.values():
        try:
            fund = offer_of(redemption, terms(redemption)).fund
        except Refusal:  # its steps come to the same answer, each for itself
            continue
        names |= {fund_counter(redemption, share.party, capped=True) for share in fund if share.cap_minor is not None}
    return names


@dataclass(slots=True)
class _Steps:
    """The steps of a batch, taken one after the other on the locked rows; nothing is written yet."""

    rows: dict[str, Redemption]
    known: dict[tuple[str, str, str], bytes]
    terms: Callable[[Redemption], Contract]
    funded: dict[str, int]
    now_ms: int
    outcomes: list[Outcome] = field(default_factory=list)
    steps: list[store.StepRow] = field(default_factory=list)

    def take(self, step: Step) -> Redemption | Refusal:
        try:
            current = self._find(step)
            if step.request is not None and self._is_known(step.request):
                return current
            outcome = step.rule(current, Terms(partial(self.terms, current), self.now_ms, self.funded))
        except Refusal as refusal:
            return refusal
        for name in outcome.counters.keys() & self.funded.keys():  # the next one in the batch finds so much less room
            self.funded[name] += outcome.counters[name].used
        self.rows[step.redemption_id] = outcome.redemption
        self.outcomes.append(outcome)
        if step.request is not None:
            self._keep_key(step.redemption_id, step.request)
        return outcome.redemption

    def _keep_key(self, redemption_id: str, request: KeyedRequest) -> None:
        self.known[_key(request)] = request.request_hash
        self.steps.append(store.StepRow(redemption_id, *_key(request), request.request_hash))

    def _find(self, step: Step) -> Redemption:
        found = self.rows.get(step.redemption_id)
        if found is None:
            raise UnknownResource(f"There is no redemption {step.redemption_id}")
        if found.partner_id != step.partner_id:
            raise ForeignResource
        return found

    def _is_known(self, request: KeyedRequest) -> bool:
        """Whether the key has done its step already. Raises IdempotencyKeyReused."""
        known_hash = self.known.get(_key(request))
        if known_hash is not None:
            request.check_same(known_hash)
        return known_hash is not None


async def _write(conn: Connection, steps: _Steps, *, day: date, now_ms: int) -> None:
    if not steps.outcomes:
        return
    counters: dict[str, CounterChange] = defaultdict(CounterChange)
    for outcome in steps.outcomes:
        for name, change in outcome.counters.items():
            counters[name] += change
    touched = {outcome.redemption.redemption_id for outcome in steps.outcomes}
    await store.write_steps(
        conn, [steps.rows[name] for name in touched], counters=counters, steps=steps.steps,
        events=[outcome.event for outcome in steps.outcomes if outcome.event is not None],
        entries=[outcome.entry for outcome in steps.outcomes if outcome.entry is not None], day=day, now_ms=now_ms,
    )  # fmt: skip


def _key(request: KeyedRequest | HeldRow) -> tuple[str, str, str]:
    return request.partner_id, request.operation, request.key
