"""The referral desks over a real database, with terms and a feed that a test sets: for what HTTP does not show."""

import hashlib
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from gateway.call import File
from gateway.clock import to_ms
from gateway.database import Database
from gateway.keyring import Keyring
from gateway.partners.identity import KEY_BYTES, IdentityKeys
from gateway.partners.partner import Partner, PartnerState, Site
from gateway.partners.store import insert_identity_key
from gateway.referrals.attributing import FeedEntry, GoalDesk
from gateway.referrals.model import Batch, Evidence, GoalReached, Pick, ReferralTerms, Tenure
from gateway.referrals.receiving import BatchDesk, Declaration
from gateway.refusal import Refusal

NOW = to_ms(datetime(2026, 9, 15, 8, 0, tzinfo=UTC))
DAY = 86_400_000
HEADER = "customer_token,consent_ref,touched_at,site"
TOUCHED = "2026-09-14T08:00:00Z"
GOALS = frozenset({"ACCOUNT_OPENED", "CARD_ACTIVATED", "SPEND"})
PHONES = [f"1380000{n:04d}" for n in range(40)]
TERMS = ReferralTerms(
    "parkco", "parkco-2026", 3, "CNY", tuple(Evidence), Pick.LAST, 30 * DAY, 90 * DAY, frozenset({"ACCOUNT_OPENED"}),
    DAY, 3 * DAY, None, GOALS,
)  # fmt: skip


class TermsUnreadable(Refusal):
    """As the picture of the contracts refuses a version that a newer program has written."""

    status, code, ob_code, outcome = 503, "terms_unreadable", "U000", "contract"
    title = "These terms cannot be read"


@dataclass(slots=True)
class BankFeed:
    """The bank's goal events, told in the order in which they are added; the bank knows them all from the start."""

    goals: list[GoalReached] = field(default_factory=list)
    tenures: dict[str, tuple[Tenure, ...]] = field(default_factory=dict)  # by phone, where a test says so

    async def read(self, after: str, limit: int) -> Sequence[FeedEntry]:
        start = int(after or 0)
        told = list(enumerate(self.goals, 1))[start : start + limit]
        return [FeedEntry(str(place), self._as_the_bank_knows(goal)) for place, goal in told]

    def _as_the_bank_knows(self, goal: GoalReached) -> GoalReached:
        mine = [other for other in self.goals if other.customer_id == goal.customer_id]
        opened = [other.occurred_at_ms for other in mine if other.goal == "ACCOUNT_OPENED"]
        since = min(opened or [other.occurred_at_ms for other in mine])
        if goal.tenures:
            return goal
        tenures = self.tenures.get(goal.phone, (Tenure(since, None),))
        joined = max((one.since_ms for one in tenures if one.since_ms <= goal.occurred_at_ms), default=0)
        first = min(
            (o.occurred_at_ms for o in mine if o.goal == goal.goal and o.occurred_at_ms >= joined),
            default=goal.occurred_at_ms,
        )
        return replace(goal, tenures=tenures, first_at_ms=first)

    def add(
        self, goal: str, phone: str, *, at_ms: int, amount: int = 0, ticket: str = "", event_id: str = ""
    ) -> GoalReached:
        event_id = event_id or f"bank-{len(self.goals)}"
        entry = GoalReached(event_id, goal, f"cus-{phone}", phone, amount, "CNY", at_ms, (), at_ms, ticket)
        self.goals.append(entry)
        return entry


@dataclass(slots=True)
class Room:
    """Both desks and what stands behind them."""

    database: Database
    keyring: Keyring
    keys: IdentityKeys
    batches: BatchDesk
    goals: GoalDesk
    feed: BankFeed
    contracts: dict[str, ReferralTerms]
    unreadable: set[str]  # partners whose terms this program cannot read just now

    async def token(self, partner_id: str, phone: str) -> str:
        return await self.keys.token(partner_id, phone, now_ms=NOW)

    async def begin_epoch(self, partner_id: str, epoch: int) -> None:
        """A further key of the partner, as a later program would make it."""
        sealed = self.keyring.seal(secrets.token_bytes(KEY_BYTES), context=f"identity_key:{partner_id}:{epoch}")
        async with self.database.transaction() as conn:
            assert await insert_identity_key(conn, partner_id, epoch=epoch, key_sealed=sealed, now_ms=NOW)

    async def send(
        self, rows: Sequence[str], *, partner_id: str = "parkco", number: str = "n-1", now_ms: int = NOW
    ) -> Batch:
        """Declare and send a file; nothing is applied yet."""
        file = csv_file(rows)
        tokens = {row.partition(",")[0] for row in rows}
        said = Declaration(number, len(rows), hashlib.sha256(file).hexdigest(), len(tokens))
        batch = await self.batches.declare(partner_id, said, now_ms=now_ms)
        return await self.batches.receive(partner_id, batch.batch_id, file=File.of(file), now_ms=now_ms)

    async def sql(self, statement: str, *values: object) -> list[dict[str, object]]:
        async with self.database.connection() as conn:
            return [dict(row) for row in await conn.fetch(statement, *values)]


def csv_file(rows: Sequence[str]) -> bytes:
    return "\n".join([HEADER, *rows, ""]).encode()


def row(token: str, *, consent: str = "c-1", touched: str = TOUCHED, site: str = "") -> str:
    return f"{token},{consent},{touched},{site}"


@asynccontextmanager
async def open_room(url: str) -> AsyncIterator[Room]:
    database = await Database.connect(url, pool_size=4)
    keyring = Keyring(bytes(32))
    keys = IdentityKeys(database, keyring)
    contracts = {"parkco": TERMS, "shopco": replace(TERMS, partner_id="shopco", contract_id="shopco-2026")}
    sites = (Site("lot-1", "Lot 1", "7523"),)
    partner = Partner("parkco", "ParkCo", "停车", "parking", PartnerState.ACTIVE, "p", (), sites=sites)
    feed = BankFeed()

    unreadable: set[str] = set()

    def terms(partner_id: str, _: int) -> ReferralTerms | None:
        if partner_id in unreadable:
            raise TermsUnreadable(f"Contract of {partner_id}")
        return contracts.get(partner_id)

    batches = BatchDesk(database, keys, terms, {"parkco": partner}.get)
    goals = GoalDesk(database, keys, terms, feed.read)
    try:
        yield Room(database, keyring, keys, batches, goals, feed, contracts, unreadable)
    finally:
        await database.close()


async def tokens(room: Room, partner_id: str, phones: list[str]) -> list[str]:
    return [await room.token(partner_id, phone) for phone in phones]


async def claim(room: Room, partner_id: str, phone: str, *, number: str, touched: str = TOUCHED) -> None:
    token = await room.token(partner_id, phone)
    await room.send([row(token, touched=touched)], partner_id=partner_id, number=number)
    await room.batches.apply_batches_due(NOW)


async def states(room: Room) -> dict[str, str]:
    found = await room.sql("SELECT partner_id, state FROM referral_claim")
    return {str(entry["partner_id"]): str(entry["state"]) for entry in found}
