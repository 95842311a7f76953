"""What keeping the picture costs and whether it stays right: a change reads what it names, whatever else there is."""

import asyncio
import random
import time
from dataclasses import dataclass, fields
from typing import Any

import pytest

from gateway.database import Database
from gateway.database.changes import Change, announce
from gateway.metrics import _registry
from gateway.partners import snapshot
from gateway.partners.apply import apply
from gateway.partners.lifecycle import reinstate, suspend
from gateway.partners.partner import PartnerState
from gateway.partners.snapshot import Snapshot, SnapshotKeeper
from gateway.partners.store import register_key

NOW = 1_760_000_000_000
NEIGHBOURS = 40
ROWS_A_CHANGE = 6  # the change, the version, the state, and keys of the app
EC = {"kty": "EC", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
      "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM", "use": "sig", "alg": "ES256"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cost:
    rows: float
    documents: float


def spent() -> Cost:
    counters = _registry.counters
    return Cost(
        sum(counters["parasol_config_rows_read_total"].values()),
        sum(counters["parasol_documents_compiled_total"].values()),
    )


async def cost_of(keeper: SnapshotKeeper, database: Database) -> Cost:
    """Of one wake-up by the feed."""
    before = spent()
    await tell(keeper, database)
    after = spent()
    return Cost(after.rows - before.rows, after.documents - before.documents)


async def tell(keeper: SnapshotKeeper, database: Database) -> None:
    async with database.connection() as conn:
        rows = await conn.fetch("SELECT seq, kind, key FROM change WHERE seq > $1 ORDER BY seq", 0)
    await keeper.refresh([Change(row["seq"], row["kind"], row["key"]) for row in rows])


@pytest.fixture
async def crowd(bare_database: Database, agreed: Any, operations: Any) -> Database:
    """metro and forty neighbours, each with a contract."""
    contract = agreed.read("partners/metro/contract.toml")
    for number in range(NEIGHBOURS):
        agreed.add_partner(f"p{number}")
        agreed.write(f"partners/p{number}/contract.toml", contract.replace("metro-2025", f"p{number}-2025"))
    await apply(bare_database, agreed.root, operations, actor="tester", reason="test", now_ms=NOW)
    return bare_database


@pytest.fixture
async def keeper(crowd: Database) -> SnapshotKeeper:
    opened = SnapshotKeeper(crowd)
    await opened.load()
    return opened


async def whole(database: Database) -> Snapshot:
    fresh = SnapshotKeeper(database)
    await fresh.load()
    return fresh.current


def assert_same(found: Snapshot, wanted: Snapshot) -> None:
    for each in fields(Snapshot):
        assert getattr(found, each.name) == getattr(wanted, each.name), each.name


async def test_a_suspension_reads_one_partner_and_parses_nothing(keeper: SnapshotKeeper, crowd: Database) -> None:
    async with crowd.transaction() as conn:
        await suspend(conn, "metro", reason="late", actor="olga", now_ms=NOW)
    cost = await cost_of(keeper, crowd)
    assert keeper.current.partners["metro"].state is PartnerState.SUSPENDED
    assert cost.rows <= ROWS_A_CHANGE
    assert cost.documents == 0


async def test_a_partners_new_file_is_the_only_document_that_is_read(
    keeper: SnapshotKeeper, crowd: Database, agreed: Any, operations: Any
) -> None:
    agreed.edit("partners/p7/partner.toml", 'name = "Line 2"', 'name = "Line Two"')
    await apply(crowd, agreed.root, operations, actor="tester", reason="test", now_ms=NOW)
    neighbour = keeper.current.partners["p8"]
    cost = await cost_of(keeper, crowd)
    assert keeper.current.partners["p7"].sites[1].name == "Line Two"
    assert keeper.current.partners["p8"] is neighbour
    assert (cost.documents, cost.rows <= ROWS_A_CHANGE) == (1, True)


async def test_a_policy_is_read_once_for_all_who_are_under_it(
    keeper: SnapshotKeeper, crowd: Database, agreed: Any, operations: Any
) -> None:
    agreed.edit("policies/trader.toml", "burst = 20", "burst = 30")
    await apply(crowd, agreed.root, operations, actor="tester", reason="test", now_ms=NOW)
    cost = await cost_of(keeper, crowd)
    assert {policy.rate.burst for policy in keeper.current.policies.values()} == {30}
    assert (cost.documents, cost.rows <= ROWS_A_CHANGE) == (1, True)


async def test_whatever_happens_in_whatever_pieces_the_picture_is_that_of_a_fresh_worker(
    keeper: SnapshotKeeper, crowd: Database, agreed: Any, operations: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "PIECE", 3)
    chance = random.Random(24)
    client = "p3-server"
    for turn in range(12):
        match chance.randrange(6):
            case 0:
                text = agreed.read("policies/trader.toml")
                agreed.write("policies/trader.toml", text.replace("per_second = 10", f"per_second = 1{turn}", 1))
            case 1:
                agreed.add_partner(f"new{turn}")
            case 2:
                (agreed.root / f"partners/p{turn}/partner.toml").unlink(missing_ok=True)
                (agreed.root / f"partners/p{turn}/contract.toml").unlink(missing_ok=True)
                (agreed.root / f"partners/p{turn}").rmdir()
            case 3:
                async with crowd.transaction() as conn:
                    act = {PartnerState.ACTIVE: suspend, PartnerState.SUSPENDED: reinstate}
                    await act[keeper.current.partners["metro"].state](
                        conn, "metro", reason="turn", actor="olga", now_ms=NOW
                    )
            case 4:
                async with crowd.transaction() as conn:
                    await register_key(conn, client, {**EC, "kid": f"k{turn}"}, now_ms=NOW)
                    await announce(conn, "app_key", client, now_ms=NOW)
            case _:
                async with crowd.transaction() as conn:
                    await conn.execute("INSERT INTO revoked_grant VALUES ($1, $2, $3)", f"grt_{turn}", NOW, NOW * 2)
                    await announce(conn, "grant", f"grt_{turn}", now_ms=NOW)
        await apply(crowd, agreed.root, operations, actor="tester", reason="test", now_ms=NOW, remove=True)
        await tell(keeper, crowd)
        assert_same(keeper.current, await whole(crowd))


async def test_an_app_that_moves_to_another_partner_is_that_partners(
    keeper: SnapshotKeeper, crowd: Database, agreed: Any, operations: Any
) -> None:
    for old, new in (("p1-server", "p1-old"), ("p2-server", "p1-server")):
        name = f"partners/{old.partition('-')[0]}/partner.toml"
        agreed.edit(name, f'client_id = "{old}"', f'client_id = "{new}"')
    await apply(crowd, agreed.root, operations, actor="tester", reason="test", now_ms=NOW)
    await tell(keeper, crowd)
    assert keeper.current.apps["p1-server"].partner_id == "p2"
    assert "p2-server" not in keeper.current.apps
    assert_same(keeper.current, await whole(crowd))


async def test_a_suspension_does_not_wait_for_a_great_apply_that_was_announced_before_it(
    keeper: SnapshotKeeper, crowd: Database, agreed: Any, operations: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "PIECE", 4)
    for number in range(20):
        agreed.add_partner(f"late{number}")
    await apply(crowd, agreed.root, operations, actor="tester", reason="test", now_ms=NOW)
    async with crowd.transaction() as conn:
        await suspend(conn, "metro", reason="late", actor="olga", now_ms=NOW)
        await conn.execute("INSERT INTO revoked_grant VALUES ('grt_1', $1, $2)", NOW, NOW * 2)
        await announce(conn, "grant", "grt_1", now_ms=NOW)
    before = keeper.current
    telling = asyncio.create_task(tell(keeper, crowd))
    while keeper.current is before and not telling.done():  # noqa: ASYNC110 - every picture is looked at, none waited for
        await asyncio.sleep(0)
    first = keeper.current
    await telling
    assert first.partners["metro"].state is PartnerState.SUSPENDED
    assert first.revoked_grants == {"grt_1"}
    assert "late19" not in first.partners
    assert "late19" in keeper.current.partners


async def test_a_picture_from_before_what_the_feed_still_holds_is_loaded_whole(
    keeper: SnapshotKeeper, crowd: Database
) -> None:
    async with crowd.transaction() as conn:
        await conn.execute("INSERT INTO partner_state VALUES ('metro', 'SUSPENDED', $1, 'tester', 'test')", NOW)
        await announce(conn, "partner", "metro", now_ms=NOW)
        await announce(conn, "partner", "p1", now_ms=NOW)
        await conn.execute("DELETE FROM change WHERE key <> 'p1' OR kind <> 'partner' OR seq < $1",
                           keeper.current.generation + 2)  # fmt: skip
    await tell(keeper, crowd)
    assert keeper.current.partners["metro"].state is PartnerState.SUSPENDED


async def test_changes_told_late_twice_or_in_another_order_change_nothing(
    keeper: SnapshotKeeper, crowd: Database
) -> None:
    async with crowd.transaction() as conn:
        await suspend(conn, "metro", reason="late", actor="olga", now_ms=NOW)
    async with crowd.transaction() as conn:
        await reinstate(conn, "metro", reason="paid", actor="olga", now_ms=NOW)
    async with crowd.connection() as conn:
        last = await conn.fetchval("SELECT max(seq) FROM change")
    await keeper.refresh([Change(last, "partner", "metro")])
    newest = keeper.current
    await keeper.refresh([Change(last - 1, "partner", "metro")])
    assert keeper.current is newest
    assert (newest.generation, newest.partners["metro"].state) == (last, PartnerState.ACTIVE)


async def test_loading_gives_the_loop_its_turns(crowd: Database) -> None:
    """Counted: whoever waits for the loop gets a turn before many documents have been read."""
    turns, done, keeper = 0, asyncio.Event(), SnapshotKeeper(crowd)

    async def neighbour() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            await asyncio.sleep(0)

    watching = asyncio.create_task(neighbour())
    started = time.thread_time()
    await keeper.load()
    worked_s = time.thread_time() - started
    done.set()
    await watching
    assert turns > worked_s / 0.02
