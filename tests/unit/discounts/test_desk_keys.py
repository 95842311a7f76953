"""The keys of holds and steps: the same request again is the same effect, another one is refused."""

import asyncio

from gateway.database import Database
from gateway.database.idempotency import IdempotencyKeyReused
from gateway.discounts.limits import OfferExhausted
from gateway.discounts.model import RedemptionState
from tests.desks import (
    BUDGET,
    confirm,
    counters,
    desk_with,
    events,
    hold,
    limited,
    refusal_of,
    release,
    reverse,
)


# --- keys ----------------------------------------------------------------------------------------------------------
async def test_a_repeated_hold_is_the_same_hold_and_takes_nothing_more(database: Database) -> None:
    desk = desk_with(database, limited(budget_minor=1199))
    first = await hold(desk, 1200, key="k")
    again = await asyncio.gather(*(hold(desk, 1200, key="k") for _ in range(5)))
    assert {answer.redemption_id for answer in again} == {first.redemption_id}
    assert (await counters(database))[BUDGET] == (1199, 0, 0)


async def test_the_same_key_twice_in_one_batch_is_one_hold(database: Database) -> None:
    desk = desk_with(database, limited(budget_minor=9000))
    answers = await asyncio.gather(*(hold(desk, 1200, key="k") for _ in range(8)))
    assert len({answer.redemption_id for answer in answers}) == 1
    assert (await counters(database))[BUDGET] == (1199, 0, 0)


async def test_a_key_with_another_request_is_refused(database: Database) -> None:
    desk = desk_with(database, limited())
    held = await hold(desk, 1200, key="k")
    assert isinstance(await refusal_of(hold(desk, 1300, key="k")), IdempotencyKeyReused)
    await confirm(desk, held, key="c")
    assert isinstance(await refusal_of(confirm(desk, held, order_minor=1000, key="c")), IdempotencyKeyReused)


async def test_a_refused_hold_leaves_its_key_free(database: Database) -> None:
    desk = desk_with(database, limited(budget_minor=1199))
    first = await hold(desk, 1200)
    assert isinstance(await refusal_of(hold(desk, 1200, key="k")), OfferExhausted)
    await release(desk, first)
    assert (await hold(desk, 1200, key="k")).state is RedemptionState.HELD


async def test_a_repeated_confirmation_books_once(database: Database) -> None:
    desk = desk_with(database, limited())
    held = await hold(desk, 1200)
    answers = await asyncio.gather(*(confirm(desk, held, key="c") for _ in range(4)))
    assert {answer.state for answer in answers} == {RedemptionState.CONFIRMED}
    assert len(await events(database, "redemption.confirmed")) == 1
    await reverse(desk, held, 1199, key="r")
    assert (await reverse(desk, held, 1199, key="r")).state is RedemptionState.REVERSED
    assert len(await events(database, "redemption.reversed")) == 1
