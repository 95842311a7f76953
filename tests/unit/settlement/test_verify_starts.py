"""A version of the contract has its document in the file from its start on, not from its recording on (§12)."""

from pathlib import Path
from typing import Any

import pytest

from gateway.settlement.verify import verify_files
from tests.unit.settlement import drafts
from tests.unit.settlement.cases import DAY, LAST, PINNED, Lies, at, check, faults, put
from tests.unit.settlement.drafts import Json, confirmed, effective, later_version
from tests.unit.settlement.statements import Statement, known_version, opening, statement

NOON_MS = 1_735_819_200_000  # 2025-01-02T12:00:00Z
RECORDED = drafts.NOON + 1
TOMORROW = later_version(2, valid_from="2025-01-03")  # starts four hours after noon UTC of the first day
AUCKLAND = drafts.changed(TOMORROW, put("contract", "timezone", "Etc/GMT-12"))  # starts just at it


def recorded(second: Json = TOMORROW, *then: Json, **more: Any) -> Statement:
    """A day on which a later version is recorded."""
    day = [effective(0), confirmed(1), effective(2, second, recorded_at_ms=RECORDED), *then]
    return statement({DAY: day}, contracts=[drafts.CONTRACT, second], **more)


def has(document: Json) -> Any:
    return lambda manifest: manifest["contracts"].append(document)


def test_a_version_that_has_not_started_is_known_without_its_document(tmp_path: Path) -> None:
    made = recorded()
    assert [each["contract"]["version"] for each in made.manifest["contracts"]] == [1]
    assert made.manifest["closing"]["versions"][1]["start_ms"] == NOON_MS + 4 * 3_600_000
    assert check(made.small(), tmp_path).faults == ()
    assert "contracts: nothing depends on version 2 of the contract" in faults(
        recorded(manifest=has(TOMORROW)), tmp_path
    )


def test_a_version_that_starts_by_noon_utc_of_the_last_day_has_its_document(tmp_path: Path) -> None:
    made = recorded(AUCKLAND)
    assert known_version(AUCKLAND)["start_ms"] == NOON_MS
    assert len(made.manifest["contracts"]) == 2
    assert check(made.small(), tmp_path).faults == ()
    gone = recorded(AUCKLAND, manifest=lambda m: m["contracts"].pop())
    assert f"contracts: version 2 of the contract, which starts at {NOON_MS}, has no document" in faults(gone, tmp_path)


def test_an_event_from_the_start_of_a_version_without_document_on_is_named(tmp_path: Path) -> None:
    """Under the older version, or under the one that nobody can read here."""
    start_ms = NOON_MS + 4 * 3_600_000
    before, after = confirmed(3, occurred_at_ms=start_ms - 1), confirmed(3, occurred_at_ms=start_ms)
    assert check(recorded(TOMORROW, before).small(), tmp_path).faults == ()
    hidden = recorded(TOMORROW, after, manifest=lambda m: m["contracts"].pop())
    assert f"event evt_0003: it occurred at {start_ms}, and version 2 of the contract, which starts" in faults(
        hidden, tmp_path
    )
    named = recorded(TOMORROW, after | {"contract_version": 2}, manifest=lambda m: m["contracts"].pop())
    assert "event evt_0003: contract metro-2025 version 2 has no document in the file" in faults(named, tmp_path)
    other = recorded(TOMORROW, after | {"currency": "EUR"})  # another statement's, and so nothing for this one to read
    assert check(other.small(), tmp_path).faults == ()


def test_a_partner_whose_first_version_has_not_started_has_no_document_at_all(tmp_path: Path) -> None:
    assert check(statement({DAY: [effective(0, TOMORROW)]}, contracts=[TOMORROW]).small(), tmp_path).faults == ()


LIES: Lies = {
    "hash": (put("data", "sha256", "x"), "evt_0002: sha256 is x"),
    "no-hash": (lambda event: event["data"].pop("sha256"), "evt_0002: sha256 is None"),
    "start": (put("data", "start_ms", "0"), "evt_0002: start_ms is 0"),
    "true-start": (put("data", "start_ms", True), "evt_0002: start_ms is True"),
    "end": (put("data", "end_ms", NOON_MS), "evt_0002: end_ms is"),
    "currency": (put("currency", None), "evt_0002: currency is None"),
    "amount": (put("amount_minor", 1), "evt_0002: amount_minor is 1"),
    "version": (put("contract_version", 0), "evt_0002: contract_version is 0"),
    "no-version": (put("contract_version", None), "evt_0002: contract_version is None"),
    "contract": (put("contract", "bus"), "evt_0002: contract is bus, the partner's is metro-2025"),
    "no-contract": (put("contract", None), "evt_0002: contract is None"),
    "at-once": (put("recorded_at_ms", NOON_MS + 4 * 3_600_000 - 59_999), "is not 60000 ms after it was recorded"),
    "another-start": (put("data", "start_ms", NOON_MS + 9 * 3_600_000), "closing: versions is"),
    "another-hash": (put("data", "sha256", "0" * 64), "closing: versions is"),
}


@pytest.mark.parametrize(("change", "sentence"), LIES.values(), ids=LIES)
def test_a_false_recording_of_a_version_without_document_is_refused(tmp_path: Path, change: Any, sentence: str) -> None:
    assert sentence in faults(recorded(told=at(2, change)), tmp_path)


def test_versions_without_documents_are_recorded_in_order_and_once(tmp_path: Path) -> None:
    third = later_version(3, valid_from="2025-01-04")
    both = [drafts.CONTRACT, TOMORROW, third]
    made = [effective(n, each, recorded_at_ms=RECORDED) for n, each in enumerate((TOMORROW, third), 1)]
    assert check(statement({DAY: [effective(0), *made]}, contracts=both).small(), tmp_path).faults == ()
    swapped = statement({DAY: [effective(0), *made[::-1]]}, contracts=both)
    assert "version 2 of the contract is recorded after version 3" in faults(swapped, tmp_path)
    twice = statement({DAY: [effective(0), made[0], made[0] | {"event_id": "evt_9"}]}, contracts=both[:2])
    assert "version 2 of the contract is recorded a second time" in faults(twice, tmp_path)


def test_the_next_statement_has_the_document_that_was_recorded(tmp_path: Path) -> None:
    one = recorded()
    later = confirmed(4, contract_version=2, occurred_at_ms=NOON_MS + 2 * drafts.DAY_MS, business_day=LAST)
    two = statement({LAST: [later]}, before=one, contracts=[drafts.CONTRACT, TOMORROW])
    paths = [tmp_path / "1.json", tmp_path / "2.json"]
    for path, made in zip(paths, (one, two), strict=True):
        path.write_bytes(made.small())
    assert [file.faults for file in verify_files(paths, jwks=PINNED, workers=1).files] == [(), ()]


@pytest.mark.parametrize("member", ["start_ms", "sha256"])
def test_a_document_that_is_not_the_one_of_the_opening_is_refused(tmp_path: Path, member: str) -> None:
    known = [known_version(each) for each in (drafts.CONTRACT, TOMORROW)]
    known[1][member] = known[1]["start_ms"] - 1 if member == "start_ms" else "0" * 64
    made = statement({LAST: []}, start=opening(versions=known), contracts=[drafts.CONTRACT, TOMORROW])
    assert "opening: version 2 of metro-2025 is not that of the contracts" in faults(made, tmp_path)


def test_an_opening_of_several_contracts_is_refused(tmp_path: Path) -> None:
    known = [known_version(each) for each in (drafts.CONTRACT, later_version(2, valid_from="2026-01-01"))]
    known[1]["contract"] = "bus"
    made = statement({DAY: []}, start=opening(versions=known))
    assert "opening: versions are of several contracts: bus, metro-2025" in faults(made, tmp_path)
