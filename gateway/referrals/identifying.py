"""Whose claims name the people of a chunk: their phones become tokens, in steps, and are looked up.

Between two steps everybody else of the process has a turn. A transaction makes no more than so many tokens: where
thousands of partners have open claims, a chunk has fewer people in it.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from gateway import metrics
from gateway.database import Connection
from gateway.partners.identity import IdentityKey, IdentityKeys, PhoneHasher, normalise_phone
from gateway.referrals.candidates import Candidates, candidates
from gateway.referrals.goal import REPEATABLE, Relation
from gateway.referrals.model import GoalReached, TermsBook, Touch
from gateway.referrals.store import goals, spans
from gateway.referrals.store.spans import Pair

HASHES_A_STEP = 1_000  # tokens made and looked up until others have their turn
KEYS_A_STEP = 500  # partners whose keys are unsealed until then
HASHES_A_CHUNK = 50_000  # tokens a transaction


@dataclass(slots=True)
class Asked:
    """By phone the partners to ask about a person; `phones` by bank event."""

    phones: dict[str, str] = field(default_factory=dict)
    partners: dict[str, frozenset[str]] = field(default_factory=dict)
    owners: dict[str, frozenset[str]] = field(default_factory=dict)  # of earlier decisions
    keys: dict[str, tuple[IdentityKey, ...]] = field(default_factory=dict)
    with_files: frozenset[str] = frozenset()
    hashes: int = 0

    def add(self, goal: GoalReached, partner_ids: frozenset[str], *, owners: frozenset[str]) -> bool:
        """False: that is too much for this transaction; the first person never is."""
        phone = normalise_phone(goal.phone)
        before = self.partners.get(phone, frozenset())
        partner_ids |= before
        self.hashes += len(partner_ids) - len(before)
        if self.phones and self.hashes > HASHES_A_CHUNK:
            return False
        self.phones[goal.bank_event_id] = phone
        self.partners[phone] = partner_ids
        self.owners[phone] = self.owners.get(phone, frozenset()) | owners
        return True

    def also(self, goal: GoalReached, partner_id: str, *, keys: tuple[IdentityKey, ...]) -> None:
        """A partner of which the goal itself tells."""
        phone = self.phones.setdefault(goal.bank_event_id, normalise_phone(goal.phone))
        self.partners[phone] = self.partners.get(phone, frozenset()) | {partner_id}
        self.owners.setdefault(phone, frozenset())
        self.keys[partner_id] = keys

    def pairs(self) -> Iterator[tuple[str, IdentityKey]]:
        for phone, partner_ids in self.partners.items():
            for partner_id in sorted(partner_ids):
                for key in self.keys.get(partner_id, ()):
                    yield phone, key


@dataclass(slots=True)
class Found:
    """What is kept about the people of a chunk: of each, the tokens of partners that name them or have brought them."""

    tokens: dict[str, list[Pair]] = field(default_factory=dict)  # by phone
    touches: dict[Pair, list[Touch]] = field(default_factory=dict)
    named: dict[Pair, int] = field(default_factory=dict)  # in a file that is not applied, received then


def is_looked_up(goal: GoalReached, known: Sequence[Relation]) -> bool:
    """Goals that count once, and people who are not decided: what somebody spends later is cheap."""
    return goal.goal not in REPEATABLE or all(
        relation.ownership is None or relation.joined_at_ms != goal.joined_at_ms for relation in known
    )


async def ask(
    conn: Connection, fresh: Sequence[GoalReached], relations: Mapping[str, list[Relation]], *,
    keys: IdentityKeys, terms: TermsBook, now_ms: int,
) -> tuple[Asked, int]:  # fmt: skip
    """Whom to ask about the people of the first so many goals: of all, or of as many as a transaction may hash for."""
    places = [place for place, goal in enumerate(fresh) if is_looked_up(goal, relations.get(goal.customer_id, ()))]
    asked, heard = Asked(), len(fresh)
    if not places:
        return asked, heard
    asked.with_files = frozenset(await spans.partners_with_files(conn))
    joined = {fresh[place].joined_at_ms for place in places}
    found, left = Candidates(asked.with_files, ()), iter(await spans.spans(conn))
    while part := list(islice(left, HASHES_A_STEP)):
        found = found.and_of(candidates(part, (), joined_at_ms=joined, terms=terms, now_ms=now_ms))
        await asyncio.sleep(0)
    for place in places:
        goal, known = fresh[place], relations.get(fresh[place].customer_id, ())
        owners = frozenset(r.ownership.partner_id for r in known if r.ownership and r.ownership.partner_id)
        if not asked.add(goal, found.of(goal.joined_at_ms) | owners, owners=owners):
            heard = place
            break
    names = iter(sorted(frozenset().union(*asked.partners.values())))
    while some := list(islice(names, KEYS_A_STEP)):
        asked.keys |= await keys.keys_of_partners(conn, some)
    return asked, heard


async def look_up(conn: Connection, asked: Asked) -> Found:
    found, hasher, pairs, made = Found(), PhoneHasher(), asked.pairs(), []
    kept = {phone: set(partner_ids) for phone, partner_ids in asked.owners.items()}
    while step := {(key.partner_id, hasher.token(key, phone)): phone for phone, key in islice(pairs, HASHES_A_STEP)}:
        touches = await goals.touches_of_tokens(conn, step)
        named = await spans.named_in_files(conn, [pair for pair in step if pair[0] in asked.with_files])
        for pair in touches.keys() | named.keys():
            kept[step[pair]].add(pair[0])
        found.touches |= touches
        found.named |= named
        made.append(step)
        metrics.count("parasol_goal_lookups_total", len(step))
        await asyncio.sleep(0)
    found.tokens = {phone: [] for phone in kept}
    for step in made:
        for pair, phone in step.items():
            if pair[0] in kept[phone]:
                found.tokens[phone].append(pair)
        await asyncio.sleep(0)
    return found
