"""Statements that several tests begin with, honest and signed, and how they are spoiled and checked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.settlement.verify import FileReport, verify_files
from tests.unit.settlement import drafts
from tests.unit.settlement.drafts import Json, confirmed, goal, line, redemption_lines, reversed_

DAY = "2025-01-02"
MONTH = {"CARD_ACTIVATED 2025-01": 3}


def busy() -> Json:
    """Two days with every kind of line, and one without events."""
    ride, tenth = confirmed(1), confirmed(2, discount="tenth", order=19_999, cap=7)
    back, rest = reversed_(3, ride, minor=1000), reversed_(4, ride, minor=998, before=1000)
    cards = [goal(5), goal(6), goal(7, occurred_at_ms=drafts.NOON)]
    spends = [goal(n, "SPEND", spend=9000, subject_token="idt_a") for n in (8, 9)]
    late = goal(10, "SPEND", spend=9000, anchor=drafts.NOON - 31 * drafts.DAY_MS)
    free = goal(11, "ACCOUNT_OPENED", spend=1000)
    other = goal(12, "UNKNOWN")
    seen = drafts.event(13, "claim.owned", amount=0, data={}, contract=None, contract_version=None, currency=None)
    next_day = {"business_day": "2025-01-04"}
    five = confirmed(14, discount="five", order=5000, **next_day)
    big = confirmed(15, discount="big", order=1000, **next_day)
    first = drafts.sealed_day(DAY, [ride, tenth, back, rest, *cards, *spends, late, free, other, seen], others=4)
    empty = drafts.sealed_day("2025-01-03", [], previous=drafts.head_hash(first))
    last = drafts.sealed_day("2025-01-04", [five, big], previous=drafts.head_hash(empty), others=0)
    paid = [each for of in (ride, tenth, back, rest) for each in redemption_lines(of)]
    earned = zip([*cards, *spends, late, free], [100, 100, 300, 45, 15, 0, 1], strict=True)
    lines = [*paid, *(line(of, "commission", minor) for of, minor in earned)]
    lines += [*redemption_lines(five), *redemption_lines(big)]
    token = f"metro-2025 1 SPEND {late['subject_token']}"
    closing = {"ranks": MONTH, "accrued": {"metro-2025 1 SPEND idt_a": 60, token: 0}}
    return drafts.statement([first, empty, last], lines, closing=closing)


def simple(*events: Json, lines: list[Json] | None = None, **more: Any) -> Json:
    """One day of redemptions."""
    told = [each for of in events for each in redemption_lines(of)] if lines is None else lines
    return drafts.statement([drafts.sealed_day(DAY, events)], told, **({"closing": drafts.opening()} | more))


def check(raw: bytes, folder: Path, *, jwks: Any = None) -> FileReport:
    path = folder / "statement.json"
    path.write_bytes(raw)
    return verify_files([path], jwks=jwks).files[0]


def faults(document: Json, folder: Path) -> str:
    report = check(drafts.written(document), folder)
    assert not report.accepted
    return "\n".join(report.faults)


def spoiled(change: Callable[[Json], Any], make: Callable[[], Json] = lambda: confirmed(1)) -> Json:
    """A statement that is right but for one thing in its first event."""
    event = make()
    lines = redemption_lines(event)
    return simple(drafts.changed(event, change), lines=lines)


def put(*path: Any) -> Callable[[Json], None]:
    """Sets what the last of `path` says at the place that the others lead to."""
    *way, last, value = path

    def change(of: Any) -> None:
        for step in way:
            of = of[step]
        of[last] = value

    return change
