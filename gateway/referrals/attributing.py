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
from gateway.partners.identity import IdentityKeys, identity_tokens, normalise_phone
from gateway.partners.store import know_customers
from gateway.referrals.chunk import Chunk, Known
from gateway.referrals.goal import REPEATABLE, Relation
from gateway.referrals.link import ticket_digest
from gateway.referrals.model import GoalReached, ReferralTerms, TermsBook
from gateway.referrals.plausible import why_not
from gateway.referrals.store import batches, claims, goals, links, waiting
from gateway.referrals.store.batches import WaitingFile
from gateway.referrals.store.waiting import Key
from gateway.referrals.terms import is_readable, terms_or_wait

CHUNK_EVENTS = 500  # events a transaction: some 40 ms of a worker's loop, in slices
SLICE_EVENTS = 50  # events judged until the loop serves somebody else
CHUNKS_A_RUN = 40  # chunks until the chore lets others run
WAITING_CHUNK = 200  # customers whose goals wait for terms, looked at in one run
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
    _looked_at: Key = FROM_THE_START  # of the goals that wait for terms: each has its turn

    async def attribute_goals_due(self, now_ms: int) -> int:
        """Chore: returns the number of bank events read, and of goals that need wait no longer."""
        read = await self._judge_waiting(now_ms)
        for _ in range(CHUNKS_A_RUN):
            taken = await self._attribute_whatever_comes(now_ms)
            read += taken
            if taken < CHUNK_EVENTS:
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
        faults = [fault or why_not(entry.goal, now_ms=now_ms) for entry in entries]
        async with self.database.transaction() as conn:
            files = await batches.waiting_files(conn)
            heard = _heard(entries, faults, [file for file in files if self._can_apply(file)])
            if not heard or not await goals.move_cursor(conn, old=cursor, new=entries[heard - 1].cursor):
                return 0
            judged = list(zip(entries, faults, strict=True))[:heard]
            await _set_aside(conn, [(entry, why) for entry, why in judged if why], now_ms=now_ms)
            fresh = await _fresh(conn, [entry.goal for entry, why in judged if not why])
            await self._present_tickets(conn, fresh, now_ms=now_ms)
            stalled = [file.batch_id for file in files if not self._can_apply(file)]
            chunk = Chunk(self.terms, await self._load(conn, fresh, stalled=stalled))
            for place, goal in enumerate(fresh):
                if place % SLICE_EVENTS == 0:
                    await asyncio.sleep(0)
                chunk.take(goal)
            await _keep(conn, chunk, now_ms=now_ms)
        _count(chunk, fresh)
        return heard

    def _can_apply(self, file: WaitingFile) -> bool:
        """Goals wait for the touches of a file, but not for terms that somebody has to make readable first."""
        return is_readable(terms_or_wait(self.terms, file.partner_id, at_ms=file.received_at_ms))

    async def _judge_waiting(self, now_ms: int) -> int:
        """Goals that have waited for terms; those of one partner never hold up another's."""
        async with self.database.transaction() as conn:
            await goals.hold_cursor(conn)
            keys = await waiting.waiting_for_terms(conn, after=self._looked_at, limit=WAITING_CHUNK)
            self._looked_at = keys[-1] if len(keys) == WAITING_CHUNK else FROM_THE_START
            if not keys:
                return 0
            files = await batches.waiting_files(conn)
            stalled = [file.batch_id for file in files if not self._can_apply(file)]
            chunk = Chunk(self.terms, await self._load_waiting(conn, keys, stalled=stalled))
            for relations in chunk.known.relations.values():
                for relation in relations:
                    chunk.decide_again(relation)
            await _keep(conn, chunk, now_ms=now_ms)
        _count(chunk, ())
        return len(chunk.outcome.verdicts)

    async def _present_tickets(self, conn: Connection, fresh: Sequence[GoalReached], *, now_ms: int) -> None:
        """The bank's app showed a scan ticket: the scan becomes a touch of this customer, whose token is known now."""
        shown = {ticket_digest(goal.scan_ticket): goal for goal in reversed(fresh) if goal.scan_ticket}
        if not shown:
            return
        found = await links.present(
            conn, [(digest, goal.bank_event_id, goal.joined_at_ms) for digest, goal in shown.items()]
        )
        newest = {key.partner_id: key for key in await self.keys.all_keys(conn)}
        by_event = {goal.bank_event_id: goal for goal in shown.values()}
        rows = []
        for scan in found:
            terms = terms_or_wait(self.terms, scan.partner_id, at_ms=scan.scanned_at_ms)
            phone = normalise_phone(by_event[scan.bank_event_id].phone)
            if scan.partner_id in newest:
                ((_, token),) = identity_tokens([newest[scan.partner_id]], [phone])[phone]
                lookback_ms = terms.lookback_ms if isinstance(terms, ReferralTerms) else 0
                rows.append((new_id("clm"), token, scan.scanned_at_ms + lookback_ms, scan))
        await batches.hold_claims(conn, [scan.partner_id for *_, scan in rows])
        await goals.claim_by_scan(conn, rows, now_ms=now_ms)
        await know_customers(
            conn, [(scan.partner_id, token) for _, token, _, scan in rows], source="ticket", now_ms=now_ms
        )

    async def _load(self, conn: Connection, fresh: Sequence[GoalReached], *, stalled: Sequence[str]) -> Known:
        """Phones are hashed for goals that count once and for customers who are not decided: spending is cheap."""
        relations = await goals.relations(conn, {goal.customer_id for goal in fresh})
        decided = {name for name, found in relations.items() if all(relation.ownership for relation in found)}
        known = await self._load_waiting(conn, [], stalled=stalled, relations=relations)
        hashed = [
            goal
            for goal in fresh
            if goal.goal not in REPEATABLE
            or goal.customer_id not in decided
            or goal.joined_at_ms not in {relation.joined_at_ms for relation in relations[goal.customer_id]}
        ]
        phones = {goal.bank_event_id: normalise_phone(goal.phone) for goal in hashed}
        tokens = identity_tokens(await self.keys.all_keys(conn) if phones else (), set(phones.values()))
        known.tokens = {event_id: tokens[phone] for event_id, phone in phones.items()}
        pairs = [pair for found in tokens.values() for pair in found]
        known.touches |= await goals.touches_of_tokens(conn, pairs)
        if stalled:
            known.unapplied |= await waiting.rows_waiting(conn, stalled, {token for _, token in pairs})
        return known

    async def _load_waiting(
        self,
        conn: Connection,
        keys: Sequence[Key],
        *,
        stalled: Sequence[str],
        relations: dict[str, list[Relation]] | None = None,
    ) -> Known:
        """What is kept of these customers."""
        found = relations if relations is not None else await goals.relations(conn, {customer for customer, _ in keys})
        wanted = {(one.customer_id, one.joined_at_ms) for several in found.values() for one in several}
        undecided = await waiting.undecided(conn, wanted)
        pairs = [pair for one in undecided.values() for pair in one.tokens]
        unapplied = await waiting.rows_waiting(conn, stalled, {token for _, token in pairs}) if stalled else set()
        return Known(
            found, await waiting.waiting_goals(conn, wanted), undecided, {},
            await goals.touches_of_tokens(conn, pairs), unapplied,
        )  # fmt: skip


def _heard(entries: Sequence[FeedEntry], faults: Sequence[str | None], files: Sequence[WaitingFile]) -> int:
    """How many events are heard now: who joined after the receipt of a file that is being applied waits for it."""
    oldest_ms = min((file.received_at_ms for file in files), default=None)
    if oldest_ms is None:
        return len(entries)
    for place, (entry, fault) in enumerate(zip(entries, faults, strict=True)):
        if fault is None and entry.goal.joined_at_ms > oldest_ms:
            return place
    return len(entries)


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


async def _keep(conn: Connection, chunk: Chunk, *, now_ms: int) -> None:
    outcome = chunk.outcome
    await goals.keep_ownerships(conn, outcome.decided, now_ms=now_ms)
    await goals.keep_firsts(conn, outcome.firsts)
    if outcome.undecided:
        await waiting.keep_undecided(conn, outcome.undecided)
    decided = {(own.customer_id, own.joined_at_ms) for own in outcome.decided}
    if closed := decided & chunk.known.undecided.keys():
        await waiting.forget_undecided(conn, closed)
    await goals.keep_verdicts(conn, list(outcome.verdicts.values()), now_ms=now_ms)
    await batches.hold_claims(conn, [change.partner_id for change in outcome.claims.values()])
    await goals.change_claims(conn, outcome.claims.values(), now_ms=now_ms)
    if outcome.vouched:
        await know_customers(conn, sorted(outcome.vouched), source="feed", now_ms=now_ms)
    await outbox.append(conn, outcome.events, now_ms=now_ms)


def _count(chunk: Chunk, fresh: Sequence[GoalReached]) -> None:
    for verdict, _ in chunk.outcome.verdicts.values():
        metrics.count("parasol_claims_total", outcome=verdict.outcome.value)
    for goal in fresh:
        metrics.count("parasol_goals_total", goal=goal.goal)
