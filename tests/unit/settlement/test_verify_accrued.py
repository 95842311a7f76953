"""What customers have accrued under a cap, from the opening's root to the closing's by a proof (§11)."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.settlement.verify.accrued import Touched, Walk
from tests.unit.settlement.cases import DAY, Lies, check, faults, lines_of, put, simple
from tests.unit.settlement.drafts import Json, goal
from tests.unit.settlement.statements import Statement, accrued_hash, accrued_proof, opening, place, statement

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
    assert [line["amount_minor"] for line in lines_of(made)] == [10, 10, 10, 45, 45, 0]
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
