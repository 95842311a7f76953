"""Batches of holds and of steps: what many requests of this worker decide together, each with its own answer.

One transaction a batch; a row that a rule refuses leaves its neighbours alone. Locks are taken in the order
redemptions, counters, day, and by name within each: batches of several workers wait for each other, never in a ring.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway import metrics
from gateway.database import Connection, Database
from gateway.database.idempotency import IdempotencyKeyReused
from gateway.discounts import store
from gateway.discounts.limits import refusal_of
from gateway.discounts.model import CounterChange, HeldRow, Hold, KeyedRequest, Redemption, RedemptionState
from gateway.discounts.redemption import Outcome
from gateway.events import outbox
from gateway.ledger.store import post
from gateway.partners.contract import Contract
from gateway.refusal import ForeignResource, Refusal, UnknownResource


@dataclass(frozen=True, slots=True)
class Step:
    """A rule to apply to a redemption, with the key that makes it happen once; None for the bank's own steps."""

    partner_id: str
    redemption_id: str
    request: KeyedRequest | None
    now_ms: int
    rule: Callable[[Redemption, Contract], Outcome]


async def hold_batch(database: Database, holds: Sequence[Hold], *, now_ms: int) -> list[Redemption | Refusal]:
    """The redemptions that are held now, the ones that a key stands for already, or the limit that broke."""
    answers: dict[int, Redemption | Refusal] = {}
    waiting = list(enumerate(holds))
    while waiting:
        first: dict[tuple[str, str, str], tuple[int, Hold]] = {}
        repeated = [entry for entry in waiting if first.setdefault(_key(entry[1].row), entry) is not entry]
        chosen = list(first.values())
        async with database.connection() as conn:
            decisions = await store.hold_many(conn, [hold for _, hold in chosen], now_ms=now_ms)
            known = await store.load_many(conn, [d.known_id for d in decisions if d.known_id is not None])
        for (place, hold), decision in zip(chosen, decisions, strict=True):
            answers[place] = _held(hold, decision, known, now_ms=now_ms)
        waiting = repeated  # the same key again in one batch: decided after the first has been
    return [answers[place] for place in range(len(holds))]


def _held(hold: Hold, decision: store.Decision, known: dict[str, Redemption], *, now_ms: int) -> Redemption | Refusal:
    row = hold.row
    if decision.known_id is not None:
        if decision.known_hash != row.request_hash:
            return IdempotencyKeyReused("Send a new idempotency key, or the very same body", path="$")
        return known[decision.known_id]
    if decision.broken is not None:
        return refusal_of(decision.broken)
    metrics.count("parasol_redemptions_total", state="HELD", partner=row.partner_id)
    takes = dict(zip((take.counter for take in hold.takes), decision.takes, strict=True))
    return Redemption(
        redemption_id=row.redemption_id, partner_id=row.partner_id, contract_id=row.contract_id,
        contract_version=row.contract_version, discount_id=row.discount_id, state=RedemptionState.HELD,
        currency=row.currency, order_minor=row.order_minor, held_minor=row.held_minor, discount_minor=0,
        reversed_minor=0, subject_token=row.subject_token, site_id=row.site_id, reference=row.reference,
        occurred_at_ms=row.occurred_at_ms, held_at_ms=now_ms, expires_ms=row.expires_ms, changed_at_ms=now_ms,
        takes=takes, funding=None,
    )  # fmt: skip


async def step_batch(
    database: Database, steps: Sequence[Step], *, terms: Callable[[Redemption], Contract]
) -> list[Redemption | Refusal]:
    """Each redemption as its step left it, or why the step was refused. A key that is known changes nothing."""
    now_ms = max(step.now_ms for step in steps)
    async with database.transaction() as conn:
        locked = await store.lock_many(conn, [step.redemption_id for step in steps])
        requests = [step.request for step in steps if step.request is not None]
        book = _Steps(locked, await store.known_requests(conn, requests), terms)
        answers = [book.take(step) for step in steps]
        await _write(conn, book, now_ms=now_ms)
    for outcome in book.outcomes:
        state, partner_id = outcome.redemption.state, outcome.redemption.partner_id
        metrics.count("parasol_redemptions_total", state=state, partner=partner_id)
    return answers


@dataclass(slots=True)
class _Steps:
    """The steps of a batch, taken one after the other on the locked rows; nothing is written yet."""

    rows: dict[str, Redemption]
    known: dict[tuple[str, str, str], bytes]
    terms: Callable[[Redemption], Contract]
    outcomes: list[Outcome] = field(default_factory=list)
    requests: list[KeyedRequest] = field(default_factory=list)

    def take(self, step: Step) -> Redemption | Refusal:
        try:
            current = self._find(step)
            if step.request is not None and self._is_known(step.request):
                return current
            outcome = step.rule(current, self.terms(current))
        except Refusal as refusal:
            return refusal
        self.rows[step.redemption_id] = outcome.redemption
        self.outcomes.append(outcome)
        if step.request is not None:
            self.requests.append(step.request)
            self.known[_key(step.request)] = step.request.request_hash
        return outcome.redemption

    def _find(self, step: Step) -> Redemption:
        found = self.rows.get(step.redemption_id)
        if found is None:
            raise UnknownResource(f"There is no redemption {step.redemption_id}")
        if found.partner_id != step.partner_id:
            raise ForeignResource
        return found

    def _is_known(self, request: KeyedRequest) -> bool:
        known_hash = self.known.get(_key(request))
        if known_hash is not None:
            refuse_other_request(request, known_hash)
        return known_hash is not None


async def _write(conn: Connection, steps: _Steps, *, now_ms: int) -> None:
    if not steps.outcomes:
        return
    counters: dict[str, CounterChange] = defaultdict(CounterChange)
    for outcome in steps.outcomes:
        for name, change in outcome.counters.items():
            counters[name] += change
    touched = {outcome.redemption.redemption_id for outcome in steps.outcomes}
    await store.write_steps(
        conn, [steps.rows[name] for name in touched], counters=counters, requests=steps.requests, now_ms=now_ms
    )
    events = [outcome.event for outcome in steps.outcomes if outcome.event is not None]
    if events:
        day = await outbox.append(conn, events, now_ms=now_ms)
        await post(conn, [o.entry for o in steps.outcomes if o.entry is not None], day=day, now_ms=now_ms)


def refuse_other_request(request: KeyedRequest, known_hash: bytes) -> None:
    """Raises IdempotencyKeyReused where the key stands for another request."""
    if known_hash != request.request_hash:
        raise IdempotencyKeyReused("Send a new idempotency key, or the very same body", path="$")


def _key(request: KeyedRequest | HeldRow) -> tuple[str, str, str]:
    return request.partner_id, request.operation, request.key
