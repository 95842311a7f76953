"""The chore that reads the bank's feed of goals and decides, chunk by chunk, whose customers reached them.

No network inside a transaction: a chunk is read first, then loaded, judged in memory and written in one transaction
with the feed's cursor and the events. A bank event is judged once, whatever is read twice.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import structlog

from gateway import metrics
from gateway.database import Connection, Database
from gateway.events import outbox
from gateway.ids import new_id
from gateway.partners.identity import IdentityKey, IdentityKeys, PhoneMalformed, identity_tokens, normalise_phone
from gateway.referrals.goal import GoalOutcome, Ownership, Verdict, judge
from gateway.referrals.link import ticket_digest
from gateway.referrals.model import ClaimState, GoalReached, TermsBook, Touch
from gateway.referrals.store import batches, claims, goals, links
from gateway.referrals.store.goals import ClaimChange

CHUNK_EVENTS = 500  # events a transaction: some 40 ms of a worker's loop, in slices
SLICE_EVENTS = 50  # events judged until the loop serves somebody else
CHUNKS_A_RUN = 40  # chunks until the chore lets others run
EXPIRE_CHUNK = 10_000  # claims a transaction
SCANS_KEPT_MS = 30 * 86_400_000  # scans that led nowhere
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """An event of the bank's feed and the cursor that stands behind it."""

    cursor: str
    goal: GoalReached


Feed = Callable[[str, int], Awaitable[Sequence[FeedEntry]]]  # (after_cursor, limit)
_Log = dict[tuple[str, str], list[Touch]]  # (partner, token) → touches


@dataclass(slots=True)
class _Chunk:
    """What a chunk is judged on, and how it changes while its events are judged in order."""

    known: dict[str, dict[str, Ownership]]
    tokens: dict[str, list[tuple[str, str]]]  # phone → (partner, token)
    touches: _Log
    phones: dict[str, str]  # bank event → normalised phone
    verdicts: list[tuple[Verdict, str | None]] = field(default_factory=list)
    events: list[outbox.Event] = field(default_factory=list)
    claims: dict[str, ClaimChange] = field(default_factory=dict)


@dataclass(slots=True)
class GoalDesk:
    """Attributes goals and ends what is over."""

    database: Database
    keys: IdentityKeys
    terms: TermsBook
    feed: Feed

    async def attribute_goals_due(self, now_ms: int) -> int:
        """Chore: returns the number of bank events read."""
        read = 0
        for _ in range(CHUNKS_A_RUN):
            taken = await self._attribute_chunk(now_ms)
            read += taken
            if taken < CHUNK_EVENTS:
                break
        return read

    async def expire_claims_due(self, now_ms: int) -> int:
        """Chore: claims whose window has passed, scans that led nowhere."""
        async with self.database.transaction() as conn:
            expired = await claims.expire(conn, now_ms=now_ms, limit=EXPIRE_CHUNK)
            await links.forget_scans(conn, before_ms=now_ms - SCANS_KEPT_MS, limit=EXPIRE_CHUNK)
        metrics.count("parasol_claims_total", expired, outcome="expired")
        return expired

    async def _attribute_chunk(self, now_ms: int) -> int:
        async with self.database.connection() as conn:
            cursor = await goals.read_cursor(conn)
        entries = await self.feed(cursor, CHUNK_EVENTS)
        async with self.database.transaction() as conn:
            entries = _heard(entries, await batches.oldest_receipt_ms(conn))
            if not entries or not await goals.move_cursor(conn, old=cursor, new=entries[-1].cursor):
                return 0
            fresh = await _fresh(conn, entries)
            await self._present_tickets(conn, fresh, now_ms=now_ms)
            chunk = await self._load(conn, fresh)
            for place, goal in enumerate(fresh):
                if place % SLICE_EVENTS == 0:
                    await asyncio.sleep(0)
                self._judge(goal, chunk)
            await _keep(conn, chunk, now_ms=now_ms)
        for verdict, _ in chunk.verdicts:
            metrics.count("parasol_claims_total", outcome=verdict.outcome.value)
        for goal in fresh:
            metrics.count("parasol_goals_total", goal=goal.goal)
        return len(entries)

    async def _present_tickets(self, conn: Connection, fresh: Sequence[GoalReached], *, now_ms: int) -> None:
        """The bank's app showed a scan ticket: the scan becomes a touch of this customer."""
        shown = {ticket_digest(goal.scan_ticket): goal for goal in reversed(fresh) if goal.scan_ticket}
        if not shown:
            return
        found = await links.present(
            conn, [(digest, goal.bank_event_id, goal.occurred_at_ms) for digest, goal in shown.items()]
        )
        newest = {key.partner_id: key for key in await self.keys.all_keys(conn)}
        by_event = {goal.bank_event_id: goal for goal in shown.values()}
        rows = []
        for scan in found:
            terms, phone = self.terms(scan.partner_id, scan.scanned_at_ms), _phone(by_event[scan.bank_event_id])
            if phone and scan.partner_id in newest:
                ((_, token),) = identity_tokens([newest[scan.partner_id]], [phone])[phone]
                lookback_ms = terms.lookback_ms if terms else 0
                rows.append((new_id("clm"), token, scan.scanned_at_ms + lookback_ms, scan))
        await batches.hold_claims(conn, [scan.partner_id for *_, scan in rows])
        await goals.claim_by_scan(conn, rows, now_ms=now_ms)

    async def _load(self, conn: Connection, fresh: Sequence[GoalReached]) -> _Chunk:
        """Phones are hashed only for goals that are not decided yet: spending of known customers costs nothing here."""
        known = await goals.ownerships(conn, {goal.customer_id for goal in fresh})
        undecided = [goal for goal in fresh if goal.goal not in known.get(goal.customer_id, {})]
        phones = {goal.bank_event_id: _phone(goal) for goal in undecided}
        keys: Sequence[IdentityKey] = await self.keys.all_keys(conn) if undecided else ()
        tokens = identity_tokens(keys, {phone for phone in phones.values() if phone})
        touches = await goals.touches_of_tokens(conn, [pair for pairs in tokens.values() for pair in pairs])
        return _Chunk(known, tokens, touches, phones)

    def _judge(self, goal: GoalReached, chunk: _Chunk) -> None:
        known = chunk.known.setdefault(goal.customer_id, {})
        pairs = chunk.tokens.get(chunk.phones.get(goal.bank_event_id, ""), [])
        touches = [touch for pair in pairs for touch in chunk.touches.get(pair, ())]
        partners = {touch.partner_id for touch in touches} | {own.partner_id for own in known.values()}
        found = {partner_id: self.terms(partner_id, goal.occurred_at_ms) for partner_id in partners if partner_id}
        verdict = judge(
            goal, known, touches=touches, terms={name: terms for name, terms in found.items() if terms is not None}
        )
        if verdict.decided is not None:
            known[goal.goal] = verdict.decided
        reached = _reached(verdict)
        chunk.verdicts.append((verdict, reached.event_id if reached else None))
        chunk.events.extend(event for event in (reached, _owned(verdict)) if event is not None)
        _change_claims(chunk.claims, verdict, touches)


def _heard(entries: Sequence[FeedEntry], oldest_receipt_ms: int | None) -> Sequence[FeedEntry]:
    """Events up to the receipt of a file that is still being applied; later ones wait until its touches are known."""
    if oldest_receipt_ms is None:
        return entries
    early = [place for place, entry in enumerate(entries) if entry.goal.occurred_at_ms > oldest_receipt_ms]
    return entries[: early[0]] if early else entries


async def _fresh(conn: Connection, entries: Sequence[FeedEntry]) -> list[GoalReached]:
    """Each bank event once, in the feed's order."""
    unique = {entry.goal.bank_event_id: entry.goal for entry in reversed(entries)}
    known = await goals.known_events(conn, list(unique))
    return [goal for goal in reversed(unique.values()) if goal.bank_event_id not in known]


def _phone(goal: GoalReached) -> str:
    """Normalised; empty where the bank's own record is no phone number, which is counted and no reason to stop."""
    try:
        return normalise_phone(goal.phone)
    except PhoneMalformed:
        log.warning("goal_without_phone", key=goal.bank_event_id, goal=goal.goal)
        return ""


def _reached(verdict: Verdict) -> outbox.Event | None:
    """The fact that commissions are computed from."""
    owner, terms, goal = verdict.owner, verdict.terms, verdict.goal
    if owner is None or terms is None or not verdict.outcome.pays:
        return None
    return outbox.Event(
        type="goal.reached", occurred_at_ms=goal.occurred_at_ms, partner=owner.partner_id,
        campaign=owner.campaign or None, contract=terms.contract_id, contract_version=terms.version,
        currency=terms.currency, amount_minor=goal.amount_minor, subject_token=owner.subject_token,
        data={
            "goal": goal.goal, "claim_id": owner.claim_id, "anchor_at_ms": owner.anchor_at_ms,
            "evidence": owner.evidence,
        },
    )  # fmt: skip


def _owned(verdict: Verdict) -> outbox.Event | None:
    """The customer has an owner from now on."""
    owner, terms = verdict.decided, verdict.terms
    if owner is None or owner.via != "touch" or terms is None:
        return None
    return outbox.Event(
        type="claim.owned", occurred_at_ms=verdict.goal.occurred_at_ms, partner=owner.partner_id,
        campaign=owner.campaign or None, contract=terms.contract_id, contract_version=terms.version,
        subject_token=owner.subject_token,
        data={
            "goal": owner.goal, "claim_id": owner.claim_id, "evidence": owner.evidence, "until_ms": owner.until_ms,
        },
    )  # fmt: skip


def _change_claims(changes: dict[str, ClaimChange], verdict: Verdict, touches: Iterable[Touch]) -> None:
    """OWNING and CONVERTED for the owner's claim, LOST for those that could have won."""
    own, goal = verdict.owner, verdict.goal
    if own is None:
        return
    partner_of = {touch.claim_id: touch.partner_id for touch in touches}
    for claim_id in verdict.losers:
        changes.setdefault(
            claim_id,
            ClaimChange(partner_of[claim_id], claim_id, ClaimState.LOST, goal.customer_id, goal.goal, None),
        )
    first = verdict.decided is not None and verdict.decided.via == "touch"
    state = ClaimState.OWNING if first else ClaimState.CONVERTED
    if first or verdict.outcome is GoalOutcome.CONVERTED:
        changes[own.claim_id] = ClaimChange(
            own.partner_id, own.claim_id, state, goal.customer_id, own.goal, own.until_ms
        )


async def _keep(conn: Connection, chunk: _Chunk, *, now_ms: int) -> None:
    decided = [verdict.decided for verdict, _ in chunk.verdicts if verdict.decided is not None]
    await goals.keep_ownerships(conn, decided, now_ms=now_ms)
    await goals.keep_verdicts(conn, chunk.verdicts, now_ms=now_ms)
    await batches.hold_claims(conn, [change.partner_id for change in chunk.claims.values()])
    await goals.change_claims(conn, chunk.claims.values())
    await outbox.append(conn, chunk.events, now_ms=now_ms)
