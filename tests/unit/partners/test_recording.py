"""Recording contract versions: the sealed event, and starts that no worker and no event can be surprised by."""

from datetime import date
from hashlib import sha256
from typing import Any

import asyncpg
import pytest
from rich.console import Console

from gateway.clock import CLOCK_SKEW_MS
from gateway.database import Database
from gateway.document import DocumentInvalid
from gateway.events.outbox import close_to_writers
from gateway.jsonio import canonical, decode
from gateway.partners import store
from gateway.partners.apply import apply, plan
from gateway.partners.contract import document, term_ms
from gateway.partners.contract_rules import from_document
from gateway.partners.plan_table import render
from gateway.partners.recording import APPLY_LIMIT_S, PICTURE_LIMIT_S, SKEW_MS, START_MARGIN_MS, earliest_start
from tests.unit.partners.test_apply import CONTRACT, NOW, later_version

TODAY = date(2025, 10, 9)  # NOW in Shanghai, 16:53
TONIGHT = NOW + 25_585_000  # 2025-10-09 23:59:45 there


async def recorded(database: Database, agreed: Any, operations: Any, *, now_ms: int = NOW) -> None:
    await apply(database, agreed.root, operations, actor="tester", reason="test", now_ms=now_ms)


async def effective(database: Database) -> list[Any]:
    async with database.connection() as conn:
        return list(await conn.fetch("SELECT * FROM event WHERE type = 'contract.effective' ORDER BY seq"))


async def refusal(database: Database, agreed: Any, operations: Any, *, now_ms: int = NOW) -> DocumentInvalid:
    """The no of `apply`, which is the no of `diff` too; nothing is written."""
    with pytest.raises(DocumentInvalid) as planned:
        await plan(database, agreed.root, operations, now_ms=now_ms)
    before = len(await effective(database))
    with pytest.raises(DocumentInvalid) as refused:
        await apply(database, agreed.root, operations, actor="tester", reason="test", now_ms=now_ms)
    assert str(planned.value) == str(refused.value)
    assert len(await effective(database)) == before
    return refused.value


# --- the event ---------------------------------------------------------------------------------------------------
async def test_recording_a_version_is_an_event_with_the_documents_hash(
    bare_database: Database, agreed: Any, operations: Any
) -> None:
    await recorded(bare_database, agreed, operations)
    (row,) = await effective(bare_database)
    leaf = decode(row["leaf"], dict[str, Any])
    contract = agreed.load().contracts[0].contract
    start, end = term_ms(contract)
    assert leaf["data"] == {
        "sha256": sha256(canonical(document(contract))).hexdigest(), "start_ms": start, "end_ms": end,
    }  # fmt: skip
    told = {name: leaf[name] for name in ("partner", "contract", "contract_version", "currency", "amount_minor", "v")}
    assert told == {
        "partner": "metro", "contract": "metro-2025", "contract_version": 1, "currency": "CNY", "amount_minor": 0,
        "v": 2,
    }  # fmt: skip
    assert (leaf["recorded_at_ms"], leaf["business_day"]) == (NOW, TODAY.isoformat())
    async with bare_database.connection() as conn:
        (version,) = await store.contract_versions(conn, "metro")
    assert version.sha256.hex() == leaf["data"]["sha256"]
    assert (version.starts_ms, version.ends_ms, version.currency) == (start, end, "CNY")


async def test_applying_again_records_nothing_twice(bare_database: Database, agreed: Any, operations: Any) -> None:
    for _ in range(2):
        await recorded(bare_database, agreed, operations)
    assert len(await effective(bare_database)) == 1


async def test_a_folder_that_is_refused_records_no_version_of_it(
    bare_database: Database, agreed: Any, operations: Any
) -> None:
    """All or nothing: a good contract beside a bad one has no event either."""
    agreed.add_partner("tram")
    agreed.write("partners/tram/contract.toml", agreed.read(CONTRACT).replace("bps = 4_000", "bps = 4_001"))
    await refusal(bare_database, agreed, operations)


async def test_a_version_recorded_on_a_shut_day_is_in_the_tree_of_the_next(
    bare_database: Database, agreed: Any, operations: Any
) -> None:
    async with bare_database.transaction() as conn:
        await close_to_writers(conn, TODAY, today=TODAY)
        await conn.execute("INSERT INTO business_day VALUES ($1, 'SEALING', $2)", TODAY, NOW)
    await recorded(bare_database, agreed, operations)
    (row,) = await effective(bare_database)
    assert row["business_day"] == date(2025, 10, 10)
    later_version(agreed, "2025-10-10")
    refused = await refusal(bare_database, agreed, operations)
    assert "write 2025-10-11 or later" in refused.reason


# --- when a later version may start ----------------------------------------------------------------------------------
async def test_the_versions_of_a_first_apply_may_start_before(
    bare_database: Database, agreed: Any, operations: Any
) -> None:
    later_version(agreed, "2025-07-01")
    await recorded(bare_database, agreed, operations)
    assert [row["contract_version"] for row in await effective(bare_database)] == [1, 2]


@pytest.mark.parametrize("valid_from", ["2024-12-31", "2025-01-01", "2025-10-09"])
async def test_a_retroactive_version_is_refused(
    bare_database: Database, agreed: Any, operations: Any, valid_from: str
) -> None:
    """Today is refused as well: an event of this morning has been priced by the terms of before."""
    await recorded(bare_database, agreed, operations)
    later_version(agreed, valid_from)
    refused = await refusal(bare_database, agreed, operations)
    assert (refused.file, refused.key) == (CONTRACT, "$.contract.valid_from")
    assert refused.reason == (
        f"is {valid_from}; version 1 has been applied already, and a later one starts on a later business day than "
        "this one, 2025-10-09, and at least 5 minutes from now: write 2025-10-10 or later"
    )


async def test_tomorrow_is_early_enough_until_shortly_before_midnight(
    bare_database: Database, agreed: Any, operations: Any
) -> None:
    await recorded(bare_database, agreed, operations)
    later_version(agreed, "2025-10-10")
    refused = await refusal(bare_database, agreed, operations, now_ms=TONIGHT)
    assert "write 2025-10-11 or later" in refused.reason
    midnight = term_ms(agreed.load().contracts[1].contract)[0]
    await refusal(bare_database, agreed, operations, now_ms=midnight - START_MARGIN_MS + 1)
    await recorded(bare_database, agreed, operations, now_ms=midnight - START_MARGIN_MS)
    assert [row["contract_version"] for row in await effective(bare_database)] == [1, 2]


async def test_a_midnight_in_another_zone_keeps_the_margin_too(
    bare_database: Database, agreed: Any, operations: Any
) -> None:
    """The contract's tomorrow begins in Auckland while the bank's day has five hours to go."""
    agreed.edit(CONTRACT, "valid_from = 2025-01-01", 'valid_from = 2025-01-01\ntimezone = "Pacific/Auckland"')
    await recorded(bare_database, agreed, operations)
    later_version(agreed, "2025-10-10")
    refused = await refusal(bare_database, agreed, operations, now_ms=TONIGHT)
    assert "write 2025-10-11 or later" in refused.reason


async def test_versions_may_be_recorded_in_any_order_of_start(
    bare_database: Database, agreed: Any, operations: Any
) -> None:
    await recorded(bare_database, agreed, operations)
    later_version(agreed, "2027-01-01")
    await recorded(bare_database, agreed, operations)
    later_version(agreed, "2026-01-01", version=3)
    await recorded(bare_database, agreed, operations)
    assert [row["contract_version"] for row in await effective(bare_database)] == [1, 2, 3]


async def test_the_plan_says_when_a_version_is_in_force_and_what_it_replaces(
    bare_database: Database, agreed: Any, operations: Any
) -> None:
    await recorded(bare_database, agreed, operations)
    later_version(agreed, "2027-01-01")
    await recorded(bare_database, agreed, operations)
    later_version(agreed, "2026-01-01", version=3)
    console = Console(width=160, record=True)
    with console.capture() as capture:
        console.print(render(await plan(bare_database, agreed.root, operations, now_ms=NOW)))
    assert "in force from 2026-01-01; replaces version 2 wholly" in capture.get()


def test_the_earliest_start_is_the_first_midnight_after_the_margin() -> None:
    head = {"id": "m", "version": 2, "currency": "CNY", "valid_from": "2026-01-01"}
    contract = from_document({"contract": head})
    assert earliest_start(contract, day=TODAY, now_ms=NOW) == date(2025, 10, 10)
    assert earliest_start(contract, day=TODAY, now_ms=TONIGHT) == date(2025, 10, 11)
    assert earliest_start(contract, day=date(2025, 12, 31), now_ms=NOW) == date(2026, 1, 1)


# --- one contract, rising numbers ------------------------------------------------------------------------------------
async def test_a_partner_does_not_take_a_second_contract(bare_database: Database, agreed: Any, operations: Any) -> None:
    """Not even with an empty folder in between: the database remembers."""
    await recorded(bare_database, agreed, operations)
    agreed.edit(CONTRACT, "metro-2025", "metro-2026")
    agreed.edit(CONTRACT, "valid_from = 2025-01-01", "valid_from = 2027-01-01")
    refused = await refusal(bare_database, agreed, operations)
    assert refused.key == "$.contract.id"
    assert refused.reason == ("is not metro-2025; a partner has one contract for good, and new terms are its version 2")


async def test_an_applied_version_cannot_be_taken_along_by_another_partner(
    bare_database: Database, agreed: Any, operations: Any
) -> None:
    agreed.add_partner("tram")
    await recorded(bare_database, agreed, operations)
    agreed.write("partners/tram/contract.toml", agreed.read(CONTRACT))
    (agreed.root / CONTRACT).unlink()
    assert "is the id of a contract of metro" in (await refusal(bare_database, agreed, operations)).reason


BAD_ROWS = {
    "a second contract of the partner": ("'metro-2026'", "2", "'metro'", asyncpg.RestrictViolationError),
    "another partner's version": ("id", "2", "'tram'", asyncpg.RestrictViolationError),
    "a number that does not rise": ("id", "0 + version", "'metro'", asyncpg.RestrictViolationError),
}


@pytest.mark.parametrize("case", BAD_ROWS)
async def test_the_database_keeps_one_contract_and_rising_versions(
    bare_database: Database, agreed: Any, operations: Any, case: str
) -> None:
    await recorded(bare_database, agreed, operations)
    name, version, partner, error = BAD_ROWS[case]
    async with bare_database.connection() as conn:
        with pytest.raises(error):
            await conn.execute(
                f"""INSERT INTO document (kind, id, version, partner_id, body, sha256, applied_at_ms, applied_by,
                        starts_ms, ends_ms, currency)
                    SELECT kind, {name}, {version}, {partner}, body, sha256, applied_at_ms, applied_by, starts_ms,
                        ends_ms, currency FROM document WHERE kind = 'contract'"""
            )


async def test_the_database_takes_no_contract_without_its_term(
    bare_database: Database, agreed: Any, operations: Any
) -> None:
    await recorded(bare_database, agreed, operations)
    async with bare_database.connection() as conn:
        with pytest.raises(asyncpg.CheckViolationError):
            await conn.execute(
                """INSERT INTO document (kind, id, version, partner_id, body, sha256, applied_at_ms, applied_by)
                   SELECT kind, id, 2, partner_id, body, sha256, applied_at_ms, applied_by
                   FROM document WHERE kind = 'contract'"""
            )


def test_the_margin_covers_how_far_a_fact_may_be_ahead_of_our_clock() -> None:
    """Who lets facts be further ahead makes the margin longer."""
    assert CLOCK_SKEW_MS <= SKEW_MS
    assert START_MARGIN_MS > SKEW_MS + 1000 * (PICTURE_LIMIT_S + APPLY_LIMIT_S)
