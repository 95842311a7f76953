"""Contracts, discounts, closings, statements and crashes in any order: at the end every reckoning says the same.

Driven by hypothesis: versions recorded in any order of start, redemptions and reversals, closings of any day (twice, of
the past, of the future), sealed files that are lost, cut, changed or extra, statements refused and asked for again, a
poisoned partner, versions that only a later program can read, and the back office killed with SIGKILL at any moment.
At the end of each run: the statements are the own reckoning (reckoner.py) and the book; the verifier accepts what was
issued and refuses a change of it; and nothing waits for anything poisoned.
"""

import asyncio
import os
from datetime import date

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import with_database
from tests.unit.settlement.money_rules import Money
from tests.unit.settlement.reckoner import Reckoner, Recorded, Redeemed


async def drive(server_url: str, template: str, *, runs: int, steps: int) -> None:
    """The machine over databases of its own, which are dropped afterwards."""
    admin, names = await asyncpg.connect(server_url), list[str]()

    async def new_database() -> str:
        names.append(f"m_{os.urandom(6).hex()}")
        await admin.execute(f"CREATE DATABASE {names[-1]} TEMPLATE {template} STRATEGY file_copy")
        return with_database(server_url, names[-1])

    machine = type("Money", (Money,), {"loop": asyncio.get_running_loop(), "new_database": staticmethod(new_database)})
    limits = settings(
        max_examples=runs,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
        print_blob=True,
    )
    try:
        await asyncio.to_thread(run_state_machine_as_test, machine, settings=limits)
    finally:
        for name in names:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def test_statements_book_and_own_reckoning_agree_whatever_happens(server_url: str, bare_template: str) -> None:
    await drive(server_url, bare_template, runs=4, steps=12)


@pytest.mark.long
async def test_the_same_over_many_long_runs(server_url: str, bare_template: str) -> None:
    await drive(server_url, bare_template, runs=60, steps=40)


def test_the_reckoner_knows_one_redemption_from_none() -> None:
    fund = [{"party": "bank", "bps": 10_000}]
    terms = {"contract": {"version": 1, "currency": "CNY"}, "discount": [{"id": "fen", "fund": fund}]}
    day = date(2026, 9, 23)
    own = Reckoner("CNY").take([Recorded(day, terms), Redeemed(day, "rdm_1", 1, "fen", 500, "k|rdm_1")])
    assert (own.period(day, day).net, own.period(date(2026, 9, 24), date.max).net) == (500, 0)
