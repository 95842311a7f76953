"""Facts that the terms don't lead to: each is refused by the name of its event, and nothing is written."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.partners.contract_rules import from_document
from gateway.settlement.calculation import FactsDisagree, Opening
from gateway.settlement.opening import KnownVersion
from tests.unit.settlement import made
from tests.unit.settlement.made import DAY_MS, Record
from tests.unit.settlement.reference import Json

Change = Callable[[Json], Any]


def put(*path: Any) -> Change:
    """Sets what the last of `path` says at the place that the others lead to."""
    *way, last, value = path

    def change(of: Any) -> None:
        for step in way:
            of = of[step]
        of[last] = value

    return change


def without(*path: str) -> Change:
    def change(of: Any) -> None:
        for step in path[:-1]:
            of = of[step]
        del of[path[-1]]

    return change


def busy() -> Record:
    """evt_1 … evt_7: two redemptions of a capped discount, one with conditions, two reversals, two goals."""
    record = made.started()
    first = record.redeem("half", 3001)
    record.redeem("half", 3001)
    record.redeem("noon", 500)
    assert first is not None
    record.reverse(first, 700)
    record.reverse(first, 500)
    record.goal("SPEND", spend=9000)
    record.goal("CARD_ACTIVATED")
    return record


def refused(record: Record, folder: Path, *, only: list[Json] | None = None, **more: Any) -> str:
    with pytest.raises(FactsDisagree) as found:
        made.statement(folder, record.events if only is None else only, record.terms, **more)
    assert [path.name for path in folder.glob("stm_*")] == [], "nothing is left of it"
    return str(found.value)


@pytest.mark.parametrize(
    ("number", "change", "reason"),
    [
        (1, put("data", "discount_minor", 1501), "not what the terms allow"),
        (1, put("data", "discount_minor", 0), "not what the terms allow"),
        (1, without("data", "order_minor"), "not what the terms allow"),
        (1, put("data", "payable_minor", 1), "do not add up"),
        (1, put("amount_minor", 1499), "do not add up"),
        (1, put("data", "legs", {"bank": 749, "partner": 751}), "not the split"),
        (1, put("data", "legs", {"bank": 1500}), "not the split"),
        (1, put("data", "legs", "merchant", 0), "not the split"),
        (1, put("data", "seed", "k|rdm_2"), "seed"),
        (1, without("data", "seed"), "seed"),
        (1, put("data", "cap_left_minor", {}), "cap_left_minor"),
        (1, put("data", "cap_left_minor", "partner", 1999), "cap_left_minor"),
        (1, put("data", "cap_left_minor", "bank", 5), "cap_left_minor"),
        (2, put("data", "cap_left_minor", "partner", 2000), "cap_left_minor"),
        (1, put("data", "discount", "none"), "no such discount"),
        (1, put("contract_version", 2), "in force"),
        (1, put("contract", "other"), "in force"),
        (1, put("occurred_at_ms", 1_700_000_000_000), "in force"),
        (1, put("v", 1), "can be read"),
        (1, put("partner", "other-0"), "can be read"),
        (1, put("amount_minor", 10**16), "can be read"),
        (1, put("occurred_at_ms", -62_135_596_800_000), "can be read"),
        (1, put("data", "order_minor", -(2**63)), "can be read"),
        (1, put("data", "order_minor", 2**63), "not what the terms allow"),
        (1, put("data", "cap_left_minor", "partner", -(2**63)), "cap_left_minor"),
        (1, put("data", "cap_left_minor", "partner", "2000"), "cap_left_minor"),
        (4, put("data", "cap_left_minor", {"partner": 2001}), "repeat its original"),
        (6, put("data", "anchor_at_ms", 2**63 - 1), "can be read"),
        (3, put("data", "mcc", "5411"), "conditions"),
        (3, put("data", "mcc", None), "conditions"),
        (3, put("data", "site", "S3"), "conditions"),
        (3, put("occurred_at_ms", made.NOON_MS - 1), "conditions"),
        (3, put("occurred_at_ms", made.NOON_MS + 3_600_000), "conditions"),
        (3, put("occurred_at_ms", made.NOON_MS + DAY_MS), "conditions"),
        (4, put("data", "seed", "other|rdm_1"), "repeat its original"),
        (4, put("data", "cap_left_minor", "partner", 1), "repeat its original"),
        (4, put("data", "original_discount_minor", 1499), "repeat its original"),
        (4, put("data", "original_legs", {"bank": 1, "partner": 1499}), "repeat its original"),
        (5, put("data", "original_event_id", "evt_2"), "go on"),
        (4, put("data", "legs", "partner", -349), "difference of the splits"),
        (5, put("data", "reversed_minor", 900), "more is reversed than was given"),
        (4, put("amount_minor", -699), "what is reversed"),
        (5, put("data", "reversed_before_minor", 0), "go on"),
        (6, put("amount_minor", -1), "negative"),
        (6, put("subject_token", None), "no customer"),
        (6, without("data", "anchor_at_ms"), "brought"),
        (6, put("contract_version", 9), "in force"),
        (7, put("contract", "foreign"), "in force"),
        (7, put("contract_version", None), "in force"),
    ],
)
def test_a_fact_that_disagrees_with_its_terms_is_refused_by_name(
    tmp_path: Path, number: int, change: Change, reason: str
) -> None:
    record = busy()
    change(record.events[number])
    told = refused(record, tmp_path)
    assert told.startswith(f"event evt_{number}:"), told
    assert reason in told


def test_an_event_of_another_day_than_its_file_is_refused(tmp_path: Path) -> None:
    record = busy()
    leaves = [made.canonical(event) for event in record.events]
    day = made.sealed(tmp_path, made.FIRST_DAY + timedelta(days=1), leaves)
    assert "evt_0: it is not an event that can be read" in refused(record, tmp_path, days=[day])


def test_the_record_that_these_faults_are_put_into_is_right(tmp_path: Path) -> None:
    record = busy()
    assert made.lines_of(made.statement(tmp_path, record.events, record.terms)) == made.folded(
        record.events, record.contracts
    )[0]  # fmt: skip


def test_a_cap_used_up_in_an_earlier_statement_leaves_nothing(tmp_path: Path) -> None:
    """`cap_left_minor` is what earlier statements left as well, not what an event says."""
    record = made.started()
    record.redeem("half", 3001)
    told = refused(record, tmp_path, opening=Opening(funded={"p-2026 half partner": 1}))
    assert "evt_1: cap_left_minor" in told


def test_an_event_before_its_version_was_recorded_is_a_fault(tmp_path: Path) -> None:
    """Recorded backwards: the version's term holds the moment, but nobody knew it yet."""
    record = made.started()
    record.goal("ACCOUNT_OPENED", spend=1000)
    record.events.reverse()
    assert "evt_1: its contract version was not the one in force" in refused(record, tmp_path)


def test_an_event_under_the_old_version_where_the_new_one_is_known_is_a_fault(tmp_path: Path) -> None:
    record = made.started()
    record.effective(made.contract(2, valid_from=(record.day + timedelta(days=1)).isoformat()))
    record.next_day()
    goal = record.goal("ACCOUNT_OPENED", spend=1000)
    assert goal is not None
    goal["contract_version"] = 1
    assert f"event {goal['event_id']}:" in refused(record, tmp_path)


def test_an_event_under_a_version_of_another_currency_is_a_fault(tmp_path: Path) -> None:
    record = made.started()
    goal = record.goal("ACCOUNT_OPENED", spend=1000)
    assert goal is not None
    goal["currency"] = "EUR"
    assert "another currency" in refused(record, tmp_path, currency="EUR")


@pytest.mark.parametrize(
    ("head", "change", "reason"),
    [
        ({"valid_from": "2026-09-21"}, None, "starts less than 60000 ms after"),
        ({"valid_from": "2026-01-01"}, None, "starts less than"),
        ({"valid_from": "2026-09-22"}, put("business_day", "2026-09-22"), "after the business day"),
        ({"valid_from": "2026-09-22"}, put("recorded_at_ms", made.NOON_MS + 43_200_000 - 59_999), "less than"),
        ({"valid_from": "2026-09-22"}, put("data", "sha256", "0" * 64), "does not tell the document"),
        ({"valid_from": "2026-09-22"}, put("data", "start_ms", 0), "does not tell the document"),
        ({"valid_from": "2026-09-22"}, put("currency", "EUR"), "does not tell the document"),
        ({"valid_from": "2026-09-22", "id": "other"}, None, "the partner's contract is p-2026"),
    ],
)
def test_a_later_version_that_breaks_the_order_of_recording_is_refused(
    tmp_path: Path, head: Json, change: Change | None, reason: str
) -> None:
    record = made.started()
    event = record.effective(made.contract(2, **head))
    if change is not None:
        change(event)
    if event["business_day"] != record.day.isoformat():
        record.events.append(record.events.pop())
    told = refused(record, tmp_path)
    assert told.startswith("event evt_1:"), told
    assert reason in told


def test_version_numbers_rise(tmp_path: Path) -> None:
    record = Record()
    record.effective(made.contract(2))
    record.effective(made.contract(1, valid_from="2026-10-01"))
    assert "version 1 does not come after version 2" in refused(record, tmp_path)


def test_versions_of_the_first_recording_may_start_before_it(tmp_path: Path) -> None:
    record = Record()
    record.effective(made.contract(1, valid_to="2026-06-30"))
    record.effective(made.contract(2, valid_from="2026-07-01"), recorded_at_ms=record.events[0]["recorded_at_ms"])
    record.goal("ACCOUNT_OPENED", spend=10_000)
    assert made.statement(tmp_path, record.events, record.terms).totals.net_minor == 10


def test_a_known_version_without_its_document_is_named(tmp_path: Path) -> None:
    record = made.started()
    opening = Opening(versions=(KnownVersion("p-2026", 7, "0" * 64, made.NOON_MS),))
    assert "version 7 of contract p-2026 starts at 2026-09-21T04" in refused(record, tmp_path, only=[], opening=opening)
    with pytest.raises(
        FactsDisagree, match=r"version 1 of contract p-2026 starts at 2025-12-31T16:00:00\.000Z and has no"
    ):
        made.statement(tmp_path, record.events, [])
    other = from_document(made.contract(1, valid_from="2026-02-01"))
    with pytest.raises(FactsDisagree, match="event evt_0: it does not tell the document"):
        made.statement(tmp_path, record.events, [other])


@pytest.mark.parametrize("poison", [b"\xff\xfe", b"{", b"null", b'{"event_id":"evt_x"}', b"[" * 5000, b"{}", b""])
def test_a_poisoned_event_stops_its_own_partner_only(tmp_path: Path, poison: bytes) -> None:
    record = made.started()
    record.goal("ACCOUNT_OPENED", spend=10_000)
    ours = [made.canonical(event) for event in record.events]
    theirs = [json.loads(leaf) | {"partner": "other"} for leaf in ours]
    pairs = [("p", ours[0]), ("other", made.canonical(theirs[0])), ("p", poison), ("other", made.canonical(theirs[1]))]
    day = made.sealed_pairs(tmp_path, made.FIRST_DAY, [*pairs, ("p", ours[1])])
    with pytest.raises(FactsDisagree, match=r"event (evt_x|number 2 of the statement): it is not an event"):
        made.statement(tmp_path, [], record.terms, days=[day])
    written = made.statement(tmp_path, [], record.terms, days=[day], partner="other")
    assert (written.event_count, written.totals.net_minor) == (2, 10)


@pytest.mark.parametrize("left", [{"partner": 2001}, {"partner": -1}, {}, {"bank": 1, "partner": 1}, None])
def test_a_reversal_of_an_earlier_statements_redemption_tells_what_its_cap_had_left(tmp_path: Path, left: Any) -> None:
    record = made.started()
    first = record.redeem("half", 3001)
    assert first is not None
    split = len(record.events)
    reversal = record.reverse(first, 700)
    assert reversal is not None
    before = made.statement(tmp_path / "1", record.events[:split], record.terms)
    rest = record.events[split:]
    days = made.sealed_days(tmp_path, rest)
    right = made.statement(tmp_path / "2", rest, record.terms, opening=before.closing, days=days)
    assert right.totals.net_minor == -700 + 350
    reversal["data"]["cap_left_minor"] = left
    assert "evt_2: cap_left_minor is not" in refused(record, tmp_path, opening=before.closing, only=rest)


def test_accrued_entries_that_are_not_the_openings_are_refused(tmp_path: Path) -> None:
    record = made.started()
    record.goal("SPEND", spend=5000)
    first = made.statement(tmp_path / "1", record.events, record.terms)
    split = len(record.events)
    record.goal("SPEND", spend=5000)
    for wrong in ({}, {"p-2026 SPEND idt_1_a": 14}, {"p-2026 SPEND idt_1_a": 15, "p-2026 SPEND idt_1_b": 1}):
        with pytest.raises(FactsDisagree, match="opening's root"):
            made.statement(tmp_path, record.events[split:], record.terms, opening=first.closing, accrued=wrong)
