"""Every worker's picture: complete, fresh within a second, and never broken by one bad document."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from gateway.clock import to_ms
from gateway.database import Database, changes
from gateway.database.changes import ChangeFeed, announce
from gateway.partners.apply import apply
from gateway.partners.lifecycle import reinstate, suspend
from gateway.partners.partner import PartnerState
from gateway.partners.snapshot import Snapshot, SnapshotKeeper
from gateway.policies.policy import OperationDenied
from gateway.refusal import StateConflict, UnknownResource

NOW = 1_760_000_000_000
SECOND = 1.0
PARTNERS, RUNS = 500, 5


@dataclass(slots=True)
class Worker:
    """A change feed and a keeper, as in each process; `refreshed` rings after every swap."""

    database: Database
    feed: ChangeFeed
    keeper: SnapshotKeeper
    refreshed: asyncio.Event

    async def ring(self, _: Any) -> None:
        self.refreshed.set()


async def _open_worker(stack: AsyncExitStack, url: str) -> Worker:
    database = await Database.connect(url, pool_size=2)
    stack.push_async_callback(database.close)
    worker = Worker(database, ChangeFeed(database), SnapshotKeeper(database), asyncio.Event())
    await worker.feed.start()
    stack.push_async_callback(worker.feed.stop)
    await worker.keeper.load()
    worker.feed.subscribe(worker.keeper.refresh)
    worker.feed.subscribe(worker.ring)
    return worker


@pytest.fixture
async def applied(bare_database: Database, agreed: Any, operations: Any) -> Database:
    await apply(bare_database, agreed.root, operations, actor="tester", reason="test", now_ms=NOW)
    return bare_database


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def _picture(database: Database) -> Snapshot:
    keeper = SnapshotKeeper(database)
    await keeper.load()
    return keeper.current


async def test_the_picture_holds_partner_app_policy_and_contract(applied: Database) -> None:
    snapshot = await _picture(applied)
    partner, policy = snapshot.partners["metro"], snapshot.policies["metro"]
    assert (partner.state, partner.policy_id, partner.sites[1].name) == (PartnerState.ACTIVE, "trader", "Line 2")
    assert snapshot.apps["metro-server"].partner_id == "metro"
    assert (policy.policy_id, policy.rate.burst, policy.max_amount_minor) == ("trader", 20, 10_000)
    policy.check_operation("HoldRedemption")
    with pytest.raises(OperationDenied):
        policy.check_operation("GetRedemption")


async def test_a_partners_own_terms_come_over_its_policy(bare_database: Database, agreed: Any, operations: Any) -> None:
    agreed.edit("partners/metro/partner.toml", 'use = "trader"', 'use = "trader"\nallow = { max_amount_minor = 5 }')
    await apply(bare_database, agreed.root, operations, actor="tester", reason="test", now_ms=NOW)
    policy = (await _picture(bare_database)).policies["metro"]
    assert (policy.max_amount_minor, policy.rate.burst, policy.currencies) == (5, 20, {"CNY"})


async def test_the_instant_picks_the_contract_version(bare_database: Database, agreed: Any, operations: Any) -> None:
    file = "partners/metro/contract.toml"
    agreed.write("partners/metro/contract.v1.toml", agreed.read(file))
    agreed.edit(file, "version = 1", "version = 2")
    agreed.edit(file, "2025-01-01", "2025-07-01")
    await apply(bare_database, agreed.root, operations, actor="tester", reason="test", now_ms=NOW)
    snapshot = await _picture(bare_database)
    shanghai_midnight = to_ms(datetime(2025, 6, 30, 16, tzinfo=UTC))
    picked = [snapshot.contract_at("metro", at) for at in (shanghai_midnight - 1, shanghai_midnight)]
    assert [contract and contract.version for contract in picked] == [1, 2]
    assert snapshot.contract_at("metro", to_ms(datetime(2024, 6, 30, tzinfo=UTC))) is None
    assert snapshot.contract_at("nobody", shanghai_midnight) is None


async def test_a_withdrawn_partner_is_not_there(applied: Database, agreed: Any, operations: Any) -> None:
    agreed.add_partner("tram")
    await apply(applied, agreed.root, operations, actor="tester", reason="test", now_ms=NOW, remove=True)
    assert "tram-server" in (await _picture(applied)).apps
    (agreed.root / "partners/tram/partner.toml").unlink()
    (agreed.root / "partners/tram").rmdir()
    await apply(applied, agreed.root, operations, actor="tester", reason="test", now_ms=NOW, remove=True)
    snapshot = await _picture(applied)
    assert "tram" not in snapshot.partners
    assert "tram-server" not in snapshot.apps
    assert "tram" not in snapshot.policies


async def test_a_suspension_reaches_every_worker_within_a_second_by_notification(
    applied: Database, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "POLL_S", 3600.0)  # so that only the notification can have told them
    workers = [await _open_worker(stack, applied.url) for _ in range(2)]
    started = time.monotonic()
    async with applied.transaction() as conn:
        await suspend(conn, "metro", reason="test", actor="tester", now_ms=NOW)
    async with asyncio.timeout(SECOND):
        await asyncio.gather(*(worker.refreshed.wait() for worker in workers))
    assert time.monotonic() - started < SECOND
    assert {worker.keeper.current.partners["metro"].state for worker in workers} == {PartnerState.SUSPENDED}


async def test_a_lost_notification_is_made_up_for_within_a_second_by_polling(
    applied: Database, stack: AsyncExitStack
) -> None:
    workers = [await _open_worker(stack, applied.url) for _ in range(2)]
    async with applied.transaction() as conn:  # what announce does, without its NOTIFY
        await conn.execute("INSERT INTO partner_state VALUES ('metro', 'SUSPENDED', $1, 'tester', 'test')", NOW)
        await conn.execute("INSERT INTO change (kind, key, at_ms) VALUES ('partner', 'metro', $1)", NOW)
    async with asyncio.timeout(SECOND):
        await asyncio.gather(*(worker.refreshed.wait() for worker in workers))
    assert {worker.keeper.current.partners["metro"].state for worker in workers} == {PartnerState.SUSPENDED}


async def test_a_revoked_grant_is_in_the_next_picture_until_its_tokens_have_died(applied: Database) -> None:
    keeper = SnapshotKeeper(applied)
    await keeper.load()
    before = keeper.current
    async with applied.transaction() as conn:
        await conn.execute("INSERT INTO revoked_grant VALUES ('grt_1', $1, $2), ('grt_0', $1, $1)", NOW, NOW * 2)
        await announce(conn, "grant", "grt_1", now_ms=NOW)
    async with applied.connection() as conn:
        seq = await changes.latest_seq(conn)
    await keeper.refresh([changes.Change(seq, "grant", "grt_1")])
    assert before.revoked_grants == frozenset()
    assert keeper.current.revoked_grants == {"grt_1"}
    assert keeper.current.generation > before.generation


async def test_a_change_that_no_picture_shows_costs_nothing(applied: Database) -> None:
    keeper = SnapshotKeeper(applied)
    await keeper.load()
    before = keeper.current
    await keeper.refresh([changes.Change(99, "consent", "con_1")])
    assert keeper.current is before


async def test_a_bad_document_leaves_the_last_good_one_in_force_and_holds_nothing_else_up(
    applied: Database, agreed: Any, operations: Any
) -> None:
    agreed.add_partner("tram")
    await apply(applied, agreed.root, operations, actor="tester", reason="test", now_ms=NOW, remove=True)
    async with applied.transaction() as conn:
        for kind, name in (("partner", "metro"), ("policy", "trader")):
            await conn.execute(
                "INSERT INTO document VALUES ($1, $2, 2, NULL, $3, $4, $5, 'a newer program')",
                kind, name, {"partner": {"id": name, "halo": True}}, sha256(b"").digest(), NOW,
            )  # fmt: skip
        await suspend(conn, "tram", reason="test", actor="tester", now_ms=NOW)
    with capture_logs() as logs:
        snapshot = await _picture(applied)
    assert snapshot.partners["metro"].sites[0].site_id == "line-1"
    assert snapshot.policies["metro"].rate.burst == 20
    assert snapshot.partners["tram"].state is PartnerState.SUSPENDED
    assert {entry["file"] for entry in logs} == {"partner metro version 2", "policy trader version 2"}


async def test_suspending_and_reinstating_leave_their_trace(applied: Database) -> None:
    async with applied.transaction() as conn:
        await suspend(conn, "metro", reason="late", actor="olga", now_ms=NOW)
    async with applied.transaction() as conn:
        await reinstate(conn, "metro", reason="paid", actor="olga", now_ms=NOW + 1)
    async with applied.connection() as conn:
        rows = await conn.fetch("SELECT actor, detail FROM audit WHERE action = 'partner.state' ORDER BY seq")
    assert [(row["actor"], row["detail"]["after"], row["detail"]["reason"]) for row in rows] == [
        ("olga", "SUSPENDED", "late"),
        ("olga", "ACTIVE", "paid"),
    ]


async def test_suspending_twice_or_nobody_is_refused(applied: Database) -> None:
    async with applied.transaction() as conn:
        await suspend(conn, "metro", reason="late", actor="olga", now_ms=NOW)
    with pytest.raises(StateConflict, match="SUSPENDED"):
        async with applied.transaction() as conn:
            await suspend(conn, "metro", reason="late", actor="olga", now_ms=NOW)
    with pytest.raises(UnknownResource):
        async with applied.transaction() as conn:
            await suspend(conn, "nobody", reason="late", actor="olga", now_ms=NOW)


async def test_an_unknown_state_never_gets_into_the_database(applied: Database) -> None:
    async with applied.connection() as conn:
        with pytest.raises(asyncpg.CheckViolationError):
            await conn.execute("INSERT INTO partner_state VALUES ('metro', 'GONE', 1, 'x', 'x')")


async def test_five_hundred_partners_are_one_picture(bare_database: Database, agreed: Any, operations: Any) -> None:
    """What it costs is in decision 10."""
    contract = agreed.read("partners/metro/contract.toml")
    for number in range(PARTNERS - 1):
        agreed.add_partner(f"p{number}")
        agreed.write(f"partners/p{number}/contract.toml", contract.replace("metro-2025", f"p{number}-2025"))
    await apply(bare_database, agreed.root, operations, actor="tester", reason="test", now_ms=NOW)
    keeper = SnapshotKeeper(bare_database)
    await keeper.load()
    assert len(keeper.current.policies) == len(keeper.current.contracts) == PARTNERS
