"""Faults under load, audited: nothing is lost, nothing done twice, nobody told 500 (docs/reliability.md)."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.drills.faults import DRILLS, Drill
from tests.drills.ground import Ground
from tests.drills.journal import Entry, Heard, Journal
from tests.drills.runner import Result, carry_out, ground_for, may_mount

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


@pytest.fixture(scope="module")
async def ground() -> AsyncIterator[Ground]:
    """One gateway for the drills that leave it well."""
    async with ground_for() as opened:
        yield opened


def green(result: Result) -> None:
    assert (result.void, result.found) == ("", ())


@pytest.mark.parametrize("drill", [drill for drill in DRILLS if drill.short], ids=lambda drill: drill.name)
async def test_a_fault_under_load_loses_nothing_and_doubles_nothing(ground: Ground, drill: Drill) -> None:
    green(await carry_out(drill, ground))


@pytest.mark.long
@pytest.mark.parametrize("drill", [drill for drill in DRILLS if not drill.short], ids=lambda drill: drill.name)
async def test_a_longer_fault_under_load_loses_nothing_and_doubles_nothing(drill: Drill) -> None:
    if drill.alone == "tmpfs" and not may_mount():
        pytest.skip("this machine lets nobody mount a file system")
    async with ground_for(drill.alone) as opened:
        green(await carry_out(drill, opened))


def test_the_table_has_a_line_for_each_drill_and_none_that_is_red_or_void() -> None:
    lines = re.findall(r"^\| ([^|]+) \|.*\| (\w+) \|$", PAGE.read_text(), re.MULTILINE)
    told = dict(lines)
    assert {drill.name for drill in DRILLS} <= told.keys()
    assert {told[drill.name] for drill in DRILLS} == {"green"}


def test_a_journal_tells_what_met_a_fault_and_how_long_nobody_was_served() -> None:
    heard = [Heard(0.0, 0.5, 201), Heard(0.5, 2.0, "ReadError"), Heard(2.0, 4.0, 503), Heard(4.0, 5.0, 201)]
    journal = Journal([Entry("hold", "a", "POST", "/", {}, heard)])
    assert len(journal.within(1.0, 3.0)) == 2
    assert journal.longest_without_service_s(0.0, 5.5) == 4.5
    assert journal.resets() == 1
    assert journal.entries[0].was_hit
