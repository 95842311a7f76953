"""Which version of the contract an event is under, and what it says then; lines that are not what events lead to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.settlement import drafts
from tests.unit.settlement.cases import DAY, LAST, Lies, at, busy, check, faults, lines_of, put, simple
from tests.unit.settlement.drafts import Json, confirmed, effective, goal, later_version
from tests.unit.settlement.statements import Statement, statement

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
    "version": (put("contract_version", 9), "contracts: version 9 of the contract, which starts at"),
    "contract": (put("contract", "bus"), "evt_0000: contract is bus, expected metro-2025"),
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
    never = statement({DAY: [effective(0)], LAST: []}, contracts=both)
    assert "contracts: version 2 is not known at the closing" in faults(never, tmp_path)
    unsaid = statement({DAY: [confirmed(1)]})
    assert "evt_0001: version 1 of the contract was not known before it" in faults(unsaid, tmp_path)


def test_the_least_that_is_paid_is_that_of_the_last_day_and_not_of_next_year(tmp_path: Path) -> None:
    far = later_version(2, valid_from="2026-01-01", settle={"min_pay_minor": 10**9})
    made = _versions(far, first=(confirmed(2),))
    assert made.manifest["totals"]["payable_minor"] == sum(line["amount_minor"] for line in lines_of(made)) > 0
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


def test_ranks_and_customers_caps_run_on_through_a_new_version(tmp_path: Path) -> None:
    contract = later_version(2, valid_from="2025-01-03")
    spent = {"subject_token": "idt_a", "spend": 9000}
    first = [effective(0), effective(1, contract, recorded_at_ms=drafts.NOON + 9), goal(2), goal(3),
             goal(4, "SPEND", **spent)]  # fmt: skip
    later = {"business_day": LAST, "occurred_at_ms": drafts.NOON + 2 * drafts.DAY_MS, "contract_version": 2}
    second = [goal(5, **later), goal(6, "SPEND", **spent, **later), goal(7, "SPEND", **spent, **later)]
    made = statement({DAY: first, LAST: second}, contracts=[drafts.CONTRACT, contract])
    assert [line["amount_minor"] for line in lines_of(made)] == [100, 100, 45, 300, 15, 0]
    assert check(made.small(), tmp_path).faults == ()


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
