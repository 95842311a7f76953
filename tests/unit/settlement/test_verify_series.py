"""Several statements together: the chain that they claim to be."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.settlement.verify import Report, Unusable, verify_files
from tests.unit.settlement import drafts
from tests.unit.settlement.cases import PINNED, busy, busy_days, put
from tests.unit.settlement.drafts import Json, confirmed, goal
from tests.unit.settlement.statements import statement

LATER = [goal(40, business_day="2025-01-05"), confirmed(41, discount="five", business_day="2025-01-05")]


def chain(folder: Path, **changes: Any) -> Report:
    """Two statements; the second as it is after the changes."""
    one = busy()
    two = statement({"2025-01-05": LATER}, before=one, **changes)
    paths = [folder / "2.json", folder / "1.json"]
    paths[0].write_bytes(two.small())
    paths[1].write_bytes(one.small())
    return verify_files(paths, jwks=PINNED, workers=1)


def test_statements_that_follow_each_other_are_accepted_in_any_order(tmp_path: Path) -> None:
    report = chain(tmp_path)
    assert [file.faults for file in report.files] == [(), ()]
    assert report.accepted
    assert not any(kind == "rests" for file in report.files for kind, _ in file.notes)


CHAIN_LIES = {
    "sha256": (put("statement", "previous", "sha256", "0" * 64), "previous.sha256 is 000"),
    "id": (put("statement", "previous", "statement_id", "stm_x"), "previous.statement_id is stm_x"),
    "first-again": (put("statement", "previous", None), "the first statement opens with 0"),
    "ranks": (put("opening", "ranks", {}), "before).ranks: CARD_ACTIVATED 2025-01 is nothing, expected 3"),
    "carried": (put("opening", "carried_minor", 1), "carried_minor is 1, expected 0"),
    "funded": (put("opening", "funded", {}), "metro-2025 tenth partner is nothing, expected 3000"),
    "accrued": (put("opening", "accrued", "root", "1" * 64), "root is 111"),
    "overlap": (put("statement", "from_day", "2025-01-04"), "is not after the to_day 2025-01-04"),
    "heads": (lambda m: m["days"].__setitem__(0, drafts.sealed_day("2025-01-05", LATER)), "previous_head_hash is 000"),
}


@pytest.mark.parametrize(("change", "sentence"), CHAIN_LIES.values(), ids=CHAIN_LIES)
def test_a_statement_that_does_not_follow_is_refused(tmp_path: Path, change: Any, sentence: str) -> None:
    later, first = chain(tmp_path, manifest=change).files
    assert first.accepted
    assert sentence in "\n".join(later.faults)


def follow(folder: Path, first: list[Json], second: list[Json]) -> str:
    """What is wrong with the second of two honest-looking statements, given together."""
    one = statement({"2025-01-02": [drafts.effective(0), *first]})
    later = [each | {"business_day": "2025-01-05"} for each in second]
    two = statement({"2025-01-05": later}, before=one)
    for name, made in (("1.json", one), ("2.json", two)):
        (folder / name).write_bytes(made.small())
    assert verify_files([folder / "2.json"], jwks=PINNED).accepted  # alone there is nothing to see
    before, after = verify_files([folder / "1.json", folder / "2.json"], jwks=PINNED).files
    assert before.faults == ()
    return "\n".join(after.faults)


def test_what_an_earlier_statement_said_is_not_said_again_or_otherwise(tmp_path: Path) -> None:
    ride = confirmed(1)
    back = drafts.reversed_(2, ride, minor=500)
    assert follow(tmp_path, [ride, back], [drafts.reversed_(3, ride, minor=1498, before=500)]) == ""
    assert "event number 1: its event_id is there twice, the first time in an earlier" in follow(
        tmp_path, [confirmed(1)], [drafts.event(1, "claim.owned", amount=0, data={})]
    )
    again = confirmed(1) | {"event_id": "evt_0009"}
    assert "its redemption was confirmed in an earlier statement" in follow(tmp_path, [ride], [again])
    forgets = follow(tmp_path, [ride, back], [drafts.reversed_(3, ride, minor=1998)])
    assert "reversed_before_minor is 0, earlier statements have 500" in forgets
    other = confirmed(1, order=1500)
    foreign = follow(tmp_path, [ride], [drafts.reversed_(3, other, minor=1)])
    assert "is another one than its redemption has in an earlier statement" in foreign


def test_a_closing_before_that_is_no_object_ends_in_sentences(tmp_path: Path) -> None:
    before = busy(manifest=put("closing", []))
    (tmp_path / "1.json").write_bytes(before.small())
    after = statement({"2025-01-05": []}, before=busy())
    after.manifest["statement"]["previous"]["sha256"] = sha256(before.small()).hexdigest()
    (tmp_path / "2.json").write_bytes(after.small())
    first, second = verify_files([tmp_path / "1.json", tmp_path / "2.json"], workers=1).files
    assert "closing is [], expected" in "\n".join(first.faults)
    assert "opening (after the closing before) is" in "\n".join(second.faults)


def test_the_same_statement_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "1.json"
    path.write_bytes(busy().small())
    assert "it is there twice" in "\n".join(verify_files([path, path]).files[1].faults).replace("number 1", "it")


def test_a_later_statement_alone_says_what_it_rests_on(tmp_path: Path) -> None:
    chain(tmp_path)
    report = verify_files([tmp_path / "2.json"], jwks=PINNED)
    assert report.accepted
    assert ("rests", "stm_1 (1)") in report.files[0].notes


def test_a_statement_of_another_currency_carries_the_same_events(tmp_path: Path) -> None:
    """Its days, its leaves, its signed heads; none of its lines."""
    days: dict[str, list[Json]] = busy_days()
    (tmp_path / "cny.json").write_bytes(busy().small())
    (tmp_path / "usd.json").write_bytes(statement(days, currency="USD").small())
    report = verify_files([tmp_path / "cny.json", tmp_path / "usd.json"], jwks=PINNED, workers=1)
    assert [file.faults for file in report.files] == [(), ()]
    assert report.files[1].lines == 0


def test_a_path_that_is_no_file_is_unusable(tmp_path: Path) -> None:
    with pytest.raises(Unusable):
        verify_files([tmp_path / "\0"])
