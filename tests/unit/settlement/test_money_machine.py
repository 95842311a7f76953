"""Contracts, discounts, closings, statements and crashes in any order: at the end every reckoning says the same.

Driven by hypothesis: versions recorded in any order of start, redemptions and reversals, closings of any day (twice, of
the past, of the future), sealed files that are lost, cut, changed or extra, statements refused and asked for again, a
poisoned partner, versions that only a later program can read, and the back office killed with SIGKILL at any moment.
At the end of each run: the statements are the own reckoning (reckoner.py) and the book; the verifier accepts what was
issued and refuses a change of it; and nothing waits for anything poisoned.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import with_database
from tests.unit.settlement.money_rules import Money
from tests.unit.settlement.reckoner import Reckoner, Recorded, Redeemed

FUND = [{"party": "bank", "bps": 6000}, {"party": "partner", "bps": 4000}]
TERMS: dict[str, Any] = {
    "attribution": {"order": ["batch"], "exclusive_for": ["ACCOUNT_OPENED"]},
    "commission": [{"goal": "SPEND", "kind": "CPS", "bps": 100}],
    "discount": [{"id": "fen", "title": "f", "kind": "cap_price", "pay_minor": 1, "max_off_minor": 500, "fund": FUND}],
}
DEARER = TERMS | {"commission": [{"goal": "SPEND", "kind": "CPS", "bps": 300}]}
STATES = """SELECT state, jsonb_array_length(closing -> 'versions') AS versions FROM statement
    WHERE partner_id = 'metro' ORDER BY number"""


@asynccontextmanager
async def machine_over(server_url: str, template: str) -> AsyncIterator[type[Money]]:
    """The machine over databases of its own, which are dropped afterwards."""
    admin, names = await asyncpg.connect(server_url), list[str]()

    async def new_database() -> str:
        names.append(f"m_{os.urandom(6).hex()}")
        await admin.execute(f"CREATE DATABASE {names[-1]} TEMPLATE {template} STRATEGY file_copy")
        return with_database(server_url, names[-1])

    try:
        own = {"loop": asyncio.get_running_loop(), "new_database": staticmethod(new_database), "unreadable": Counter()}
        yield type("Money", (Money,), own)
    finally:
        for name in names:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def drive(server_url: str, template: str, *, runs: int, steps: int) -> Counter[str]:
    """What became of statements over a version that could not be read, by state."""
    limits = settings(
        max_examples=runs,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
        print_blob=True,
    )
    async with machine_over(server_url, template) as machine:
        await asyncio.to_thread(run_state_machine_as_test, machine, settings=limits)
        return machine.unreadable


async def test_statements_book_and_own_reckoning_agree_whatever_happens(server_url: str, bare_template: str) -> None:
    await drive(server_url, bare_template, runs=4, steps=12)


@pytest.mark.long
async def test_the_same_over_many_long_runs(server_url: str, bare_template: str) -> None:
    met = await drive(server_url, bare_template, runs=60, steps=40)
    assert min(met["CALCULATED"], met["FAILED"]) >= 10, f"statements over versions that cannot be read: {met}"


def a_version_comes_that_cannot_be_read(machine: type[Money]) -> None:
    """Steps of the machine in an order that meets it before its start, after it, and by a program that can read it."""
    money = machine()
    trade = {"offer": "fen", "order": 3000, "share": 100, "minutes": 0}
    settled = {"back": 0, "currency": "CNY"}
    money.agree(terms=TERMS, begun=10, lives=12345)
    money.redeem(**trade)
    money.agree_what_this_program_cannot_read(terms=DEARER, starts_in=2, currency="CNY")
    money.time_passes(days=1)
    money.redeem(**trade)
    money.tell_goals(which=list(range(6)))
    money.close(offset=0, twice=False)
    money.settle(ending="issue", **settled)
    money.time_passes(days=2)
    money.redeem(**trade)
    money.tell_goals(which=list(range(6)))
    money.close(offset=0, twice=False)
    money.settle(ending="issue", **settled)
    money.upgrade()
    money.redeem(**trade)
    money.teardown()


async def test_money_waits_from_the_start_of_a_version_that_cannot_be_read_and_none_is_lost(
    server_url: str, bare_template: str
) -> None:
    """It waited from the recording on; what was settled before the start, and after the upgrade, is the reckoning."""
    seen: list[list[tuple[str, int]]] = []
    async with machine_over(server_url, bare_template) as machine:

        class Watched(machine):  # type: ignore[misc, valid-type]
            def _settle_everything(self) -> None:
                super()._settle_everything()
                rows = self.run(self.bank.sql(STATES))
                seen.append([(row["state"], row["versions"]) for row in rows])

        await asyncio.to_thread(a_version_comes_that_cannot_be_read, Watched)
    assert seen == [[("ISSUED", 2), ("FAILED", None), ("ISSUED", 2)]]


def test_the_reckoner_knows_one_redemption_from_none() -> None:
    fund = [{"party": "bank", "bps": 10_000}]
    terms = {"contract": {"version": 1, "currency": "CNY"}, "discount": [{"id": "fen", "fund": fund}]}
    day = date(2026, 9, 23)
    own = Reckoner("CNY").take([Recorded(day, terms), Redeemed(day, "rdm_1", 1, "fen", 500, "k|rdm_1")])
    assert (own.period(day, day).net, own.period(date(2026, 9, 24), date.max).net) == (500, 0)
