"""Terms as known when recorded: over any history, the picture's version is the one that settlement finds later."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.clock import local_day, to_ms
from gateway.database import Database
from gateway.document import DocumentInvalid
from gateway.events.outbox import BANK_ZONE
from gateway.jsonio import decode
from gateway.partners.apply import apply
from gateway.partners.contract import Contract, document, term_ms
from gateway.partners.contract_rules import from_document
from gateway.partners.recorded import recorded_versions
from gateway.partners.recording import PICTURE_LIMIT_S, SKEW_MS, START_MARGIN_MS, check_recordable
from gateway.partners.snapshot import Snapshot
from gateway.partners.store import Version
from tests.unit.partners.test_apply import CONTRACT, NOW, later_version
from tests.unit.partners.test_unreadable_terms import body_of, record

FIRST_DAY = date(2026, 3, 1)
DAY_MS = 86_400_000
FAR_MS = 2_000_000_000_000  # 2033: beyond are only the terms that never end
STALE_MS = PICTURE_LIMIT_S * 1000
ZONES = ("Asia/Shanghai", "Pacific/Auckland", "America/Los_Angeles", "Europe/London")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A version and the moment that its `contract.effective` was recorded at."""

    contract: Contract
    at_ms: int


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that is priced at `priced_at_ms` by a picture that is `stale_ms` old, and recorded when it is."""

    occurred_at_ms: int
    priced_at_ms: int
    stale_ms: int
    recorded_at_ms: int


def version(number: int, valid_from: date, days: int | None, *, zone: str) -> Contract:
    head: dict[str, Any] = {
        "id": "metro-2026", "version": number, "currency": "CNY", "valid_from": valid_from.isoformat(),
        "timezone": zone,
    }  # fmt: skip
    if days is not None:
        head["valid_to"] = (valid_from + timedelta(days=days)).isoformat()
    return from_document({"contract": head})


def allowed(contract: Contract, before: Sequence[Recorded], at_ms: int) -> bool:
    """Whether `apply` records it then."""
    applied = [
        Version("contract", "metro-2026", r.contract.version, "metro", b"", False, applied_at_ms=r.at_ms)
        for r in before
    ]
    try:
        check_recordable(
            contract, file="f", partner_id="metro", applied=applied, day=local_day(at_ms, BANK_ZONE), now_ms=at_ms
        )
    except DocumentInvalid:
        return False
    return True


@st.composite
def histories(draw: st.DrawFn) -> list[Recorded]:
    """What `apply` lets through of versions with any starts, ends and zones, recorded at any moments; the first one
    may start long before."""
    made: list[Recorded] = []
    at_ms = to_ms(datetime.combine(FIRST_DAY, time(), UTC))
    for number in range(1, draw(st.integers(2, 7))):
        at_ms += draw(st.integers(1, 3 * DAY_MS))
        day = FIRST_DAY + timedelta(days=draw(st.integers(-40, 30)))
        contract = version(number, day, draw(st.none() | st.integers(0, 20)), zone=draw(st.sampled_from(ZONES)))
        if draw(st.booleans()):  # as late as may be: the clock just before what the rule asks for
            at_ms = max(at_ms, term_ms(contract)[0] - START_MARGIN_MS + draw(st.integers(-2, 2)))
        if allowed(contract, made, at_ms):
            made.append(Recorded(contract, at_ms))
    return made


@st.composite
def facts(draw: st.DrawFn, history: Sequence[Recorded]) -> Fact:
    """Near the edges of the terms and of the recordings, or anywhere; told late, or by a clock that runs ahead."""
    if draw(st.booleans()):  # the worst that is allowed: a worker that has just not heard, and a clock far ahead
        worst = draw(st.sampled_from(history)).at_ms + STALE_MS - 1 + draw(st.integers(-2, 2))
        return Fact(worst + SKEW_MS, worst, STALE_MS, worst + draw(st.integers(0, DAY_MS)))
    edges = [edge for r in history for edge in (r.at_ms, *term_ms(r.contract)) if edge < FAR_MS]
    priced = draw(st.sampled_from(edges)) + draw(
        st.integers(-200_000, 200_000) | st.integers(-30 * DAY_MS, 30 * DAY_MS)
    )
    occurred = priced + draw(st.integers(-3 * DAY_MS, SKEW_MS))
    return Fact(occurred, priced, draw(st.integers(0, STALE_MS)), priced + draw(st.integers(0, 2 * DAY_MS)))


def in_picture(history: Sequence[Recorded], fact: Fact) -> int | None:
    """The version that a worker prices by: what it had heard of, `stale_ms` ago."""
    heard = tuple(r.contract for r in history if r.at_ms <= fact.priced_at_ms - fact.stale_ms)
    found = Snapshot(1, {}, {}, {}, {"metro": heard}, frozenset()).contract_at("metro", fact.occurred_at_ms)
    return found.version if found else None


def at_settlement(history: Sequence[Recorded], fact: Fact) -> int | None:
    """docs/settlement-rules.md §4: known before the event, its term holds the instant, the highest number."""
    holding = [
        r.contract.version
        for r in history
        if r.at_ms <= fact.recorded_at_ms and term_ms(r.contract)[0] <= fact.occurred_at_ms < term_ms(r.contract)[1]
    ]
    return max(holding, default=None)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_fact_is_priced_by_the_version_that_settlement_finds_whatever_the_worker_had_heard(
    data: st.DataObject,
) -> None:
    history = data.draw(histories())
    assume(history)
    fact = data.draw(facts(history))
    priced = in_picture(history, fact)
    if priced is not None:  # who has not heard of the partner's first version prices nothing
        assert priced == at_settlement(history, fact)


@given(st.data())
def test_what_is_known_later_never_changes_a_fact_of_before(data: st.DataObject) -> None:
    """A version of tomorrow or of next year changes nothing today: dropping it gives the same."""
    history = data.draw(histories())
    assume(len(history) > 1)
    fact = data.draw(facts(history))
    later = [r for r in history if term_ms(r.contract)[0] > fact.occurred_at_ms]
    assert at_settlement(history, fact) == at_settlement([r for r in history if r not in later], fact)


def test_the_property_would_see_a_version_that_starts_at_once() -> None:
    """Without the rule: a second version recorded and started under a worker that has not heard of it."""
    at_ms = to_ms(datetime(2026, 3, 10, 8, tzinfo=UTC))
    history = [
        Recorded(version(1, FIRST_DAY, None, zone="UTC"), at_ms - DAY_MS),
        Recorded(version(2, date(2026, 3, 10), None, zone="UTC"), at_ms),
    ]
    fact = Fact(at_ms + 10_000, at_ms + 10_000, STALE_MS, at_ms + 20_000)
    assert not allowed(history[1].contract, history[:1], at_ms)
    assert (in_picture(history, fact), at_settlement(history, fact)) == (1, 2)


# --- the same over the database ----------------------------------------------------------------------------------
async def test_the_recorded_versions_are_those_of_the_events_in_order(
    bare_database: Database, agreed: Any, operations: Any
) -> None:
    """Of every currency, with the hashes that the events name; for the writer of statements."""
    await apply(bare_database, agreed.root, operations, actor="tester", reason="test", now_ms=NOW)
    later_version(agreed, "2027-01-01")
    await apply(bare_database, agreed.root, operations, actor="tester", reason="test", now_ms=NOW + 1)
    later_version(agreed, "2026-01-01", version=3)
    agreed.edit(CONTRACT, 'currency = "CNY"', 'currency = "EUR"')
    await apply(bare_database, agreed.root, operations, actor="tester", reason="test", now_ms=NOW + 2)
    async with bare_database.connection() as conn:
        found = await recorded_versions(conn, "metro")
        assert await recorded_versions(conn, "nobody") == ()
        leaves = await conn.fetch("SELECT leaf FROM event WHERE type = 'contract.effective' ORDER BY seq")
    told = [decode(row["leaf"], dict[str, Any]) for row in leaves]
    assert [(v.version, v.currency, v.recorded_at_ms, v.sha256.hex(), v.starts_ms, v.ends_ms) for v in found] == [
        (leaf["contract_version"], leaf["currency"], leaf["recorded_at_ms"], leaf["data"]["sha256"],
         leaf["data"]["start_ms"], leaf["data"]["end_ms"])
        for leaf in told
    ]  # fmt: skip
    assert [v.currency for v in found] == ["CNY", "CNY", "EUR"]
    contracts = [v.contract for v in found if v.contract is not None]
    assert [document(contract)["contract"]["version"] for contract in contracts] == [1, 2, 3]


@pytest.mark.parametrize("spoiled", ["unknown term", "other hash"])
async def test_a_recorded_version_that_cannot_be_read_is_listed_without_its_terms(
    bare_database: Database, agreed: Any, operations: Any, spoiled: str
) -> None:
    await apply(bare_database, agreed.root, operations, actor="tester", reason="test", now_ms=NOW)
    if spoiled == "unknown term":
        await record(bare_database, body_of(agreed, version=2, halo=1), version=2)
    else:
        await record(bare_database, body_of(agreed, version=2), version=2, digest=bytes(32))
    async with bare_database.connection() as conn:
        first, second = await recorded_versions(conn, "metro")
    assert first.contract is not None
    assert (second.version, second.contract) == (2, None)
