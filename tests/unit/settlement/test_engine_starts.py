"""A version that this program cannot read stops settlement from its start on, and not from its recording on."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.settlement.calculation import FactsDisagree, Opening
from gateway.settlement.verify import verify_files
from tests.unit.settlement import made
from tests.unit.settlement.made import DAY_MS, FIRST_DAY, NOON_MS, PUBLIC, Record

START_MS = NOON_MS + 12 * 3_600_000  # midnight after the first day, in Shanghai
OTHER_GOALS = {"commission": [{"goal": "ACCOUNT_OPENED", "kind": "CPS", "bps": 20}]}


def two_versions() -> Record:
    """The second starts on the next day; the first is what an older program can read."""
    record = made.started()
    record.goal("ACCOUNT_OPENED", spend=100_000)
    record.effective(made.contract(2, terms=OTHER_GOALS, valid_from=(FIRST_DAY + timedelta(days=1)).isoformat()))
    record.goal("ACCOUNT_OPENED", spend=100_000)
    return record


def on(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def test_a_recorded_version_that_cannot_be_read_changes_nothing_before_its_start(tmp_path: Path) -> None:
    """Who can read it and who cannot write the same statement, byte for byte."""
    record = two_versions()
    days = made.sealed_days(tmp_path, record.events)
    older = made.statement(on(tmp_path, "older"), [], record.terms[:1], days=days, signature="a..b")
    newer = made.statement(on(tmp_path, "newer"), [], record.terms, days=days, signature="a..b")
    assert older.sha256 == newer.sha256
    assert older.totals.net_minor == 200
    manifest = json.loads(older.file.read_bytes())["manifest"]
    assert [each["contract"]["version"] for each in manifest["contracts"]] == [1]
    assert [(each["version"], each["start_ms"]) for each in manifest["closing"]["versions"]][1] == (2, START_MS)
    signed = made.statement(on(tmp_path, "signed"), record.events, record.terms[:1])
    assert [file.faults for file in verify_files([signed.file], jwks={"keys": [PUBLIC]}).files] == [()]


def test_from_its_start_on_nothing_is_settled_without_it(tmp_path: Path) -> None:
    record = two_versions()
    days = [*made.sealed_days(tmp_path, record.events)]
    days.append(made.sealed(tmp_path, FIRST_DAY + timedelta(days=1), [], previous=days[0].sealed.head_hash))
    with pytest.raises(FactsDisagree, match=r"version 2 of contract p-2026 starts at 2026-09-21T16:00:00\.000Z"):
        made.statement(tmp_path, [], record.terms[:1], days=days)
    assert made.statement(tmp_path, [], record.terms, days=days).totals.net_minor == 200


def test_a_fact_from_its_start_on_stops_a_statement_of_the_day_before(tmp_path: Path) -> None:
    """Moments may be a little ahead of the business day."""
    record = two_versions()
    record.goal("ACCOUNT_OPENED", spend=100_000, occurred_ms=START_MS - 1)
    assert made.statement(on(tmp_path, "1"), record.events, record.terms[:1]).totals.net_minor == 300
    goal = record.goal("ACCOUNT_OPENED", spend=100_000, occurred_ms=START_MS)
    assert goal is not None
    assert goal["contract_version"] == 2
    with pytest.raises(FactsDisagree, match="version 2 of contract p-2026 starts at"):
        made.statement(on(tmp_path, "2"), record.events, record.terms[:1])
    assert made.statement(on(tmp_path, "3"), record.events, record.terms).totals.net_minor == 500


def test_a_program_that_can_read_it_goes_on_where_the_older_one_stopped(tmp_path: Path) -> None:
    record = two_versions()
    split = len(record.events)
    one = made.statement(on(tmp_path, "1"), record.events, record.terms[:1])
    record.next_day()
    record.goal("ACCOUNT_OPENED", spend=100_000)
    opening = Opening.from_members(json.loads(json.dumps(one.closing.members())))
    follows: dict[str, Any] = {"opening": opening, "number": 2}
    days = made.sealed_days(tmp_path, record.events)[1:]
    assert days[0].sealed.day == FIRST_DAY + timedelta(days=1)
    previous = {"number": 1, "sha256": one.sha256.hex(), "statement_id": "stm_1"}
    two = made.statement(
        on(tmp_path, "2"), record.events[split:], record.terms, days=days, previous=previous, **follows
    )
    assert two.totals.net_minor == 200
    manifest = json.loads(two.file.read_bytes())["manifest"]
    assert [each["contract"]["version"] for each in manifest["contracts"]] == [1, 2]
    report = verify_files([one.file, two.file], jwks={"keys": [PUBLIC]})
    assert [file.faults for file in report.files] == [(), ()]
    assert [each.version for each in two.closing.versions] == [1, 2]


def test_a_version_that_does_not_say_when_it_starts_is_no_version(tmp_path: Path) -> None:
    for name, value in (("start_ms", None), ("end_ms", START_MS), ("sha256", "x"), ("sha256", None)):
        record = two_versions()
        record.events[2]["data"][name] = value
        with pytest.raises(FactsDisagree, match="event evt_2: it does not tell the document of p-2026 version 2"):
            made.statement(tmp_path, record.events, record.terms[:1])


def test_a_document_that_another_opening_knew_is_refused(tmp_path: Path) -> None:
    record = two_versions()
    closing = made.statement(on(tmp_path, "1"), record.events, record.terms[:1]).closing
    other = closing.members()
    other["versions"][1]["start_ms"] += DAY_MS
    with pytest.raises(FactsDisagree, match="no document fits p-2026 version 2, which the opening knows"):
        made.statement(on(tmp_path, "2"), [], record.terms, opening=Opening.from_members(other))
