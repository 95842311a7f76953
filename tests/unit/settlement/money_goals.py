"""Brought customers of the money machine: what each of them will do, and how the bank tells it, in any order."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.call import File
from gateway.clock import rfc3339
from gateway.database import Database
from gateway.keyring import Keyring
from gateway.partners.identity import IdentityKeys
from gateway.partners.partner import Partner
from gateway.partners.snapshot import SnapshotKeeper
from gateway.referrals.attributing import FeedEntry, GoalDesk
from gateway.referrals.model import GoalReached, Tenure
from gateway.referrals.receiving import BatchDesk, Declaration
from gateway.referrals.terms import terms_book
from tests.unit.settlement.reckoner import Fact, Reached
from tests.unit.settlement.reference import in_force

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
PEOPLE = 3
TOLD = """SELECT g.bank_event_id, e.business_day FROM event e JOIN referral_goal g ON g.event_id = e.event_id
          WHERE e.type = 'goal.reached' AND e.partner = 'metro' ORDER BY e.seq"""


@dataclass(frozen=True, slots=True)
class Deed:
    """Something a customer does, at the bank's clock."""

    name: str
    goal: str
    customer: int
    at_ms: int
    spend: int


def script(begin_ms: int, seed: int) -> list[Deed]:
    """Each opens an account after having been referred, then a card, then spends for eight days."""
    deeds = []
    for customer in range(PEOPLE):
        opened = begin_ms + (customer + 1) * HOUR_MS
        deeds.append(Deed(f"open-{customer}", "ACCOUNT_OPENED", customer, opened, 0))
        deeds.append(Deed(f"card-{customer}", "CARD_ACTIVATED", customer, opened + (seed >> customer & 3) * DAY_MS, 0))
        for number in range(1, 5):
            at_ms, spend = opened + number * 2 * DAY_MS, (seed * number * 7919) % 200_000
            deeds.append(Deed(f"spend-{customer}-{number}", "SPEND", customer, at_ms, spend))
    return deeds


@dataclass(slots=True)
class Referred:
    """The referral services, the script of the people, and what of it the bank has told so far."""

    database: Database
    keys: IdentityKeys
    batches: BatchDesk
    goals: GoalDesk
    deeds: list[Deed] = field(default_factory=list)
    told: list[Deed] = field(default_factory=list)

    @classmethod
    def build(cls, database: Database, keyring: Keyring, snapshots: SnapshotKeeper) -> "Referred":
        keys = IdentityKeys(database, keyring)
        terms = terms_book(lambda partner_id, at_ms: snapshots.current.contract_at(partner_id, at_ms))

        def partner(partner_id: str) -> Partner | None:
            return snapshots.current.partners.get(partner_id)

        made = cls(database, keys, BatchDesk(database, keys, terms, partner), None)  # type: ignore[arg-type]
        made.goals = GoalDesk(database, keys, terms, made.feed)
        return made

    async def bring(self, seed: int, *, now_ms: int) -> None:
        """A file of all of them, applied; then their lives begin."""
        rows = [
            f"{await self.keys.token('metro', _phone(customer), now_ms=now_ms)},c-{customer},{rfc3339(now_ms)},"
            for customer in range(PEOPLE)
        ]
        file = "\n".join(["customer_token,consent_ref,touched_at,site", *rows, ""]).encode()
        said = Declaration("n-1", len(rows), hashlib.sha256(file).hexdigest(), len(rows))
        batch = await self.batches.declare("metro", said, now_ms=now_ms)
        await self.batches.receive("metro", batch.batch_id, file=File.of(file), now_ms=now_ms)
        while await self.batches.apply_batches_due(now_ms):
            pass
        self.deeds = script(now_ms, seed)

    async def tell(self, which: Sequence[int], *, now_ms: int) -> None:
        """Some of what has happened and was not told yet, in this order."""
        for number in which:
            known = [deed for deed in self.deeds if deed.at_ms <= now_ms and deed not in self.told]
            if known:
                self.told.append(known[number % len(known)])
        while await self.goals.attribute_goals_due(now_ms):
            pass

    async def feed(self, after: str, limit: int) -> Sequence[FeedEntry]:
        start = int(after or 0)
        return [
            FeedEntry(str(place), self._as_told(deed))
            for place, deed in list(enumerate(self.told, 1))[start : start + limit]
        ]

    def _as_told(self, deed: Deed) -> GoalReached:
        mine = [other for other in self.deeds if other.customer == deed.customer]
        since = min(other.at_ms for other in mine)
        first = min(other.at_ms for other in mine if other.goal == deed.goal)
        return GoalReached(
            deed.name, deed.goal, f"cus-{deed.customer}", _phone(deed.customer), deed.spend, "CNY", deed.at_ms,
            (Tenure(since, None),), first,
        )  # fmt: skip

    # --- the own reckoning ----------------------------------------------------------------------------------------
    def payable(self, deed: Deed, documents: Sequence[dict[str, Any]]) -> bool:
        """Everybody here was brought; what pays is what the version in force has a commission for, in its money."""
        terms = in_force(documents, deed.at_ms)
        assert terms is not None, "the first version has no end"
        named = deed.goal in {commission["goal"] for commission in terms.get("commission", ())}
        return named and (deed.spend == 0 or terms["contract"]["currency"] == "CNY")

    async def facts(self, documents: Sequence[dict[str, Any]]) -> list[Fact]:
        """What was paid, in the order of recording; which it is, and what it is worth, is taken from the script."""
        by_name, facts = {deed.name: deed for deed in self.deeds}, list[Fact]()
        async with self.database.connection() as conn:
            rows = await conn.fetch(TOLD)
        for row in rows:
            deed = by_name[row["bank_event_id"]]
            terms = in_force(documents, deed.at_ms)
            assert terms is not None
            anchor = min(other.at_ms for other in self.deeds if other.customer == deed.customer)
            facts.append(
                Reached(row["business_day"], deed.goal, terms["contract"]["version"], deed.at_ms, anchor, deed.spend,
                        str(deed.customer))
            )  # fmt: skip
        paid = {row["bank_event_id"] for row in rows}
        assert paid == {deed.name for deed in self.told if self.payable(deed, documents)}, "the telling decides nothing"
        return facts


def _phone(customer: int) -> str:
    return f"+8613800138{customer:03d}"
