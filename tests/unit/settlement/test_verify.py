"""The verifier against a maker of its own: honest statements are accepted, every false fact is refused by name."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.settlement.verify.documents import read_contracts
from tests.unit.settlement import drafts
from tests.unit.settlement.cases import DAY, Lies, at, busy, check, faults, lines_of, put, simple
from tests.unit.settlement.drafts import Json, confirmed, goal, reversed_
from tests.unit.settlement.statements import opening, statement


# --- yes ----------------------------------------------------------------------------------------------------------
def test_an_honest_statement_is_accepted(tmp_path: Path) -> None:
    report = check(busy().small(), tmp_path)
    assert report.faults == ()
    assert (report.statement_id, report.partner, report.events, report.lines) == ("stm_1", "metro", 25, 31)
    assert report.totals == busy().manifest["totals"]
    assert report.thumbprint == drafts.SIGNATORY.thumbprint
    assert report.pinned
    assert ("empty", "1") in report.notes


def test_the_example_of_the_rules_comes_out(tmp_path: Path) -> None:
    ride = confirmed(1)
    assert ride["data"]["seed"] == "k1|rdm_1"
    made = simple(ride, reversed_(2, ride, minor=1000), reversed_(3, ride, minor=998, before=1000))
    lines = [each["amount_minor"] for each in lines_of(made)]
    assert lines == [1998, -799, -1000, 400, -998, 399]
    assert check(made.small(), tmp_path).accepted


@pytest.mark.parametrize(("late_ms", "worth"), [(-1, 45), (0, 45), (1, 0)])
def test_spend_at_the_last_moment_of_its_window_is_paid_and_a_moment_later_is_not(
    tmp_path: Path, late_ms: int, worth: int
) -> None:
    anchor = drafts.NOON - 30 * drafts.DAY_MS - late_ms
    made = simple(goal(1, "SPEND", spend=9000, anchor=anchor))
    assert [line["amount_minor"] for line in lines_of(made)] == [worth]
    assert check(made.small(), tmp_path).accepted
    other = simple(goal(1, "SPEND", spend=9000, anchor=anchor), lines=at(0, put("amount_minor", 45 - worth)))
    assert not check(other.small(), tmp_path).accepted


def test_days_that_stand_in_another_order_are_refused_though_their_heads_are_a_chain(tmp_path: Path) -> None:
    later = {"2025-01-04": [drafts.effective(0)], DAY: [goal(1)]}

    def period(manifest: Json) -> None:
        manifest["statement"] |= {"from_day": DAY, "to_day": "2025-01-04"}

    for event in later["2025-01-04"]:
        event["business_day"] = "2025-01-04"
    assert "day 2025-01-02: it stands after 2025-01-04" in faults(statement(later, manifest=period), tmp_path)


def test_a_statement_without_days_is_accepted(tmp_path: Path) -> None:
    before = simple()
    assert check(statement({}, before=before).small(), tmp_path).accepted


@given(st.integers(1, 10**12), st.sampled_from(["ride", "tenth", "five"]), st.integers(0, 3000), st.integers(0, 999))
@settings(max_examples=200, deadline=None)
def test_splits_are_those_of_the_unit_by_unit_rule(amount: int, discount: str, room: int, seed: int) -> None:
    (version,) = read_contracts([drafts.CONTRACT])
    room = max(room, amount // 2) if amount > 10_000 else room
    offset = int(drafts.sha256(str(seed).encode()).hexdigest()[:8], 16)
    mine = version.discounts[discount].split(amount, offset=offset, cap_left={"partner": room})
    if amount < 10_000:
        theirs = drafts.split(amount, drafts.terms(discount), seed=str(seed), cap_left={"partner": room})
        assert mine == theirs
    assert sum(mine.values()) == amount


@given(st.integers(0, 5), st.lists(st.integers(1, 4), min_size=1, max_size=12))
@settings(max_examples=30, deadline=None)
def test_ranks_go_on_from_the_opening_and_by_the_month_of_the_event(seen: int, months: list[int]) -> None:
    moments = [drafts.NOON + 31 * (month - 1) * drafts.DAY_MS for month in months]
    goals = [goal(n, occurred_at_ms=moment) for n, moment in enumerate(moments, 1)]
    known = simple().manifest["closing"]["versions"]
    start = opening(ranks={"CARD_ACTIVATED 2025-01": seen} if seen else {}, versions=known)
    with TemporaryDirectory() as folder:
        assert check(statement({DAY: goals}, start=start).small(), Path(folder)).faults == ()


# --- a bank that lies, and signs and seals what it says ---------------------------------------------------------
OTHER_SEED = next(
    seed
    for seed in (f"x{n}|rdm_1" for n in range(99))
    if drafts.split(1998, drafts.terms("ride"), seed=seed, cap_left={}) != confirmed(1)["data"]["legs"]
)
EVENT_LIES: Lies = {
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
    "discount-list": (put("data", "discount", []), "has no discount []"),
    "seed-of-another": (put("data", "seed", "k1|rdm_2"), "seed is k1|rdm_2, expected is a text that ends with |rdm_1"),
    "other-seed": (put("data", "seed", OTHER_SEED), "legs is"),
    "no-seed": (lambda e: e["data"].pop("seed"), "seed is None"),
    "cap-of-nobody": (put("data", "cap_left_minor", {"partner": 0}), "cap_left_minor is"),
    "other-version": (put("contract_version", 2), "version 2 has no document"),
    "other-contract": (put("contract", "bus-2025"), "contract bus-2025 version 1 was not in force"),
    "before-the-term": (put("occurred_at_ms", drafts.NOON - 9 * drafts.DAY_MS), "was not in force"),
    "before-time": (put("occurred_at_ms", -1), "occurred_at_ms is -1"),
    "no-currency": (put("currency", None), "its currency is None, which no statement has"),
    "partner": (put("partner", "shop"), "its partner is shop, expected metro"),
    "business-day": (put("business_day", "2025-01-03"), "its business_day is 2025-01-03, expected 2025-01-02"),
    "format": (put("v", 1), "its version v is 1, this program reads 2"),
    "data": (put("data", []), "part 1: it is not JSON of the shape"),
    "version-true": (put("contract_version", True), "part 1: it is not JSON of the shape"),
    "more-members": (put("extra", 1), "part 1: it is not JSON of the shape"),
    "no-name": (put("event_id", ""), "event number 2: event_id and type are texts"),
}


@pytest.mark.parametrize(("change", "sentence"), EVENT_LIES.values(), ids=EVENT_LIES)
def test_a_false_redemption_is_refused_though_signed(tmp_path: Path, change: Any, sentence: str) -> None:
    assert sentence in faults(simple(confirmed(1), told=at(1, change)), tmp_path)


def _lunch(**data: Any) -> Json:
    event = confirmed(1, discount="lunch", order=1200, **{k: v for k, v in data.items() if k == "occurred_at_ms"})
    event["data"] |= {"mcc": "5812", "site": "lot-1"} | {k: v for k, v in data.items() if k != "occurred_at_ms"}
    return event


CONDITIONS: dict[str, tuple[Json, str]] = {
    "mcc": ({"mcc": "5411"}, "mcc is 5411, the discount asks for one of 5812"),
    "no-mcc": ({"mcc": None}, "mcc is None"),
    "site": ({"site": "lot-2"}, "site is lot-2"),
    "site-number": ({"site": 1}, "site is 1, expected is a text or null"),
    "weekday": ({"occurred_at_ms": drafts.NOON + drafts.DAY_MS}, "it occurred on weekday 5"),
    "early": ({"occurred_at_ms": drafts.NOON - 3_600_001}, "it occurred at 10:59 local time"),
    "late": ({"occurred_at_ms": drafts.NOON + 7_200_000}, "it occurred at 14:00 local time"),
    "minimum": ({"order_minor": 499, "payable_minor": 399}, "order_minor is 499, the discount asks for 500"),
}


@pytest.mark.parametrize(("data", "sentence"), CONDITIONS.values(), ids=CONDITIONS)
def test_a_redemption_whose_conditions_did_not_hold_is_refused(tmp_path: Path, data: Json, sentence: str) -> None:
    assert sentence in faults(simple(_lunch(**data)), tmp_path)
    assert check(simple(_lunch(occurred_at_ms=drafts.NOON + 7_199_999)).small(), tmp_path).faults == ()


REVERSAL_LIES: Lies = {
    "too-much": (put("data", "reversed_minor", 1999), "reversed_minor is 1999 after 0, but 1998 was given"),
    "nothing": (put("data", "reversed_minor", 0), "reversed_minor is 0"),
    "amount": (put("amount_minor", -999), "amount_minor is -999, expected -1000"),
    "legs": (put("data", "legs", "partner", -399), "legs is"),
    "original-legs": (put("data", "original_legs", "bank", 1), "original_legs is"),
}


@pytest.mark.parametrize(("change", "sentence"), REVERSAL_LIES.values(), ids=REVERSAL_LIES)
def test_a_false_reversal_is_refused_though_signed(tmp_path: Path, change: Any, sentence: str) -> None:
    ride = confirmed(1)
    made = simple(ride, reversed_(2, ride, minor=1000), told=at(2, change))
    assert f"event evt_0002: {sentence}" in faults(made, tmp_path)


def _twin(original: Json, **data: Any) -> Json:
    """Another redemption than happened: what a lying reversal could be of."""
    other = drafts.changed(original, lambda e: e["data"].update(data))
    offer = drafts.terms(other["data"]["discount"])
    legs = drafts.split(other["data"]["discount_minor"], offer, seed=other["data"]["seed"], cap_left={"partner": 0})
    return drafts.changed(other, put("data", "legs", legs))


FOREIGN: dict[str, tuple[Json, str]] = {
    "amount": (_twin(confirmed(1), discount_minor=1900), "is another one than its redemption has"),
    "discount": (_twin(confirmed(1), discount="five", discount_minor=501), "is another one than its redemption has"),
    "seed": (_twin(confirmed(1), seed="other|rdm_1"), "is another one than its redemption has"),
    "event": (confirmed(1) | {"event_id": "evt_0000"}, "is another one than its redemption has"),
    "redemption": (_twin(confirmed(1), redemption_id="rdm_7", seed="k|rdm_7"),
                   "its original_event_id is of an event that did not confirm this redemption"),
}  # fmt: skip


@pytest.mark.parametrize(("original", "sentence"), FOREIGN.values(), ids=FOREIGN)
def test_a_reversal_of_another_redemption_than_happened_is_refused(
    tmp_path: Path, original: Json, sentence: str
) -> None:
    assert f"event evt_0002 (number 3): {_start(sentence)}" in faults(
        simple(confirmed(1), reversed_(2, original, minor=100)), tmp_path
    )


def _start(sentence: str) -> str:
    return sentence if sentence.startswith("its") else "original_event_id, contract_version, discount"


def test_a_reversal_that_forgets_the_one_before_is_refused(tmp_path: Path) -> None:
    ride = confirmed(1)
    made = simple(ride, reversed_(2, ride, minor=1500), reversed_(3, ride, minor=400))
    assert "event evt_0003 (number 4): reversed_before_minor is 0, expected 1500" in faults(made, tmp_path)
    alone = statement({DAY: [reversed_(2, ride, minor=1500), reversed_(3, ride, minor=400)]}, before=simple())
    assert "reversed_before_minor is 0, expected 1500" in faults(alone, tmp_path)


def test_reversals_of_an_earlier_statements_redemption_are_accepted_and_held_to_each_other(tmp_path: Path) -> None:
    ride = confirmed(1)
    honest = [reversed_(2, ride, minor=1000, before=100), reversed_(3, ride, minor=500, before=1100)]
    assert check(statement({DAY: honest}, before=simple()).small(), tmp_path).faults == ()
    other = confirmed(7) | {"event_id": "evt_0001"}
    mixed = [honest[0], reversed_(3, other, minor=500)]
    assert "that of another redemption's reversal" in faults(statement({DAY: mixed}, before=simple()), tmp_path)


def test_a_reversal_before_its_redemption_is_refused(tmp_path: Path) -> None:
    ride = confirmed(1)
    assert "it stands before the redemption that it reverses" in faults(
        simple(reversed_(2, ride, minor=1998), ride), tmp_path
    )


def test_the_same_event_twice_is_refused(tmp_path: Path) -> None:
    seen = drafts.event(3, "claim.owned", amount=0, data={})
    assert "event evt_0003 (number 3): its event_id is there twice" in faults(simple(seen, seen), tmp_path)


def test_the_same_redemption_confirmed_by_two_events_is_refused(tmp_path: Path) -> None:
    second = confirmed(1) | {"event_id": "evt_0002"}
    assert "event evt_0002 (number 3): its redemption is confirmed a second time" in faults(
        simple(confirmed(1), second), tmp_path
    )


# --- what capped parties have funded ----------------------------------------------------------------------------------
@pytest.mark.parametrize("left", [-1, 3001, None, "7", True])
def test_what_a_capped_party_had_left_is_between_nothing_and_its_cap(tmp_path: Path, left: Any) -> None:
    event = confirmed(1, discount="tenth", order=1000)
    made = simple(event, told=at(1, put("data", "cap_left_minor", {"partner": left})))
    assert "cap_left_minor of partner is" in faults(made, tmp_path)


@pytest.mark.parametrize("left", [0, 1599, 1601, 3000])
def test_a_cap_that_is_not_moved_by_what_was_funded_is_refused(tmp_path: Path, left: int) -> None:
    """1,400 of 3,000 were funded by the redemption before."""
    first = confirmed(1, discount="tenth", order=21_000)
    used = first["data"]["legs"]["partner"]
    wrong = left + (1400 - used)
    made = simple(first, confirmed(2, discount="tenth", order=9000, cap=wrong))
    assert f"evt_0002 (number 3): cap_left_minor of partner is {wrong}, expected {3000 - used}" in faults(
        made, tmp_path
    )
    honest = simple(first, confirmed(2, discount="tenth", order=9000, cap=3000 - used))
    assert check(honest.small(), tmp_path).faults == ()
