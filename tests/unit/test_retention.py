"""How long rows are kept: what expires is gone, what is needed is there, no jump of a clock frees anything early."""

import re
from collections.abc import Sequence

import pytest

from gateway.admission.message_signature import FUTURE_S, LIFE_S
from gateway.database import Database
from gateway.database.expiry import CHUNK_ROWS, TICK_MS, Expiry, drop_expired, tick
from gateway.database.idempotency import KEPT_MS, KEYS, IdempotencyKeyReused, KeyedRequest, claim, lookup
from gateway.discounts.conditions import OfferNotApplicable
from gateway.discounts.limits import COUNTERS_KEPT_MS, OFFER_LATE_MS
from gateway.discounts.store import DATED_COUNTERS
from gateway.oauth import store as oauth
from gateway.payments.store import USAGE
from gateway.referrals.store.links import SCANS
from gateway.retention.dropping import Retention
from gateway.rooms import EXPIRIES
from tests.conftest import ROOT, past_all_rules
from tests.desks import NOW_MS, ONE_FEN, confirm, contract, counters, desk_with, hold, release, reverse

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
KEYED = KeyedRequest("parkco", "domesticVrpPost", "k", b"one request")
DECISION = ROOT / "docs/decisions/0028-one-meaning-of-a-key-and-how-long-rows-are-kept.md"


async def set_clock(database: Database, at_ms: int) -> None:
    """As if the gateway had run until then."""
    async with database.connection() as conn:
        await conn.execute("UPDATE retention_clock SET at_ms = $1, seen_ms = $1", at_ms)


async def clock(database: Database) -> int:
    async with database.connection() as conn:
        return int(await conn.fetchval("SELECT at_ms FROM retention_clock"))


async def keep(database: Database, keyed: KeyedRequest = KEYED, *, resource_id: str = "pay_1") -> str | None:
    async with database.transaction() as conn:
        return await claim(conn, keyed, resource_id=resource_id)


async def known(database: Database) -> str | None:
    async with database.connection() as conn:
        return await lookup(conn, KEYED)


async def run(database: Database, expiries: Sequence[Expiry], now_ms: int) -> int:
    return await Retention(database, expiries).drop_expired_due(now_ms)


# --- the clock -------------------------------------------------------------------------------------------------------
async def test_the_retention_clock_follows_the_machines_and_never_goes_back(bare_database: Database) -> None:
    await set_clock(bare_database, NOW_MS)
    said = []
    for now_ms in (NOW_MS + TICK_MS, NOW_MS + 2 * TICK_MS, NOW_MS - DAY_MS, NOW_MS - DAY_MS + TICK_MS):
        async with bare_database.transaction() as conn:
            said.append(await tick(conn, now_ms=now_ms))
    assert said == [NOW_MS + TICK_MS, *[NOW_MS + 2 * TICK_MS] * 3]


async def test_the_retention_clock_runs_at_double_speed_at_the_most(bare_database: Database) -> None:
    """However often it is looked at, and however far the machine's clock has jumped, or the gateway was away."""
    await set_clock(bare_database, NOW_MS)
    for second in range(0, 600, 10):
        async with bare_database.transaction() as conn:
            await tick(conn, now_ms=NOW_MS + 365 * DAY_MS + second * 1000)
    assert await clock(bare_database) == NOW_MS + 2 * 600_000


# --- keys that expire ------------------------------------------------------------------------------------------------
async def test_a_key_is_there_at_23_59_h_and_gone_after_two_days_by_the_slowest_clock(bare_database: Database) -> None:
    await set_clock(bare_database, NOW_MS)
    await keep(bare_database)
    for age_ms in (24 * HOUR_MS - 60_000, KEPT_MS - 1):
        await set_clock(bare_database, NOW_MS + age_ms)
        await run(bare_database, [KEYS], NOW_MS + age_ms)
        assert await known(bare_database) == "pay_1"
    await set_clock(bare_database, NOW_MS + KEPT_MS)
    await run(bare_database, [KEYS], NOW_MS + KEPT_MS)
    assert await known(bare_database) is None


async def test_a_key_lives_its_24_hours_of_running_whatever_the_clock_says(bare_database: Database) -> None:
    """A minute between two looks: 1,439 of them are 23:59 h, at a clock that is a year ahead."""
    await set_clock(bare_database, NOW_MS)
    await keep(bare_database)
    retention = Retention(bare_database, [KEYS])
    for minute in range(1, 24 * 60):
        await retention.drop_expired_due(NOW_MS + 365 * DAY_MS + minute * TICK_MS)
    assert await known(bare_database) == "pay_1"


@pytest.mark.parametrize("jump_ms", [3 * DAY_MS, -3 * DAY_MS])
async def test_a_clock_that_jumps_and_comes_back_frees_no_key(bare_database: Database, jump_ms: int) -> None:
    """Neither one of before the jump nor one that was made meanwhile."""
    await set_clock(bare_database, NOW_MS)
    await keep(bare_database)
    await run(bare_database, [KEYS], NOW_MS + jump_ms)
    meanwhile = KeyedRequest("parkco", "domesticVrpPost", "meanwhile", b"")
    await keep(bare_database, meanwhile)
    for minute in range(1, 5):
        await run(bare_database, [KEYS], NOW_MS + jump_ms + minute * TICK_MS)
    await run(bare_database, [KEYS], NOW_MS + 5 * TICK_MS)
    assert await known(bare_database) == "pay_1"
    assert await keep(bare_database, meanwhile, resource_id="pay_2") == "pay_1"


async def test_a_key_that_has_expired_stands_for_the_request_that_comes_next(bare_database: Database) -> None:
    await set_clock(bare_database, NOW_MS)
    await keep(bare_database)
    other = KeyedRequest(KEYED.partner_id, KEYED.operation, KEYED.key, b"another request")
    with pytest.raises(IdempotencyKeyReused):
        await keep(bare_database, other)
    await set_clock(bare_database, NOW_MS + KEPT_MS)
    await run(bare_database, [KEYS], NOW_MS + KEPT_MS)
    assert await keep(bare_database, other, resource_id="pay_2") is None
    with pytest.raises(IdempotencyKeyReused):
        await keep(bare_database)


async def test_a_key_of_another_partner_or_operation_is_another_key(bare_database: Database) -> None:
    await keep(bare_database)
    assert await keep(bare_database, KeyedRequest("shopco", KEYED.operation, KEYED.key, b"x")) is None
    assert await keep(bare_database, KeyedRequest(KEYED.partner_id, "CreateReferralLink", KEYED.key, b"x")) is None
    assert await keep(bare_database, resource_id="pay_2") == "pay_1"


def test_the_signature_of_a_payment_dies_before_its_key() -> None:
    """A signed order that is sent again is the same order, or is refused: never a second one."""
    assert (LIFE_S + FUTURE_S) * 1000 < KEPT_MS


# --- steps -----------------------------------------------------------------------------------------------------------
async def test_rows_go_by_chunks_and_the_chore_comes_again_where_more_are_left(bare_database: Database) -> None:
    proofs = next(expiry for expiry in oauth.EXPIRIES if expiry.table == "spent_proof")
    async with bare_database.connection() as conn:
        await conn.execute(
            """INSERT INTO spent_proof SELECT sha256(n::text::bytea), CASE WHEN n <= 4500 THEN $1::bigint ELSE $2 END
               FROM generate_series(1, 4600) AS n""",
            NOW_MS, NOW_MS + DAY_MS,
        )  # fmt: skip
    at_ms, gone = NOW_MS + oauth.CLOCK_BACK_MS + 1, []
    for _ in range(4):
        async with bare_database.transaction() as conn:
            gone.append(await drop_expired(conn, proofs, at_ms=at_ms))
    assert gone == [CHUNK_ROWS, CHUNK_ROWS, 500, 0]
    assert await run(bare_database, [proofs], at_ms) == 0


async def test_a_proof_is_remembered_longer_than_any_check_takes_it(bare_database: Database) -> None:
    """Also where the clock goes back by two minutes."""
    async with bare_database.connection() as conn:
        await conn.execute("INSERT INTO spent_proof VALUES ($1, $2)", b"digest", NOW_MS)
    for late_ms, left in ((oauth.CLOCK_BACK_MS, 1), (oauth.CLOCK_BACK_MS + 1, 0)):
        await run(bare_database, oauth.EXPIRIES, NOW_MS + late_ms)
        async with bare_database.connection() as conn:
            assert await conn.fetchval("SELECT count(*) FROM spent_proof") == left


# --- counters and usage of days long over -----------------------------------------------------------------------------
async def test_counters_of_a_day_go_after_400_days_and_what_is_left_of_it_can_still_be_done(database: Database) -> None:
    desk = desk_with(database, contract({**ONE_FEN, "limits": {"per_plate_day": 5, "per_customer": 9}}))
    done = await confirm(desk, await hold(desk, 1200, plate_digest="p"))
    waiting = await hold(desk, 1200, plate_digest="p")
    late_ms = NOW_MS + COUNTERS_KEPT_MS
    await set_clock(database, late_ms)
    await run(database, [DATED_COUNTERS], late_ms)
    assert {name.partition("|")[0] for name in await counters(database)} > {"day", "plate"}, "kept to the last day"
    await set_clock(database, late_ms + 2 * DAY_MS)
    await run(database, [DATED_COUNTERS], late_ms + 2 * DAY_MS)
    before = await counters(database)
    assert {name.partition("|")[0] for name in before} == {"budget", "customer", "share"}
    assert (await reverse(desk, done, 1199, now_ms=late_ms)).left_minor == 0
    await release(desk, waiting)
    after = await counters(database)
    assert after.keys() == before.keys()
    assert after["budget|parkco-2026|first-park|CNY"] == (1199, 1199, 1199)


async def test_no_offer_is_given_for_a_day_that_is_not_counted_any_more(database: Database) -> None:
    assert OFFER_LATE_MS < COUNTERS_KEPT_MS - 30 * DAY_MS
    desk = desk_with(database, contract(ONE_FEN))
    with pytest.raises(OfferNotApplicable):
        await hold(desk, 1200, occurred_at_ms=NOW_MS, now_ms=NOW_MS + OFFER_LATE_MS + 1)
    await hold(desk, 1200, occurred_at_ms=NOW_MS, now_ms=NOW_MS + OFFER_LATE_MS)


async def test_the_usage_of_a_period_outlives_the_longest_period(database: Database) -> None:
    async with past_all_rules(database.url) as conn:
        await conn.execute(
            """INSERT INTO payment_usage
               VALUES ('cns_1', 0, '2025-01-01', 100, 50), ('cns_1', 0, '2026-01-01', 100, 50)"""
        )
    at_ms = 1_767_225_600_000 + 300 * DAY_MS  # 2026-10-28
    await set_clock(database, at_ms)
    await run(database, [USAGE], at_ms)
    async with database.connection() as conn:
        assert [str(row[0]) for row in await conn.fetch("SELECT starts_on FROM payment_usage")] == ["2026-01-01"]


async def test_a_scan_that_led_nowhere_goes_and_one_that_brought_somebody_stays(database: Database) -> None:
    async with past_all_rules(database.url) as conn:
        await conn.execute(
            """INSERT INTO referral_scan VALUES (sha256('1'), 'lnk', 'parkco', 1, $1, NULL),
                   (sha256('2'), 'lnk', 'parkco', 1, $1, 'bev_1')""",
            NOW_MS,
        )  # fmt: skip
    await set_clock(database, NOW_MS + SCANS.kept_ms + 1)
    await run(database, [SCANS], NOW_MS)
    async with database.connection() as conn:
        assert [row[0] for row in await conn.fetch("SELECT presented_by FROM referral_scan")] == ["bev_1"]


# --- the table of tables ----------------------------------------------------------------------------------------------
def told() -> dict[str, str]:
    """How long each table's rows are kept, as the decision says."""
    rows = re.findall(r"^\| ((?:`[a-z_.]+`(?:, )?)+) \| ([^|]+) \|", DECISION.read_text(), re.MULTILINE)
    names = [(name, kept.strip()) for names, kept in rows for name in re.findall(r"`([a-z_.]+)`", names)]
    assert len(names) == len(dict(names)), "a table has one row"
    return dict(names)


async def test_every_table_says_how_long_its_rows_are_kept(bare_database: Database) -> None:
    async with bare_database.connection() as conn:
        found = await conn.fetch(
            """SELECT CASE WHEN relnamespace = 'public'::regnamespace THEN '' ELSE relnamespace::regnamespace || '.' END
                   || relname AS name
               FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition
                 AND relnamespace IN ('public'::regnamespace, 'sandbox_bank'::regnamespace)
                 AND NOT (starts_with(relname, '_yoyo') OR relname = 'yoyo_lock')"""
        )
    assert sorted(told()) == sorted(row["name"] for row in found)


def test_what_the_table_says_expires_is_what_the_chore_drops() -> None:
    expiring = {name for name, kept in told().items() if kept.startswith("expires")}
    dropped = [expiry.table for expiry in EXPIRIES]
    assert sorted(dropped) == sorted(expiring)


async def test_rows_that_are_kept_for_good_cannot_be_dropped(bare_database: Database) -> None:
    """What nothing may change is among what the table keeps for good."""
    async with bare_database.connection() as conn:
        closed = await conn.fetch(
            "SELECT DISTINCT tgrelid::regclass::text AS name FROM pg_trigger "
            "WHERE tgfoid = 'never_changed()'::regprocedure AND tgtype & 8 > 0"
        )
    kept = told()
    assert [row["name"] for row in closed if not kept[row["name"]].startswith("for good")] == []
