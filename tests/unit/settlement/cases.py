"""Statements that several tests of the verifier begin with, and how they are checked."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateway.settlement.verify import FileReport, verify_files
from tests.unit.settlement import drafts
from tests.unit.settlement.drafts import Json, confirmed, effective, goal, reversed_
from tests.unit.settlement.statements import Statement, statement

DAY, NEXT, LAST = "2025-01-02", "2025-01-03", "2025-01-04"
PINNED = {"keys": [drafts.SIGNATORY.jwk]}


def busy_days() -> dict[str, list[Json]]:
    """Two days with every kind of line, and one without events."""
    ride, tenth = confirmed(1), confirmed(2, discount="tenth", order=19_999)
    back, rest = reversed_(3, ride, minor=1000), reversed_(4, ride, minor=998, before=1000)
    cards = [goal(5), goal(6), goal(7)]
    spends = [goal(n, "SPEND", spend=9000, subject_token="idt_a") for n in (8, 9)]
    late = goal(10, "SPEND", spend=9000, anchor=drafts.NOON - 31 * drafts.DAY_MS)
    free = goal(11, "ACCOUNT_OPENED", spend=1000)
    other = goal(12, "UNKNOWN")
    seen = drafts.event(13, "claim.owned", amount=0, data={}, contract=None, contract_version=None, currency=None)
    lunch = confirmed(16, discount="lunch", order=1200)
    lunch["data"] |= {"mcc": "5812", "site": "lot-1"}
    second = {"business_day": LAST}
    five, big = (
        confirmed(14, discount="five", order=5000, **second),
        confirmed(15, discount="big", order=1000, **second),
    )
    more = [goal(n, "SPEND", spend=9000, subject_token=f"idt_{n}", **second) for n in range(20, 26)]
    rest_of_cap = confirmed(17, discount="tenth", order=50_000, cap=3000 - tenth["data"]["legs"]["partner"], **second)
    none_left = confirmed(18, discount="tenth", order=50_000, cap=0, **second)
    first = [effective(0), ride, tenth, back, rest, *cards, *spends, late, free, other, seen, lunch]
    return {DAY: first, NEXT: [], LAST: [five, big, *more, rest_of_cap, none_left]}


def busy(**changes: Any) -> Statement:
    return statement(busy_days(), **changes)


def simple(*events: Json, **more: Any) -> Statement:
    """One day, begun with the contract's first version."""
    return statement({DAY: [effective(0), *events]}, **more)


def check(raw: bytes, folder: Path, *, jwks: Any = PINNED, **more: Any) -> FileReport:
    path = folder / "statement.json"
    path.write_bytes(raw)
    return verify_files([path], jwks=jwks, **({"workers": 1} | more)).files[0]


def faults(made: Statement, folder: Path) -> str:
    report = check(made.small(), folder)
    assert not report.accepted
    return "\n".join(report.faults)


def at(place: int, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A change of the thing at that place of a list."""

    def of_list(things: Any) -> None:
        if place < len(things):
            change(things[place])

    return of_list


def put(*path: Any) -> Callable[[Json], None]:
    """Sets what the last of `path` says at the place that the others lead to."""
    *way, last, value = path

    def change(of: Any) -> None:
        for step in way:
            of = of[step]
        of[last] = value

    return change


Lies = Mapping[str, tuple[Callable[[Any], Any], str]]


def lines_of(made: Statement) -> list[Json]:
    return [line for part in made.parts for line in json.loads(part).get("lines", [])]
