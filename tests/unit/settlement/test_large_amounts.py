"""The largest amounts that a request can say beside one-fen prices: exact in lines, totals, carry and proof."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.settlement.calculation import Opening
from gateway.settlement.verify import verify_files
from tests.unit.settlement import made
from tests.unit.settlement.made import Record

MOST = 10**15  # minor units: thirteen digits before the point


def terms(most: int) -> dict[str, Any]:
    return {
        "discount": [
            {"id": "all", "title": "a", "kind": "percent_off", "bps": 10_000, "fund": made.SIXTY_FORTY},
            {"id": "fen", "title": "f", "kind": "cap_price", "pay_minor": 1, "fund": made.SIXTY_FORTY},
            {"id": "capped", "title": "c", "kind": "percent_off", "bps": 9_999, "fund": [
                {"party": "bank", "bps": 5_000},
                {"party": "partner", "bps": 5_000, "cap_minor": MOST, "overflow": "bank"}]},
        ],
        "commission": [
            {"goal": "CARD_ACTIVATED", "kind": "CPA", "tiers": "marginal", "period": "month",
             "steps": [{"from": 0, "minor": most}, {"from": 1, "minor": 1}]},
            {"goal": "SPEND", "kind": "CPS", "bps": 9_999, "cap_per_customer_minor": MOST, "window": "30d"},
        ],
        "settle": {"min_pay_minor": MOST},
    }  # fmt: skip


def record_of(sizes: list[int], *, most: int) -> Record:
    record = Record()
    record.effective(made.contract(terms=terms(most)))
    for size in sizes:
        for discount in ("all", "fen", "capped"):
            confirmed = record.redeem(discount, size)
            if confirmed is not None:
                record.reverse(confirmed, confirmed["data"]["discount_minor"] // 3)
        record.goal("SPEND", spend=size, token="idt_1_rich")
        record.goal("CARD_ACTIVATED")
    return record


@pytest.mark.parametrize("most", [MOST, 10**12])
def test_statements_over_the_largest_and_the_smallest_amounts_are_exact_and_verify(tmp_path: Path, most: int) -> None:
    """Two statements, so that what is carried, capped and reversed runs on between them."""
    record = record_of([2, most, 10**11, 10**11 + 1, 3, most - 1], most=most)
    first_events = len(record.events)
    record.next_day()
    for size in (2, 2, 2, 10**11, most):
        record.redeem("fen", size)
        record.goal("SPEND", spend=size, token="idt_1_rich")
    lines, state = made.folded(record.events[:first_events], record.contracts)
    more, _ = made.folded(record.events[first_events:], record.contracts, state)
    days = made.sealed_days(tmp_path, record.events)
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    one = made.statement(tmp_path / "1", [], record.terms, days=days[:1])
    previous = {"number": 1, "sha256": one.sha256.hex(), "statement_id": "stm_1"}
    accrued = dict(each for batch in one.accrued_changes() for each in batch)
    two = made.statement(
        tmp_path / "2", [], record.terms, days=days[1:], opening=Opening.from_members(one.closing.members()),
        accrued=accrued, number=2, previous=previous,
    )  # fmt: skip
    assert (made.lines_of(one), made.lines_of(two)) == (lines, more)
    carried = 0
    for written, expected in ((one, lines), (two, more)):
        totals = written.totals.members()
        assert totals["net_minor"] == sum(line["amount_minor"] for line in expected)
        assert totals["carried_in_minor"] == carried
        assert totals["payable_minor"] + totals["carried_out_minor"] == totals["net_minor"] + carried
        carried = totals["carried_out_minor"]
    assert max(abs(line["amount_minor"]) for line in lines) == most
    assert abs(carried) >= 10**11
    assert json.dumps(lines).count('"amount_minor": 1,') > 2
    report = verify_files([one.file, two.file], jwks={"keys": [made.PUBLIC]}, workers=1)
    assert report.accepted, [file.faults for file in report.files]
