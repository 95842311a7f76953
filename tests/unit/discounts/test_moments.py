"""A step's first answer and its repeat tell the same, whatever moments its batch's other steps came at."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway.database import Database
from gateway.discounts.model import Redemption
from tests.desks import NOW_MS, ONE_FEN, confirm, contract, desk_with, hold, release, reverse

SPREADS = ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [0, 0, 7, 0, 7, 1], [3, 900, 3, 0, 899, 1])  # ms after the first


@pytest.mark.parametrize("spread", SPREADS, ids=str)
async def test_the_first_answer_of_a_step_and_its_repeat_tell_the_same_moments(
    database: Database, spread: Sequence[int]
) -> None:
    desk = desk_with(database, contract(ONE_FEN))
    held = await asyncio.gather(*(hold(desk, 1001) for _ in spread))

    async def step(number: int, later_ms: int) -> Redemption:
        """The first leads a batch of its own; all the others are gathered into the next one."""
        taken = release if number % 2 else confirm
        return await taken(desk, held[number], key=f"k{number}", now_ms=NOW_MS + later_ms)

    first = await asyncio.gather(*(step(number, later_ms) for number, later_ms in enumerate(spread)))
    for number, told in enumerate(first):
        assert await step(number, spread[number] + 5_000) == told  # a retry comes later
        assert await desk.find("parkco", told.redemption_id) == told


async def test_a_reversal_tells_the_moments_that_are_kept(database: Database) -> None:
    desk = desk_with(database, contract(ONE_FEN))
    done = [await confirm(desk, await hold(desk, 1001)) for _ in range(3)]
    told = await asyncio.gather(
        *(reverse(desk, one, 100, key=f"k{n}", now_ms=NOW_MS + n) for n, one in enumerate(done))
    )
    for one in told:
        assert await desk.find("parkco", one.redemption_id) == one
