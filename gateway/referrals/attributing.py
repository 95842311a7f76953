"""The chore that reads the bank's feed of goals and decides, chunk by chunk, who brought whom and which goals pay.

No network inside a transaction: a chunk is read first, then loaded, judged in memory (chunk.py) and written in one
transaction with the feed's cursor and the events. A bank event is judged once, whatever is read twice; one that cannot
be is set aside for people to see, and the feed goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import asyncpg
import structlog

from gateway import metrics
from gateway.database import Connection, Database
from gateway.events import outbox
from gateway.ids import new_id
from gateway.partners.identity import IdentityKeys, identity_token, normalise_phone
from gateway.partners.store import know_customers
from gateway.referrals.chunk import Chunk, Known, Outcome
from gateway.referrals.goal import Relation
from gateway.referrals.identifying import Asked, ask, look_up
from gateway.referrals.link import ticket_digest
from gateway.referrals.model import GoalReached, ReferralTerms, TermsBook
from gateway.referrals.plausible import why_not
from gateway.referrals.store import batches, claims, goals, links, spans, waiting
from gateway.referrals.store.waiting import Key
from gateway.referrals.terms import terms_or_wait

CHUNK_EVENTS = 1_000  # events a transaction: some 80 ms of a worker's loop, in slices
PART_EVENTS = 250  # of them judged before they are written, while the next ones are judged
SLICE_EVENTS = 25  # events judged until the loop serves somebody else, our own writing too
CHUNKS_A_RUN = 40  # chunks until the chore lets others run
WAITING_SEEN = 2_000  # customers whose goals wait, of which a run asks whether there is news
WAITING_CHUNK = 200  # of those with news, judged in one run
EXPIRE_CHUNK = 10_000  # claims a transaction
FROM_THE_START: Key = ("", 0)
UNWRITABLE = (asyncpg.DataError, asyncpg.CheckViolationError)  # a value that no table of ours holds
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """An event of the bank's feed and the cursor that stands behind it."""

    cursor: str
    goal: GoalReached


Feed = Callable[[str, int], Awaitable[Sequence[FeedEntry]]]  # (after_cursor, limit)


@dataclass(slots=True)
class GoalDesk:
    """Attributes goals and ends what is over."""

    database: Database
    keys: IdentityKeys
    terms: TermsBook
    feed: Feed
    _looked_at: Key = FROM_THE_START  # of the goals that wait: each has its turn

    async def attribute_goals_due(self, now_ms: int) -> int:
        """Chore: returns the number of bank events read, and of goals that need wait no longer."""
        read = await self._judge_waiting(now_ms)
        for _ in range(CHUNKS_A_RUN):
            taken = await self._attribute_whatever_comes(now_ms)
            read += taken
            if not taken:
                break
        return read

    async def expire_claims_due(self, now_ms: int) -> int:
        """Chore: claims whose window has passed."""
        async with self.database.transaction() as conn:
            expired = await claims.expire(conn, now_ms=now_ms, limit=EXPIRE_CHUNK)
        metrics.count("parasol_claims_total", expired, outcome="expired")
        return expired

    async def _attribute_whatever_comes(self, now_ms: int) -> int:
        """A chunk; should a value in it be one that no table holds, one event at a time, and past the one that is."""
        try:
            return await self._attribute_chunk(now_ms, limit=CHUNK_EVENTS)
        except UNWRITABLE as error:
            log.error("goals_unwritable", error=type(error).__name__)
        taken = 0
        for _ in range(CHUNK_EVENTS):
            try:
                one = await self._attribute_chunk(now_ms, limit=1)
            except UNWRITABLE:
                one = await self._attribute_chunk(now_ms, limit=1, fault="unwritable")
            taken += one
            if not one:
                break
        return taken

    async def _attribute_chunk(self, now_ms: int, *, limit: int, fault: str | None = None) -> int:
        async with self.database.connection() as conn:
            cursor = await goals.read_cursor(conn)
        entries = await self.feed(cursor, limit)
        if not entries:
            return 0
        faults = [fault or why_not(entry.goal, now_ms=now_ms) for entry in entries]
        judged = list(zip(entries, faults, strict=True))
        async with self.database.transaction() as conn:
            if await goals.hold_cursor(conn) != cursor:
                return 0  # another process has moved on
            fresh = await _fresh(conn, [entry.goal for entry, why in judged if not why])
            relations = await goals.relations(conn, {goal.customer_id for goal in fresh})
            asked, taken = await ask(conn, fresh, relations, keys=self.keys, terms=self.terms, now_ms=now_ms)
            heard, fresh = _up_to(entries, fresh[taken:]), fresh[:taken]
            joined_until_ms = max((goal.joined_at_ms for goal in fresh), default=0)
            await goals.move_cursor(conn, entries[heard - 1].cursor, joined_until_ms=joined_until_ms)
            await _set_aside(conn, [(entry, why) for entry, why in judged[:heard] if why], now_ms=now_ms)
            await self._present_tickets(conn, fresh, asked, now_ms=now_ms)
            known = await _load(conn, asked, relations)
            await batches.hold_claims(conn, known.partners())
            outcomes = await _judge(conn, Chunk(self.terms, known), fresh, now_ms=now_ms)
        _count(outcomes, fresh)
        return heard

    async def _judge_waiting(self, now_ms: int) -> int:
        """Goals that have waited for an owner or for terms; those of one partner never hold up another's."""
        async with self.database.transaction() as conn:
            await goals.hold_cursor(conn)
            seen = await waiting.judged_later(conn, after=self._looked_at, limit=WAITING_SEEN)
            ready = [key for key, is_blocked in seen if not is_blocked]
            keys = ready[:WAITING_CHUNK]
            if len(ready) > len(keys):
                self._looked_at = keys[-1]
            else:
                self._looked_at = seen[-1][0] if len(seen) == WAITING_SEEN else FROM_THE_START
            if not keys:
                return 0
            relations = await goals.relations(conn, {customer for customer, _ in keys})
            known = await _load_kept(conn, relations)
            await batches.hold_claims(conn, known.partners())
            chunk = Chunk(self.terms, known)
            for relation in [relation for several in relations.values() for relation in several]:
                chunk.decide_again(relation)
            outcome = chunk.hand_over()
            await _keep(conn, outcome, now_ms=now_ms)
        _count([outcome], ())
        return len(outcome.verdicts)

    async def _present_tickets(
        self, conn: Connection, fresh: Sequence[GoalReached], asked: Asked, *, now_ms: int
    ) -> None:
        """The bank's app showed a scan ticket: the scan becomes a touch of this customer, whose token is known now."""
        shown = {ticket_digest(goal.scan_ticket): goal for goal in reversed(fresh) if goal.scan_ticket}
        if not shown:
            return
        found = await links.present(
            conn, [(digest, goal.bank_event_id, goal.joined_at_ms) for digest, goal in shown.items()]
        )
        keys = await self.keys.keys_of_partners(conn, [scan.partner_id for scan in found])
        by_event = {goal.bank_event_id: goal for goal in shown.values()}
        rows = []
        for scan in found:
            terms = terms_or_wait(self.terms, scan.partner_id, at_ms=scan.scanned_at_ms)
            phone = normalise_phone(by_event[scan.bank_event_id].phone)
            if scan.partner_id in keys:
                token = identity_token(keys[scan.partner_id][-1], phone)
                lookback_ms = terms.lookback_ms if isinstance(terms, ReferralTerms) else 0
                rows.append((new_id("clm"), token, scan.scanned_at_ms + lookback_ms, scan))
                asked.also(by_event[scan.bank_event_id], scan.partner_id, keys=keys[scan.partner_id])
        await batches.hold_claims(conn, [scan.partner_id for *_, scan in rows])
        await goals.claim_by_scan(conn, rows, now_ms=now_ms)
        await know_customers(
            conn, [(scan.partner_id, token) for _, token, _, scan in rows], source="ticket", now_ms=now_ms
        )


async def _load(conn: Connection, asked: Asked, relations: dict[str, list[Relation]]) -> Known:
    """What is kept of these customers, and what partners say of those who were asked about."""
    known = await _load_kept(conn, relations)
    found = await look_up(conn, asked)
    known.tokens = {event_id: found.tokens[phone] for event_id, phone in asked.phones.items()}
    known.touches |= found.touches
    known.named |= found.named
    return known


async def _load_kept(conn: Connection, relations: dict[str, list[Relation]]) -> Known:
    wanted = {(one.customer_id, one.joined_at_ms) for several in relations.values() for one in several}
    undecided = await waiting.undecided(conn, wanted)
    pairs = [pair for one in undecided.values() for pair in one.tokens]
    return Known(
        relations, await waiting.waiting_goals(conn, wanted), undecided, {},
        await goals.touches_of_tokens(conn, pairs), await spans.named_in_files(conn, pairs),
    )  # fmt: skip


def _up_to(entries: Sequence[FeedEntry], left: Sequence[GoalReached]) -> int:
    """How many events are heard now: all before the first goal that is left for the next chunk."""
    if not left:
        return len(entries)
    return next(place for place, entry in enumerate(entries) if entry.goal.bank_event_id == left[0].bank_event_id)


async def _fresh(conn: Connection, told: Sequence[GoalReached]) -> list[GoalReached]:
    """Each bank event once, in the feed's order."""
    unique = {goal.bank_event_id: goal for goal in reversed(told)}
    known = await goals.known_events(conn, list(unique))
    return [goal for goal in reversed(unique.values()) if goal.bank_event_id not in known]


async def _set_aside(conn: Connection, refused: Sequence[tuple[FeedEntry, str]], *, now_ms: int) -> None:
    """For the bank's operators: what cannot be, and why. Corrected, the bank tells it again."""
    if not refused:
        return
    rows = [(entry.cursor, entry.goal.bank_event_id, entry.goal.goal, why) for entry, why in refused]
    await waiting.set_aside(conn, rows, now_ms=now_ms)
    for _, why in refused:
        metrics.count("parasol_goals_set_aside_total", reason=why)
        log.error("goal_set_aside", reason=why)


async def _judge(conn: Connection, chunk: Chunk, fresh: Sequence[GoalReached], *, now_ms: int) -> list[Outcome]:
    """What came of each part. While the database writes one the next is judged; all of it in one transaction."""
    outcomes: list[Outcome] = []
    writing: asyncio.Task[None] | None = None
    try:
        for place, goal in enumerate(fresh):
            if place % SLICE_EVENTS == 0:
                await asyncio.sleep(0)
            chunk.take(goal)
            if (place + 1) % PART_EVENTS == 0 or place + 1 == len(fresh):
                if writing:
                    await writing
                outcomes.append(chunk.hand_over())
                writing = asyncio.create_task(_keep(conn, outcomes[-1], now_ms=now_ms))
        if writing:
            await writing
    finally:
        if writing and not writing.done():
            writing.cancel()
            await asyncio.wait([writing])
    return outcomes


async def _keep(conn: Connection, outcome: Outcome, *, now_ms: int) -> None:
    """By who holds the claims that it changes."""
    await goals.keep_ownerships(conn, outcome.decided, now_ms=now_ms)
    await goals.keep_firsts(conn, outcome.firsts)
    if outcome.undecided:
        await waiting.keep_undecided(conn, outcome.undecided)
    if outcome.closed:
        await waiting.forget_undecided(conn, outcome.closed)
    await goals.keep_verdicts(conn, list(outcome.verdicts.values()), now_ms=now_ms)
    await goals.change_claims(conn, outcome.claims.values(), now_ms=now_ms)
    if outcome.vouched:
        await know_customers(conn, sorted(outcome.vouched), source="feed", now_ms=now_ms)
    await outbox.append(conn, outcome.events, now_ms=now_ms)


def _count(outcomes: Sequence[Outcome], fresh: Sequence[GoalReached]) -> None:
    for outcome in outcomes:
        for verdict, _ in outcome.verdicts.values():
            metrics.count("parasol_claims_total", outcome=verdict.outcome.value)
    for goal in fresh:
        metrics.count("parasol_goals_total", goal=goal.goal)
