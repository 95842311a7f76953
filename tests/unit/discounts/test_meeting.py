"""Batches of several workers that meet at a key, an order or a lock."""

import asyncpg
import pytest

from gateway.discounts.batches import raced


@pytest.mark.parametrize("meeting", [asyncpg.DeadlockDetectedError, asyncpg.UniqueViolationError])
async def test_a_batch_that_gave_way_to_another_comes_again(meeting: type[Exception]) -> None:
    tries = iter([meeting(), meeting(), None])

    async def attempt() -> str:
        failure = next(tries)
        if failure is not None:
            raise failure
        return "decided"

    assert await raced(attempt) == "decided"
