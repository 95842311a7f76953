"""The verifier against a builder of its own: honest statements are accepted, every false fact is refused by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.settlement.verify import terms as terms_of
from gateway.settlement.verify.statement import read_statement
from tests.unit.settlement import drafts
from tests.unit.settlement.cases import DAY, busy, check, faults, put, simple, spoiled
from tests.unit.settlement.drafts import Json, confirmed, goal, line, redemption_lines, reversed_


# --- yes ----------------------------------------------------------------------------------------------------------
def test_an_honest_statement_is_accepted(tmp_path: Path) -> None:
    report = check(drafts.written(busy()), tmp_path)
    assert report.faults == ()
    assert (report.statement_id, report.partner, report.events, report.lines) == ("stm_1", "metro", 15, 19)
    assert report.totals == busy()["totals"]
    assert report.thumbprint == drafts.SIGNATORY.thumbprint
    assert not report.pinned
    assert any("compare the thumbprint" in note for note in report.notes)
    assert any("1 of its days" in note for note in report.notes)


def test_the_example_of_the_rules_comes_out(tmp_path: Path) -> None:
    ride = confirmed(1)
    document = simple(ride, reversed_(2, ride, minor=1000), reversed_(3, ride, minor=998, before=1000))
    assert [each["amount_minor"] for each in document["lines"]] == [1998, -799, -1000, 400, -998, 399]
    assert check(drafts.written(document), tmp_path).accepted


def test_a_statement_without_days_is_accepted(tmp_path: Path) -> None:
    document = drafts.statement([], [], closing=drafts.opening(), period=(DAY, DAY))
    assert check(drafts.written(document), tmp_path).accepted


@given(st.integers(1, 100_000), st.sampled_from(["ride", "tenth", "five"]), st.integers(0, 3000), st.integers(1, 999))
@settings(max_examples=150, deadline=None)
def test_splits_are_those_of_the_unit_by_unit_rule(amount: int, discount: str, room: int, seed: int) -> None:
    (version,) = terms_of.read_contracts([drafts.CONTRACT], currency="CNY")
    mine = terms_of.split(amount, version.discounts[discount].fund, seed=str(seed), cap_left={"partner": room})
    theirs = drafts.split(amount, drafts.terms(discount), seed=str(seed), cap_left={"partner": room})
    assert mine == theirs
    assert sum(mine.values()) == amount
    back = terms_of.split(-amount, version.discounts[discount].fund, seed=str(seed), cap_left={"partner": room})
    assert back == {party: -leg for party, leg in mine.items()}


@given(st.integers(0, 5), st.lists(st.integers(1, 4), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_ranks_go_on_from_the_opening_and_by_the_month_of_the_event(seen: int, months: list[int]) -> None:
    moments = [drafts.NOON + 31 * (month - 1) * drafts.DAY_MS for month in months]
    goals = [goal(n, occurred_at_ms=moment) for n, moment in enumerate(moments)]
    ranks = {"CARD_ACTIVATED 2025-01": seen} if seen else {}
    start = drafts.opening(ranks=dict(ranks))
    lines = []
    for each, month in zip(goals, months, strict=True):
        name = f"CARD_ACTIVATED 2025-{month:02}"
        lines.append(line(each, "commission", 300 if ranks.get(name, 0) >= 2 else 100))
        ranks[name] = ranks.get(name, 0) + 1
    previous = {"number": 1, "sha256": "0" * 64, "statement_id": "stm_1"}
    document = drafts.statement(
        [drafts.sealed_day(DAY, goals)], lines, closing={"ranks": ranks, "accrued": {}}, start=start, number=2,
        previous=previous,
    )  # fmt: skip
    found = read_statement(drafts.written(document), name="x", event_ids=set())
    assert found.faults == []


# --- a bank that lies, and signs and seals what it says ---------------------------------------------------------
EVENT_LIES = {
    "price": (put("data", "discount_minor", 1999), "evt_0001: discount_minor is 1999, the terms give 1 to 1998"),
    "no-discount": (put("data", "discount_minor", 0), "the terms give 1 to 1998"),
    "payable": (put("data", "payable_minor", 2), "payable_minor is 2, expected 1"),
    "amount": (put("amount_minor", 1997), "amount_minor is 1997, expected 1998"),
    "legs": (put("data", "legs", "bank", 1198), 'legs is {"bank":1198,"partner":799}, expected {"bank":1199'),
    "one-leg": (put("data", "legs", {"bank": 1998}), "legs is"),
    "true-is-not-one": (put("data", "payable_minor", True), "payable_minor is True, expected 1"),
    "text-is-no-number": (put("data", "order_minor", "1999"), "order_minor is 1999, expected is an integer"),
    "enormous": (put("data", "order_minor", 1 << 70), "order_minor is"),
    "unknown-discount": (put("data", "discount", "flight"), "has no discount flight"),
    "other-version": (put("contract_version", 2), "version 2 was not in force"),
    "other-contract": (put("contract", "bus-2025"), "contract bus-2025 version 1 was not in force"),
    "before-the-term": (put("occurred_at_ms", drafts.NOON - 9 * drafts.DAY_MS), "was not in force"),
    "before-time": (put("occurred_at_ms", -1), "occurred_at_ms is -1"),
    "currency": (put("currency", "EUR"), "currency is EUR, the statement's is CNY"),
    "partner": (put("partner", "shop"), "its partner is shop, expected metro"),
    "business-day": (put("business_day", "2025-01-03"), "its business_day is 2025-01-03, expected 2025-01-02"),
    "data": (put("data", []), "data is [], expected is an object"),
    "version-true": (put("contract_version", True), "version True was not in force"),
    "more-members": (put("extra", 1), "an event has the members"),
}


@pytest.mark.parametrize(("change", "sentence"), EVENT_LIES.values(), ids=EVENT_LIES)
def test_a_false_redemption_is_refused_though_signed(
    tmp_path: Path, change: Callable[[Json], Any], sentence: str
) -> None:
    assert sentence in faults(spoiled(change), tmp_path)


REVERSAL_LIES = {
    "too-much": (put("data", "reversed_minor", 1999), "reversed_minor is 1999 after 0, but 1998 was given"),
    "nothing": (put("data", "reversed_minor", 0), "reversed_minor is 0"),
    "amount": (put("amount_minor", -999), "amount_minor is -999, expected -1000"),
    "legs": (put("data", "legs", "partner", -399), "legs is"),
    "original-legs": (put("data", "original_legs", "bank", 1), "original_legs is"),
    "other-original": (put("data", "redemption_id", "rdm_9"), "redemption_id of the original evt_0001 is rdm_1"),
}


@pytest.mark.parametrize(("change", "sentence"), REVERSAL_LIES.values(), ids=REVERSAL_LIES)
def test_a_false_reversal_is_refused_though_signed(
    tmp_path: Path, change: Callable[[Json], Any], sentence: str
) -> None:
    ride = confirmed(1)
    back = reversed_(2, ride, minor=1000)
    lines = [*redemption_lines(ride), *redemption_lines(back)]
    found = faults(simple(ride, drafts.changed(back, change), lines=lines), tmp_path)
    assert f"event evt_0002: {sentence}" in found


def test_a_reversal_that_forgets_the_one_before_is_refused(tmp_path: Path) -> None:
    ride = confirmed(1)
    document = simple(ride, reversed_(2, ride, minor=1500), reversed_(3, ride, minor=1500))
    assert "reversed_minor of the original evt_0001 is 1500 until here, but it says 0" in faults(document, tmp_path)


@pytest.mark.parametrize("left", [-1, 501, None, "7"])
def test_what_a_capped_funder_had_left_is_between_nothing_and_its_cap(tmp_path: Path, left: Any) -> None:
    event = confirmed(1, discount="tenth", order=1000)
    event["data"]["cap_left_minor"] = {"partner": left}
    assert "cap_left_minor of partner is" in faults(simple(event), tmp_path)


def test_the_same_event_twice_is_refused(tmp_path: Path) -> None:
    assert "event evt_0001: it is there twice" in faults(simple(confirmed(1), confirmed(1)), tmp_path)


def test_the_same_redemption_confirmed_by_two_events_is_refused(tmp_path: Path) -> None:
    second = confirmed(2)
    second["data"]["redemption_id"] = "rdm_1"
    assert "redemption rdm_1 is confirmed a second time" in faults(simple(confirmed(1), second), tmp_path)


def lines_changed(change: Callable[[list[Json]], Any]) -> Json:
    """The lines of an honest statement, changed; totals follow the lines."""
    document = busy()
    change(document["lines"])
    sums = drafts.totals(document["lines"], carried_in=0, min_pay=10)
    return document | {"totals": sums, "closing": document["closing"] | {"carried_minor": sums["carried_out_minor"]}}


LINE_LIES = {
    "amount": (lambda lines: lines[10].update(amount_minor=99), "line 11 (event evt_0007): amount_minor is 99, "
               "expected 300"),
    "rank": (lambda lines: lines[8].update(amount_minor=300), "line 9 (event evt_0005): amount_minor is 300"),
    "cap": (lambda lines: lines[12].update(amount_minor=45), "line 13 (event evt_0009): amount_minor is 45, "
            "expected 15"),
    "window": (lambda lines: lines[13].update(amount_minor=45), "line 14 (event evt_0010): amount_minor is 45, "
               "expected 0"),
    "rounding": (lambda lines: lines[14].update(amount_minor=0), "line 15 (event evt_0011): amount_minor is 0"),
    "term": (lambda lines: lines[0].update(term="five"), "line 1 (event evt_0001): term is five, expected ride"),
    "version": (lambda lines: lines[0].update(contract_version=2), "contract_version is 2, expected 1"),
    "left-out": (lambda lines: lines.pop(3), "line 4: expected"),
    "last-left-out": (lambda lines: lines.pop(), "lines: after line 18 there are 1 missing"),
    "invented": (lambda lines: lines.append(dict(lines[0])), "line 20: no event leads to it"),
    "swapped": (lambda lines: lines.insert(0, lines.pop(1)), "line 1: expected"),
    "id": (lambda lines: lines[0].update(event_id=[]), "line 1: event_id is []"),
    "members": (lambda lines: lines[0].update(number=1), "line 1 has the members"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "sentence"), LINE_LIES.values(), ids=LINE_LIES)
def test_a_false_line_is_refused_by_its_number(tmp_path: Path, change: Any, sentence: str) -> None:
    assert sentence in faults(lines_changed(change), tmp_path)
