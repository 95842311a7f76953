"""What goals cost as partners grow: a second's goals, our own processor time, the loop's blocking, a big file's delay.

    python -m bench.goals [PARTNERS …]         2, 500 and 5,000 where none is given

Everything goes through the gateway's own desks over a durable PostgreSQL of the run; the bank's feed is in memory.
"""

import asyncio
import hashlib
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import structlog

from bench.partners import watched
from bench.scratch import scratch_database
from gateway.call import File
from gateway.chores import BackOffice, Chore
from gateway.clock import now_ms, rfc3339
from gateway.collector import pass_over_what_is_here
from gateway.database import Database
from gateway.keyring import Keyring
from gateway.partners import store
from gateway.partners.identity import IdentityKeys, identity_tokens
from gateway.referrals.attributing import FeedEntry, GoalDesk
from gateway.referrals.batch import HEADER
from gateway.referrals.model import Evidence, GoalReached, Pick, ReferralTerms, Tenure
from gateway.referrals.receiving import BatchDesk, Declaration

SIZES = (2, 500, 5_000)
GOALS = 10_000
HASHES = 1_000_000  # goals of a case with many open partners are as many as these allow
BIG_FILE, PROBES = 100_000, 3
DAY_MS = 86_400_000
KEY = bytes(32)
TERMS = ReferralTerms(
    "p0", "p0-2026", 1, "CNY", tuple(Evidence), Pick.LAST, 30 * DAY_MS, 90 * DAY_MS, frozenset({"ACCOUNT_OPENED"}),
    DAY_MS, 3 * DAY_MS, None, frozenset({"ACCOUNT_OPENED", "SPEND"}),
)  # fmt: skip


@dataclass(slots=True)
class Feed:
    """The bank's events; more may be told at any time."""

    entries: list[FeedEntry] = field(default_factory=list)

    async def read(self, after: str, limit: int) -> Sequence[FeedEntry]:
        return self.entries[int(after or 0) :][:limit]

    def tell(self, goal: str, phone: str, *, at_ms: int, joined_ms: int, number: int = 0) -> None:
        told = GoalReached(
            f"{goal}-{phone}-{number}", goal, f"c{phone}", phone, 100 if goal == "SPEND" else 0, "CNY", at_ms,
            (Tenure(joined_ms, None),), joined_ms if goal == "ACCOUNT_OPENED" else at_ms,
        )  # fmt: skip
        self.entries.append(FeedEntry(str(len(self.entries) + 1), told))


@dataclass(slots=True)
class Bench:
    """Both desks over one database, and names of people nobody has used yet."""

    database: Database
    keys: IdentityKeys
    feed: Feed
    batches: BatchDesk
    goals: GoalDesk
    people: int = 0
    files: int = 0

    def phones(self, number: int) -> list[str]:
        self.people += number
        return [f"+86138{person:08d}" for person in range(self.people - number, self.people)]

    async def send(self, partner_id: str, phones: Sequence[str], *, at_ms: int) -> None:
        """Received, not applied."""
        self.files += 1
        made = identity_tokens(await self.keys.keys_of(partner_id, now_ms=at_ms), phones)
        lines = [f"{made[phone][0][1]},consent-{phone[4:]},{rfc3339(at_ms - 1)}," for phone in phones]
        file = "\n".join([",".join(HEADER), *lines, ""]).encode()
        said = Declaration(f"f{self.files}", len(phones), hashlib.sha256(file).hexdigest(), len(phones))
        batch = await self.batches.declare(partner_id, said, now_ms=at_ms)
        await self.batches.receive(partner_id, batch.batch_id, file=File.of(file), now_ms=at_ms)

    async def apply(self) -> None:
        while await self.batches.apply_batches_due(now_ms()):
            pass


async def make_partners(database: Database, keyring: Keyring, partners: int) -> None:
    """Their identity keys, as `keys_of` makes them one by one."""
    async with database.transaction() as conn:
        for number in range(partners):
            partner_id = f"p{number}"
            sealed = keyring.seal(number.to_bytes(32, "big"), context=f"identity_key:{partner_id}:1")
            await store.insert_identity_key(conn, partner_id, epoch=1, key_sealed=sealed, now_ms=1)


async def open_claims(bench: Bench, partners: int) -> None:
    """A claim on a stranger for each, as a file of one row would make it."""
    numbers, at_ms = list(range(2, partners)), now_ms() - DAY_MS
    async with bench.database.transaction() as conn:
        await conn.execute(
            """INSERT INTO referral_claim (partner_id, claim_id, customer_token, witness, state, recorded_at_ms,
                                           last_told_ms, last_batch_id, told_until_ms, expires_at_ms)
               SELECT 'p' || n, 'clm_' || n, 'idt_1_' || n, 'partner', 'ELIGIBLE', $2, $2, '', $3, $3
               FROM unnest($1::int[]) AS n""",
            numbers, at_ms, at_ms + 30 * DAY_MS,
        )  # fmt: skip
        await conn.execute(
            """INSERT INTO referral_touch (partner_id, claim_id, evidence, occurred_at_ms, recorded_at_ms, consent_ref,
                                           site, campaign, batch_id, row_no)
               SELECT 'p' || n, 'clm_' || n, 'batch', $2, $2, 'c', '', '', 'bench' || n, n
               FROM unnest($1::int[]) AS n""",
            numbers, at_ms,
        )  # fmt: skip


async def rate(bench: Bench, told: str, goals: int) -> None:
    """Until all that the feed has is decided."""
    pass_over_what_is_here()  # as in the back office; what the bench holds is not the gateway's to walk through
    async with watched() as blocked:
        started, cpu = time.perf_counter(), time.process_time()
        while await bench.goals.attribute_goals_due(now_ms()):
            pass
        seconds, used = time.perf_counter() - started, time.process_time() - cpu
    print(
        f"{told:<44}{goals / seconds:9,.0f} goals/s {used / goals * 1e6:9,.0f} us ours a goal, loop blocked at most "
        f"{blocked.longest_ms:,.1f} ms", flush=True,
    )  # fmt: skip


async def rates(bench: Bench, told: str, goals: int) -> None:
    """People whom a partner brought, people who came alone, and what both spend afterwards."""
    joined_ms = now_ms() - DAY_MS // 2
    brought, alone = bench.phones(goals), bench.phones(goals)
    await bench.send("p0", brought, at_ms=joined_ms - 10)
    await bench.apply()
    for phone in brought:
        bench.feed.tell("ACCOUNT_OPENED", phone, at_ms=joined_ms, joined_ms=joined_ms)
    await rate(bench, f"{told} first goal, brought", goals)
    for phone in alone:
        bench.feed.tell("ACCOUNT_OPENED", phone, at_ms=joined_ms, joined_ms=joined_ms)
    await rate(bench, f"{told} first goal, came alone", goals)
    for phone in brought:
        bench.feed.tell("SPEND", phone, at_ms=joined_ms + 1, joined_ms=joined_ms)
    await rate(bench, f"{told} spend of those brought", goals)


async def delay(bench: Bench, told: str) -> None:
    """From the telling of a goal to its decision, with both chores running as in the back office."""
    chores = (
        Chore("apply referral batches", 0.2, bench.batches.apply_batches_due),
        Chore("attribute goals", 0.2, bench.goals.attribute_goals_due),
    )
    found: dict[int, list[float]] = {0: [], BIG_FILE: []}
    for rows, waits_s in found.items():
        for _ in range(PROBES):
            (phone,) = bench.phones(1)
            await bench.send("p1", [phone], at_ms=now_ms())
            await bench.apply()
            if rows:
                await bench.send("p0", bench.phones(rows), at_ms=now_ms())
            async with BackOffice(bench.database, chores).working():
                await asyncio.sleep(0.3)  # the chores have begun
                waits_s.append(await decided_s(bench, phone))
            await bench.apply()
    quiet, behind = (sorted(waits_s) for waits_s in found.values())
    print(
        f"{told} a goal is decided after {median(quiet):.2f} s; behind another's {BIG_FILE:,} rows after "
        f"{median(behind):.2f} s (at most {behind[-1]:.2f})", flush=True,
    )  # fmt: skip


async def decided_s(bench: Bench, phone: str) -> float:
    joined_ms = now_ms()
    bench.feed.tell("ACCOUNT_OPENED", phone, at_ms=joined_ms, joined_ms=joined_ms)
    started = time.perf_counter()
    while True:
        async with bench.database.connection() as conn:
            if await conn.fetchval("SELECT outcome FROM referral_goal WHERE bank_event_id = $1 AND event_id <> ''",
                                   f"ACCOUNT_OPENED-{phone}-0"):  # fmt: skip
                return time.perf_counter() - started
        await asyncio.sleep(0.005)


async def measure(partners: int) -> None:
    async with scratch_database(pool_size=4) as database:
        keyring = Keyring(KEY)
        keys, feed = IdentityKeys(database, keyring), Feed()
        terms = {f"p{number}": replace(TERMS, partner_id=f"p{number}") for number in range(partners)}
        batches = BatchDesk(database, keys, lambda partner_id, _: terms[partner_id], lambda _: None)
        goals = GoalDesk(database, keys, lambda partner_id, _: terms[partner_id], feed.read)
        bench = Bench(database, keys, feed, batches, goals)
        await make_partners(database, keyring, partners)
        await bench.send("p1", bench.phones(1), at_ms=now_ms() - DAY_MS)
        few = f"{partners:>6,} partners, 2 with claims:"
        await rates(bench, few, goals_of(2))
        await delay(bench, few)
        if partners > 2:
            await open_claims(bench, partners)
            await rates(bench, f"{partners:>6,} partners, all with claims:", goals_of(partners))


def goals_of(keys: int) -> int:
    """As many as a case takes some seconds for."""
    return min(GOALS, HASHES // keys)


def main(arguments: list[str]) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    for partners in [int(each) for each in arguments] or SIZES:
        asyncio.run(measure(partners))


if __name__ == "__main__":
    main(sys.argv[1:])
