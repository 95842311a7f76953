"""A referral batch end to end beside a bare COPY of the same file, and goals beside one transaction an event.

`python -m bench.referrals [rows]` (ADR 0008). Both sides write durably to the same private PostgreSQL.
"""

import asyncio
import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from bench.scratch import scratch_database
from gateway.call import File
from gateway.clock import rfc3339
from gateway.database import Database
from gateway.keyring import Keyring
from gateway.partners.identity import IdentityKeys, identity_tokens
from gateway.referrals import attributing
from gateway.referrals.attributing import FeedEntry, GoalDesk
from gateway.referrals.batch import HEADER
from gateway.referrals.model import Evidence, GoalReached, Pick, ReferralTerms, Tenure
from gateway.referrals.receiving import BatchDesk, Declaration

NOW_MS, DAY_MS = 1_790_000_000_000, 86_400_000
ROWS, GOALS, GOALS_ALONE = 100_000, 20_000, 1_000
TERMS = ReferralTerms(
    "parkco", "parkco-2026", 1, "CNY", tuple(Evidence), Pick.LAST, 30 * DAY_MS, 90 * DAY_MS,
    frozenset({"ACCOUNT_OPENED"}), DAY_MS, 3 * DAY_MS, None, frozenset({"ACCOUNT_OPENED"}),
)  # fmt: skip


@dataclass(slots=True)
class Feed:
    """The bank's events, all there from the start."""

    entries: list[FeedEntry]

    async def read(self, after: str, limit: int) -> Sequence[FeedEntry]:
        return self.entries[int(after or 0) :][:limit]


async def bare_copy_s(database: Database, file: bytes) -> float:
    """The floor: the same bytes into a plain table with a key."""
    async with database.connection() as conn:
        await conn.execute(
            "CREATE TABLE bench_copy (customer_token text PRIMARY KEY, consent_ref text, touched_at text, site text)"
        )
        started = time.perf_counter()
        await conn.copy_to_table("bench_copy", source=BytesIO(file), format="csv", header=True, columns=list(HEADER))
        return time.perf_counter() - started


async def batch_s(desk: BatchDesk, file: bytes, rows: int) -> tuple[float, float]:
    """(received, applied) seconds."""
    said = Declaration("bench", rows, hashlib.sha256(file).hexdigest(), rows)
    batch = await desk.declare("parkco", said, now_ms=NOW_MS)
    started = time.perf_counter()
    await desk.receive("parkco", batch.batch_id, file=File.of(file), now_ms=NOW_MS)
    received = time.perf_counter()
    while await desk.apply_batches_due(NOW_MS):
        pass
    return received - started, time.perf_counter() - received


async def goals_s(desk: GoalDesk) -> float:
    started = time.perf_counter()
    while await desk.attribute_goals_due(NOW_MS + DAY_MS):
        pass
    return time.perf_counter() - started


def opened(phones: Sequence[str]) -> list[FeedEntry]:
    return [
        FeedEntry(
            str(place),
            GoalReached(
                f"b{phone}",
                "ACCOUNT_OPENED",
                f"c{phone}",
                phone,
                0,
                "CNY",
                NOW_MS + 1,
                (Tenure(NOW_MS + 1, None),),
                NOW_MS + 1,
            ),
        )
        for place, phone in enumerate(phones, 1)
    ]


async def main(rows: int) -> None:
    async with scratch_database(pool_size=4) as database:
        keys = IdentityKeys(database, Keyring(bytes(32)))
        batches = BatchDesk(database, keys, lambda partner_id, at_ms: TERMS, lambda partner_id: None)
        phones = [f"+86138{number:08d}" for number in range(rows)]
        made = identity_tokens(await keys.keys_of("parkco", now_ms=NOW_MS), phones)
        lines = [f"{made[phone][0][1]},consent-{phone[4:]},{rfc3339(NOW_MS - DAY_MS)}," for phone in phones]
        file = "\n".join([",".join(HEADER), *lines, ""]).encode()
        floor = await bare_copy_s(database, file)
        received, applied = await batch_s(batches, file, rows)
        total = received + applied
        print(f"batch of {rows}: {rows / total:,.0f} rows/s, {total / floor:.1f} times as long as a bare COPY")
        print(f"  received in {received:.1f} s, applied in {applied:.1f} s")
        feed = Feed(opened(phones[:GOALS]))
        desk = GoalDesk(database, keys, lambda partner_id, at_ms: TERMS, feed.read)
        together = len(feed.entries) / await goals_s(desk)
        feed.entries += opened(phones[GOALS : GOALS + GOALS_ALONE])
        feed.entries = [FeedEntry(str(place), entry.goal) for place, entry in enumerate(feed.entries, 1)]
        attributing.CHUNK_EVENTS, attributing.CHUNKS_A_RUN = 1, 10_000
        alone = GOALS_ALONE / await goals_s(desk)
        print(f"goals decided: {together:,.0f} a second, {together / alone:.1f} times one transaction an event")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS))
