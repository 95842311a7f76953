"""Contract versions as the partner meets them: a later one changes nothing yet, one that cannot be read says so."""

import shutil
from datetime import date, datetime, time, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import now_ms, to_ms
from gateway.database.changes import announce
from gateway.document import DocumentInvalid
from gateway.events.outbox import BANK_ZONE, Event, append
from gateway.jsonio import canonical, decode
from gateway.partners.apply import apply
from gateway.partners.contract import FOREVER_MS
from gateway.partners.snapshot import DOOR_LIMIT_S
from gateway.routes import POLICY_OPERATIONS
from tests.api.settling import approved, calculate, close, issue, jobs, later, redeem, today
from tests.api.test_console import enter, key_of
from tests.api.test_redemptions import ORDER, held, post
from tests.conftest import ROOT, World

CAMPAIGNS = "/partner/v1/campaigns"
HOUR_MS = 3_600_000


async def record_version(world: World, folder: Path, *, valid_from: date) -> None:
    """Version 2 of parkco's contract through the folder: other currency, no offers, another least payment."""
    for name in ("partners", "policies"):
        shutil.copytree(ROOT / name, folder / name)
    file = folder / "partners/parkco/contract.toml"
    file.rename(folder / "partners/parkco/contract.v1.toml")
    file.write_text(
        f"""[contract]
id = "parkco-2025"
version = 2
currency = "EUR"
valid_from = {valid_from.isoformat()}
[settle]
min_pay_minor = 99_999
"""
    )
    await apply(world.house.database, folder, POLICY_OPERATIONS, actor="test", reason="test", now_ms=now_ms())
    await world.house.foundation.feed.catch_up()


async def record_unreadable(world: World, *, starts_ms: int) -> None:
    """What a newer program would record, event and all: a term that this one does not know."""
    recorded_ms = now_ms()
    async with world.house.database.transaction() as conn:
        body = await conn.fetchval("SELECT body FROM document WHERE id = 'parkco-2025'")
        body["contract"] |= {"version": 2, "halo": "golden"}
        digest = sha256(canonical(body)).digest()
        await conn.execute(
            """INSERT INTO document (kind, id, partner_id, applied_by, currency, version, body, sha256, applied_at_ms,
                   starts_ms, ends_ms)
               VALUES ('contract', 'parkco-2025', 'parkco', 'newer', 'CNY', 2, $1, $2, $3, $4, $5)""",
            body, digest, recorded_ms, starts_ms, FOREVER_MS,
        )  # fmt: skip
        told = {"sha256": digest.hex(), "start_ms": starts_ms, "end_ms": FOREVER_MS}
        effective = Event(
            "contract.effective", recorded_ms, told, partner="parkco", contract="parkco-2025", contract_version=2,
            currency="CNY",
        )  # fmt: skip
        await append(conn, [effective], now_ms=recorded_ms)
        await announce(conn, "contract", "parkco-2025", now_ms=recorded_ms)
    await world.house.foundation.feed.catch_up()


async def shown(world: World, partner_id: str = "parkco") -> Any:
    return (await world.client(partner_id).call("GET", CAMPAIGNS)).json()


async def prices(world: World) -> list[Any]:
    quotes = (await post(world, "/redemption-quotes", ORDER)).json()["Data"]["Quote"]
    moving = ("Quote", "OccurredAt", "ExpirationDateTime")
    return [{name: value for name, value in quote.items() if name not in moving} for quote in quotes]


async def test_every_partners_terms_are_in_the_tree_from_the_first_day_on(world: World) -> None:
    rows = await world.sql("SELECT leaf FROM event WHERE type = 'contract.effective' ORDER BY seq")
    leaves = [decode(row["leaf"], dict[str, Any]) for row in rows]
    assert [(leaf["partner"], leaf["contract_version"]) for leaf in leaves] == [("parkco", 1), ("shopco", 1)]


async def test_a_version_dated_next_year_changes_nothing_today(world: World, tmp_path: Path) -> None:
    before = await shown(world), await prices(world)
    await record_version(world, tmp_path, valid_from=date.today() + timedelta(days=400))  # noqa: DTZ011
    assert (await shown(world), await prices(world)) == before
    assert [c.version for c in world.house.foundation.snapshot().contracts["parkco"]] == [1, 2]
    redemption_id = await held(world)
    done = await post(world, f"/redemptions/{redemption_id}/confirmation", {})
    assert done.status_code == 201, done.text
    (event,) = await world.sql("SELECT contract_version, currency FROM event WHERE type = 'redemption.confirmed'")
    assert tuple(event) == (1, "CNY")


async def test_a_retroactive_version_is_refused_and_the_partner_keeps_its_terms(world: World, tmp_path: Path) -> None:
    before = await shown(world)
    with pytest.raises(DocumentInvalid, match="a later one starts on a later business day"):
        await record_version(world, tmp_path, valid_from=date(2025, 6, 1))
    await world.house.foundation.feed.catch_up()
    assert await shown(world) == before


async def test_terms_that_cannot_be_read_stop_that_partners_pricing_and_nobody_elses(world: World) -> None:
    redemption_id = await held(world)
    others = await shown(world, "shopco")
    await record_unreadable(world, starts_ms=now_ms() - 1)
    for path, data in (("/redemption-quotes", ORDER), ("/redemptions", {**ORDER, "Plate": "粤B00009"})):
        answer = await post(world, path, data)
        assert (answer.status_code, answer.json()["code"]) == (503, "terms_unreadable")
        assert "try again later" in answer.json()["detail"]
    listed = await world.client("parkco").call("GET", CAMPAIGNS)
    assert (listed.status_code, listed.json()["code"]) == (503, "terms_unreadable")
    assert await shown(world, "shopco") == others
    done = await post(world, f"/redemptions/{redemption_id}/confirmation", {})  # held under terms that can be read
    assert done.status_code == 201, done.text


async def test_what_happened_before_the_unreadable_version_is_priced_as_before(world: World) -> None:
    before = await prices(world)
    await record_unreadable(world, starts_ms=now_ms() + HOUR_MS)
    assert await prices(world) == before


async def test_settlement_stops_at_the_start_of_an_unreadable_version_and_for_that_partner_only(world: World) -> None:
    """It stopped from the recording on: a version of next month held back what was due today."""
    day = today()
    await redeem(world, "idt_1_a")
    await record_unreadable(
        world, starts_ms=to_ms(datetime.combine(date.fromisoformat(later(day, 2)), time(), BANK_ZONE))
    )
    await close(world, day)
    before = await calculate(world, day)
    assert before["Status"] == "CALCULATED", before.get("Failure")
    await approved(world, before)
    assert (await issue(world, before)).status_code == 200
    for _ in range(2):
        assert (await world.http.post("/sandbox/v1/business-date")).status_code == 200
    await close(world, later(day, 2))
    since = await calculate(world, later(day, 2))
    assert since["Status"] == "FAILED"
    assert "version 2 of contract parkco-2025 starts at" in since["Failure"]
    assert "has no document that this program can read" in since["Failure"]
    (job,) = await jobs(world, Kind="statement_calculation", State="FAILED")
    assert job["StatementId"] == since["StatementId"]
    other = await calculate(world, later(day, 2), "shopco")
    assert other["Status"] == "CALCULATED", other.get("Failure")


async def test_operators_see_whose_terms_cannot_be_read(world: World) -> None:
    await record_unreadable(world, starts_ms=now_ms() - 1)
    page = await world.http.get("/console", headers={"Cookie": await enter(world, key_of(world, "ops-maker"))})
    assert page.status_code == 200
    assert "Contract version 2 cannot be read" in page.text
    assert "new-card-10" in page.text  # the other partner's campaigns
    metrics = await world.http.get("/metrics")
    assert 'parasol_terms_unreadable{partner="parkco"} 1' in metrics.text


async def test_a_worker_cut_off_for_5_s_refuses_and_comes_back(world: World) -> None:
    feed = world.house.foundation.feed
    await world.client("parkco").token()
    await feed.stop()
    assert (await world.client("parkco").call("GET", CAMPAIGNS)).status_code == 200
    world.clock.s += DOOR_LIMIT_S + 1
    answer = await world.client("parkco").call("GET", CAMPAIGNS)
    assert (answer.status_code, answer.json()["code"]) == (503, "configuration_stale")
    assert answer.headers["retry-after"] == "1"
    await feed.catch_up()
    assert (await world.client("parkco").call("GET", CAMPAIGNS)).status_code == 200
