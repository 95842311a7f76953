"""The verifier against a maker of its own: honest statements are accepted, every false fact is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.settlement.verify.accrued import Touched, Walk
from gateway.settlement.verify.documents import read_contracts
from tests.unit.settlement import drafts
from tests.unit.settlement.cases import DAY, LAST, Lies, at, busy, check, faults, put, simple
from tests.unit.settlement.drafts import Json, confirmed, effective, goal, later_version, reversed_
from tests.unit.settlement.statements import Statement, accrued_hash, accrued_proof, opening, place, statement


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
    lines = [each["amount_minor"] for each in _lines(made)]
    assert lines == [1998, -799, -1000, 400, -998, 399]
    assert check(made.small(), tmp_path).accepted


def _lines(made: Statement) -> list[Json]:
    return [line for part in made.parts for line in json.loads(part).get("lines", [])]


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


def test_ranks_and_customers_caps_run_on_through_a_new_version(tmp_path: Path) -> None:
    contract = later_version(2, valid_from="2025-01-03")
    spent = {"subject_token": "idt_a", "spend": 9000}
    first = [effective(0), effective(1, contract, recorded_at_ms=drafts.NOON + 9), goal(2), goal(3),
             goal(4, "SPEND", **spent)]  # fmt: skip
    later = {"business_day": LAST, "occurred_at_ms": drafts.NOON + 2 * drafts.DAY_MS, "contract_version": 2}
    second = [goal(5, **later), goal(6, "SPEND", **spent, **later), goal(7, "SPEND", **spent, **later)]
    made = statement({DAY: first, LAST: second}, contracts=[drafts.CONTRACT, contract])
    assert [line["amount_minor"] for line in _lines(made)] == [100, 100, 45, 300, 15, 0]
    assert check(made.small(), tmp_path).faults == ()


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
    "other-version": (put("contract_version", 2), "version 2 was not in force"),
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


# --- versions (§4) ----------------------------------------------------------------------------------------------------
NEXT_DAY = later_version(2, valid_from="2025-01-03")
RECORDED = drafts.NOON + 3_600_000


def _versions(second: Json = NEXT_DAY, *, recorded_at_ms: int = RECORDED, then: tuple[Json, ...] = (),
              first: tuple[Json, ...] = (), **more: Any) -> Statement:  # fmt: skip
    day = [effective(0), *first, effective(1, second, recorded_at_ms=recorded_at_ms)]
    return statement({DAY: day, LAST: list(then)}, contracts=[drafts.CONTRACT, second], **more)


def _later(number: int, version: int, **more: Any) -> Json:
    when = {"occurred_at_ms": drafts.NOON + 2 * drafts.DAY_MS, "business_day": LAST}
    return confirmed(number, contract_version=version, **(when | more))


def test_the_version_in_force_is_the_latest_known_whose_term_holds_the_instant(tmp_path: Path) -> None:
    assert (
        check(_versions(then=(_later(2, 2), _later(3, 1, occurred_at_ms=drafts.NOON))).small(), tmp_path).faults == ()
    )
    assert "evt_0002: it names version 1, but version 2 was in force" in faults(
        _versions(then=(_later(2, 1),)), tmp_path
    )
    early = _later(2, 2, business_day=DAY)
    assert "evt_0002: version 2 of the contract was not known before it" in faults(_versions(first=(early,)), tmp_path)
    before = _later(2, 1, business_day=DAY)
    assert check(_versions(first=(before,)).small(), tmp_path).faults == ()


@pytest.mark.parametrize("version", [2, 3, None])
def test_a_goal_under_a_foreign_version_is_refused_and_never_left_out(tmp_path: Path, version: int | None) -> None:
    made = _versions(first=(goal(5),), told=at(1, put("contract_version", version)))
    assert "event evt_0005: contract metro-2025 version" in faults(made, tmp_path)


RETROACTIVE: dict[str, tuple[Json, int, str]] = {
    "same-day": (later_version(2, valid_from="2025-01-02"), RECORDED, "which is not 60000 ms after it was recorded"),
    "in-the-past": (later_version(2, valid_from="2024-12-01"), RECORDED, "which is not 60000 ms after it was recorded"),
    "at-once": (NEXT_DAY, drafts.NOON + 12 * 3_600_000 - 59_999, "which is not 60000 ms after it was recorded"),
    "same-business-day": (later_version(2, valid_from="2025-01-02"), drafts.NOON - 13 * 3_600_000,
                          "is valid from 2025-01-02, recorded on 2025-01-02"),
}  # fmt: skip


@pytest.mark.parametrize(("contract", "recorded", "sentence"), RETROACTIVE.values(), ids=RETROACTIVE)
def test_a_version_that_reaches_back_is_refused(tmp_path: Path, contract: Json, recorded: int, sentence: str) -> None:
    assert sentence in faults(_versions(contract, recorded_at_ms=recorded), tmp_path)
    assert check(_versions(recorded_at_ms=drafts.NOON + 12 * 3_600_000 - 60_000).small(), tmp_path).faults == ()


EFFECTIVE_LIES: Lies = {
    "hash": (put("data", "sha256", "0" * 64), "evt_0000: sha256 is 0000"),
    "start": (put("data", "start_ms", 0), "start_ms is 0, expected"),
    "end": (put("data", "end_ms", 0), "end_ms is 0, expected"),
    "currency": (put("currency", "USD"), "currency is USD, expected CNY"),
    "amount": (put("amount_minor", 1), "amount_minor is 1, expected 0"),
    "version": (put("contract_version", 9), "version 9 is not among the contracts"),
    "contract": (put("contract", "bus"), "contract bus version 1 is not among the contracts"),
}


@pytest.mark.parametrize(("change", "sentence"), EFFECTIVE_LIES.values(), ids=EFFECTIVE_LIES)
def test_a_false_recording_of_a_version_is_refused(tmp_path: Path, change: Any, sentence: str) -> None:
    assert sentence in faults(simple(told=at(0, change)), tmp_path)


def test_versions_recorded_in_another_order_or_twice_or_never_are_refused(tmp_path: Path) -> None:
    both = [drafts.CONTRACT, NEXT_DAY]
    swapped = statement({DAY: [effective(1, NEXT_DAY), effective(0)]}, contracts=both)
    assert "version 1 of the contract is recorded after version 2" in faults(swapped, tmp_path)
    twice = statement({DAY: [effective(0), effective(1)]})
    assert "version 1 of the contract is recorded a second time" in faults(twice, tmp_path)
    never = statement({DAY: [effective(0)]}, contracts=both)
    assert "contracts: version 2 is not known at the closing" in faults(never, tmp_path)
    unsaid = statement({DAY: [confirmed(1)]})
    assert "evt_0001: version 1 of the contract was not known before it" in faults(unsaid, tmp_path)


def test_the_least_that_is_paid_is_that_of_the_last_day_and_not_of_next_year(tmp_path: Path) -> None:
    far = later_version(2, valid_from="2026-01-01", settle={"min_pay_minor": 10**9})
    made = _versions(far, first=(confirmed(2),))
    assert made.manifest["totals"]["payable_minor"] == sum(line["amount_minor"] for line in _lines(made)) > 0
    assert check(made.small(), tmp_path).faults == ()
    near = later_version(2, valid_from="2025-01-03", settle={"min_pay_minor": 10**9})
    held = _versions(near, first=(confirmed(2),))
    assert held.manifest["totals"]["carried_out_minor"] == made.manifest["totals"]["payable_minor"]
    assert check(held.small(), tmp_path).faults == ()


def test_an_event_of_another_currency_is_carried_along_unread_and_said(tmp_path: Path) -> None:
    report = check(simple(confirmed(1) | {"currency": "USD"}).small(), tmp_path)
    assert report.faults == ()
    assert report.lines == 0
    assert ("currencies", "USD 1") in report.notes


# --- lines --------------------------------------------------------------------------------------------------------
LINE_LIES: Lies = {
    "amount": (lambda lines: lines[10].update(amount_minor=99), "rank 2 of 2025-01 gives 300"),
    "rank": (lambda lines: lines[8].update(amount_minor=300), "evt_0005 (number 6): commission of CARD_ACTIVATED"),
    "cap": (lambda lines: lines[12].update(amount_minor=45), "(number 10): commission is 45, expected 15 of 45"),
    "window": (lambda lines: lines[13].update(amount_minor=45), "line 14 (event evt_0010): amount_minor is 45, "
               "expected 0"),
    "rounding": (lambda lines: lines[14].update(amount_minor=0), "line 15 (event evt_0011): amount_minor is 0"),
    "term": (lambda lines: lines[0].update(term="five"), "line 1: expected is discount_paid of event evt_0001"),
    "version": (lambda lines: lines[0].update(contract_version=2), "line 1: expected is discount_paid"),
    "left-out": (lambda lines: lines.pop(3), "line 4: expected"),
    "last-left-out": (lambda lines: lines.pop(), "expected is discount_funding of event evt_0018, found the end"),
    "invented": (lambda lines: lines.append(dict(lines[0])), "line 32: no event leads to it"),
    "swapped": (lambda lines: lines.insert(0, lines.pop(1)), "line 1: expected"),
    "id": (lambda lines: lines[0].update(event_id=[]), "is not JSON of the shape"),
    "members": (lambda lines: lines[0].update(number=1), "is not JSON of the shape"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "sentence"), LINE_LIES.values(), ids=LINE_LIES)
def test_a_false_line_is_refused_by_its_number(
    tmp_path: Path, change: Callable[[list[Json]], Any], sentence: str
) -> None:
    """Totals follow the lines."""
    assert sentence in faults(busy(lines=change), tmp_path)


# --- what customers accrued (§11) -----------------------------------------------------------------------------------
names = st.sets(st.integers(0, 60), max_size=20)


@given(names, names, st.data())
@settings(max_examples=60, deadline=None)
def test_the_accrued_walk_leads_to_the_roots_that_are_defined(before: set[int], asked: set[int], data: Any) -> None:
    minors = st.integers(1, 2**40)
    known = {f"c SPEND idt_{n}": data.draw(minors) for n in before}
    touched = sorted((f"c SPEND idt_{n}" for n in asked), key=place)
    after = known | {key: known.get(key, 0) + data.draw(st.integers(0, 5)) for key in touched}
    stream = (Touched(int(place(key), 2), known.get(key, 0), after[key]) for key in touched)
    proof = accrued_proof(known, touched)
    found = Walk(stream, iter(proof)).roots()
    assert found == (accrued_hash(known).hex(), accrued_hash(after).hex())


def _second(**changes: Any) -> Statement:
    """Customers of before and new ones, in a tree with others that nothing touches."""
    known = {f"metro-2025 SPEND idt_{n}": 50 for n in range(60)}
    start = opening(accrued={"root": accrued_hash(known).hex(), "size": 60},
                    versions=simple().manifest["closing"]["versions"])  # fmt: skip
    spends = [
        goal(100 + place, "SPEND", spend=9000, subject_token=f"idt_{n}")
        for place, n in enumerate((3, 30, 58, 61, 62, 3))
    ]
    return statement({DAY: spends}, start=start, accrued=known, **changes)


def test_caps_run_on_from_the_opening_by_a_proof(tmp_path: Path) -> None:
    made = _second()
    assert [line["amount_minor"] for line in _lines(made)] == [10, 10, 10, 45, 45, 0]
    assert made.manifest["closing"]["accrued"]["size"] == 62
    assert check(made.small(), tmp_path).faults == ()


def _hash_token(proof: list[Any]) -> int:
    return next(place for place, token in enumerate(proof) if isinstance(token, str) and len(token) == 64)


def _change_hash(parts: list[Json]) -> None:
    proof = parts[0]["proof"]
    proof[_hash_token(proof)] = "1" * 64


ACCRUED_LIES: Lies = {
    "before": (lambda parts: parts[0]["entries"][0].update(before=1), "expected"),
    "negative": (lambda parts: parts[0]["entries"][0].update(before=-1), "before is -1"),
    "hash": (_change_hash, "accrued: the proof begins at root"),
    "cut": (lambda parts: parts[0]["proof"].pop(), "the accrued proof ends before its token"),
    "more": (lambda parts: parts[0]["proof"].append(""), "nothing is left to be proved"),
    "null": (lambda parts: parts[0]["proof"].append(None), "null is no token"),
    "left-out": (lambda parts: parts[0]["entries"].pop(1), "no accrued entry of the file is that of its customer"),
    "swapped": (lambda parts: parts[0]["entries"].reverse(), "does not stand where its hash belongs"),
    "invented": (lambda parts: parts[0]["entries"].append({"before": 1, "key": "z"}), "z"),
    "members": (lambda parts: parts[0]["entries"][0].update(after=60), "an accrued entry has the members"),
    "token": (lambda parts: parts[0]["proof"].__setitem__(0, 7), "token 1 of the accrued proof is 7"),
    "no-part": (lambda parts: parts.pop(0), "no accrued entry of the file is that of its customer"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "sentence"), ACCRUED_LIES.values(), ids=ACCRUED_LIES)
def test_a_lie_about_what_customers_accrued_is_refused(tmp_path: Path, change: Any, sentence: str) -> None:
    assert sentence in faults(_second(part=change), tmp_path)


def test_a_closing_root_or_size_that_the_proof_does_not_lead_to_is_refused(tmp_path: Path) -> None:
    root = faults(_second(manifest=put("closing", "accrued", "root", "2" * 64)), tmp_path)
    assert "closing.accrued: root is 2222" in root
    size = faults(_second(manifest=put("closing", "accrued", "size", 63)), tmp_path)
    assert "closing.accrued: size is 63, expected 62" in size
    untouched = statement({DAY: []}, before=_second(), manifest=put("closing", "accrued", "size", 63))
    assert "closing.accrued: size is 63, expected 62" in faults(untouched, tmp_path)
