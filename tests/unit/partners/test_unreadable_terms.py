"""A contract version that this program cannot read: that partner's pricing stops at its start, loudly; nothing else."""

from hashlib import sha256
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway import metrics
from gateway.database import Database
from gateway.database.changes import Change, announce, latest_seq
from gateway.jsonio import canonical
from gateway.partners.apply import apply
from gateway.partners.contract import FOREVER_MS, document, written
from gateway.partners.contract_rules import from_document
from gateway.partners.snapshot import (
    DOOR_LIMIT_S,
    PictureTooOld,
    Snapshot,
    SnapshotKeeper,
    TermsUnreadable,
    UnreadableTerms,
)
from tests.unit.partners.test_apply import CONTRACT, NOW

NEXT_YEAR_MS = 1_767_196_800_000  # 2026-01-01 in Shanghai
YEAR_AFTER_MS = 1_798_732_800_000  # 2027-01-01


async def record(
    database: Database, body: dict[str, Any], *, version: int, starts_ms: int = NEXT_YEAR_MS,
    ends_ms: int = FOREVER_MS, digest: bytes | None = None,
) -> None:  # fmt: skip
    """What another program, newer or older than this one, has recorded."""
    async with database.transaction() as conn:
        await conn.execute(
            """INSERT INTO document (kind, id, partner_id, applied_by, currency, version, body, sha256, applied_at_ms,
                   starts_ms, ends_ms)
               VALUES ('contract', 'metro-2025', 'metro', 'newer', 'CNY', $1, $2, $3, $4, $5, $6)""",
            version, body, digest or sha256(canonical(body)).digest(), NOW, starts_ms, ends_ms,
        )  # fmt: skip
        await announce(conn, "contract", "metro-2025", now_ms=NOW)


def body_of(agreed: Any, *, version: int, **head: Any) -> dict[str, Any]:
    body = document(agreed.load().contracts[0].contract)
    body["contract"] |= {"version": version, **head}
    return body


@pytest.fixture
async def applied(bare_database: Database, agreed: Any, operations: Any) -> Database:
    agreed.add_partner("tram")
    agreed.write("partners/tram/contract.toml", agreed.read(CONTRACT).replace("metro-2025", "tram-2025"))
    await apply(bare_database, agreed.root, operations, actor="tester", reason="test", now_ms=NOW)
    return bare_database


async def picture(database: Database) -> Snapshot:
    keeper = SnapshotKeeper(database)
    await keeper.load()
    return keeper.current


def version_at(snapshot: Snapshot, at_ms: int, partner_id: str = "metro") -> int | None:
    contract = snapshot.contract_at(partner_id, at_ms)
    return contract.version if contract else None


async def test_pricing_stops_at_the_start_of_a_version_that_cannot_be_read(applied: Database, agreed: Any) -> None:
    await record(applied, body_of(agreed, version=2, halo="golden"), version=2)
    snapshot = await picture(applied)
    assert version_at(snapshot, NEXT_YEAR_MS - 1) == 1
    for at_ms in (NEXT_YEAR_MS, YEAR_AFTER_MS):
        with pytest.raises(TermsUnreadable, match=r"Version 2 of your contract, from 2025-12-31T16:00:00\.000Z on"):
            snapshot.contract_at("metro", at_ms)
    assert version_at(snapshot, NEXT_YEAR_MS, "tram") == 1
    assert snapshot.unreadable == {"metro": UnreadableTerms("metro-2025", 2, NEXT_YEAR_MS)}


async def test_the_terms_of_before_are_never_taken_for_those_that_cannot_be_read(
    applied: Database, agreed: Any
) -> None:
    """Not after their end either, nor under a later version that can be read: caps run on through all of them."""
    await record(applied, body_of(agreed, version=2, halo=1), version=2, ends_ms=YEAR_AFTER_MS)
    await record(applied, body_of(agreed, version=3, valid_from="2027-01-01"), version=3, starts_ms=YEAR_AFTER_MS)
    snapshot = await picture(applied)
    assert [contract.version for contract in snapshot.contracts["metro"]] == [1, 3]
    for at_ms in (NEXT_YEAR_MS, YEAR_AFTER_MS):
        with pytest.raises(TermsUnreadable):
            snapshot.contract_at("metro", at_ms)


async def test_of_several_the_first_start_counts(applied: Database, agreed: Any) -> None:
    await record(applied, {"contract": 7}, version=2, starts_ms=YEAR_AFTER_MS)
    await record(applied, {"contract": 7}, version=3)
    assert (await picture(applied)).unreadable["metro"] == UnreadableTerms("metro-2025", 3, NEXT_YEAR_MS)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body["contract"].update(timezone="Asia"),  # a folder of zones, which no reader can open
        lambda body: body["contract"].update(valid_to="9999-12-31"),
        lambda body: body["discount"][0].update(pay_minor=10**30),
        lambda body: body["discount"][0]["fund"][0].update(party="merchant"),
        lambda body: body.update(contract=None),
    ],
    ids=["zone", "last day", "huge amount", "merchant", "no head"],
)
async def test_no_body_of_one_partner_keeps_the_others_from_being_read(
    applied: Database, agreed: Any, spoil: Any
) -> None:
    body = body_of(agreed, version=2)
    spoil(body)
    await record(applied, body, version=2)
    snapshot = await picture(applied)
    assert set(snapshot.unreadable) == {"metro"}
    assert version_at(snapshot, NEXT_YEAR_MS, "tram") == 1


async def test_a_document_that_is_not_the_one_that_was_sealed_is_not_used(applied: Database, agreed: Any) -> None:
    """Its row says another hash: somebody edited it, or a default means something else to this program."""
    await record(applied, body_of(agreed, version=2), version=2, digest=sha256(b"other terms").digest())
    with pytest.raises(TermsUnreadable):
        (await picture(applied)).contract_at("metro", NEXT_YEAR_MS)


async def test_a_version_that_cannot_be_read_is_logged_once_and_measured(applied: Database, agreed: Any) -> None:
    keeper = SnapshotKeeper(applied)
    await keeper.load()
    await record(applied, body_of(agreed, version=2, halo=1), version=2)
    async with applied.connection() as conn:
        change = Change(await latest_seq(conn), "contract", "metro-2025")
    with capture_logs() as logs:
        await keeper.refresh([change])
        await keeper.refresh([change])
    told = [entry for entry in logs if entry["event"] == "terms_unreadable"]
    assert [(entry["partner_id"], entry["contract_version"], entry["log_level"]) for entry in told] == [
        ("metro", 2, "error")
    ]
    assert b'parasol_terms_unreadable{partner="metro"} 1' in await metrics.page()


async def test_a_fact_under_a_version_that_cannot_be_read_is_refused_by_name(applied: Database, agreed: Any) -> None:
    await record(applied, body_of(agreed, version=2, halo=1), version=2)
    snapshot = await picture(applied)
    assert snapshot.contract_version("metro", 1).version == 1
    with pytest.raises(TermsUnreadable, match="Version 2"):
        snapshot.contract_version("metro", 2)


async def test_a_worker_that_has_heard_nothing_for_5_s_answers_nothing(applied: Database) -> None:
    """A suspension must bite; and settlement counts on it, as this worker would price by the version of before."""
    age = [DOOR_LIMIT_S]
    keeper = SnapshotKeeper(applied, age_s=lambda: age[0])
    await keeper.load()
    assert keeper.current.partners
    age[0] += 0.1
    with pytest.raises(PictureTooOld):
        _ = keeper.current
    async with applied.connection() as conn:
        await keeper.refresh([Change(await latest_seq(conn), "grant", "x")])  # it still learns, and comes back
    age[0] = 0.0
    assert keeper.current.partners


def test_a_contract_is_written_as_its_canonical_document(agreed: Any) -> None:
    contract = agreed.load().contracts[0].contract
    assert written(contract) == canonical(document(contract))
    assert from_document(document(contract)) == contract
