"""Faults under load, audited: nothing is lost, nothing done twice, nobody told 500 (docs/reliability.md)."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import past_all_rules
from tests.drills.auditor import Auditor
from tests.drills.clients import Clients
from tests.drills.faults import DRILLS, DidNotBite, Drill
from tests.drills.ground import Ground
from tests.drills.journal import Entry, Heard, Journal
from tests.drills.runner import KINDS, Result, carry_out, denied, ground_for, may_mount
from tests.faults.serving import eventually

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


async def test_a_fault_that_is_not_to_be_seen_is_void(ground: Ground) -> None:
    async def do_nothing(_: Ground) -> str:
        raise DidNotBite("nothing happened")

    result = await carry_out(Drill("nothing", do_nothing), ground)
    assert (result.verdict, result.void, result.found) == ("void", "nothing happened", ())


async def test_an_auditor_finds_what_is_missing_in_the_books(ground: Ground) -> None:
    """Else each drill would be green whatever was lost."""
    async with ground.stage() as stage:
        clients = Clients(stage, Journal())
        await clients.prepare(ground.url)
        async with clients.at_work():
            await asyncio.to_thread(eventually, lambda: len(booked(clients)) > 1 and any(clients.journal.of("charge")))
        confirmed = booked(clients)
        async with ground.owner() as conn:
            assert await Auditor(clients, conn).audit(resets_allowed=False) == []
        async with past_all_rules(ground.url) as thief:
            await thief.execute("DELETE FROM ledger_entry WHERE cause = $1", f"redemption.confirmed:{confirmed[0]}")
            await thief.execute("UPDATE redemption SET state = 'HELD', discount_minor = 0, funding = NULL "
                                "WHERE redemption_id = $1", confirmed[1])  # fmt: skip
        async with ground.owner() as conn:
            found = await Auditor(clients, conn).audit(resets_allowed=False)
    assert any(confirmed[0] in sentence for sentence in found), found
    assert any(sentence.startswith("confirm was answered and is not in the books") for sentence in found), found


def booked(clients: Clients) -> list[str]:
    """The redemptions whose confirmation was answered with a yes."""
    return [entry.data["RedemptionId"] for entry in clients.journal.of("confirm") if entry.data]


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


def test_what_the_auditor_asks_again_is_no_sign_of_service_after_a_fault() -> None:
    journal = Journal(
        [Entry(kind, "a", "POST", "/", {}, [Heard(0.0, 0.5, 201), Heard(8.0, 9.0, 201)]) for kind in KINDS]
    )
    assert (denied(journal, since_s=0.0), denied(journal, since_s=5.0)) == ([], list(KINDS))


def test_a_refusal_for_its_moment_is_told_from_others() -> None:
    heard = [Heard(0.0, 0.5, 401, "invalid_dpop_proof"), Heard(0.5, 1.0, 409, "hold_expired"), Heard(1.0, 2.0, 201)]
    assert Journal([Entry("hold", "a", "POST", "/", {}, heard)]).untimely() == 1
