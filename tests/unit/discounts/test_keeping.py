"""How redemptions, their counters and their times are kept: few rows, few versions, and no time for ever."""

import asyncio
import re
from collections import Counter
from typing import Any

from gateway.database import Database
from gateway.discounts.limits import OfferExhausted
from tests.desks import NOW_MS, confirm, counters, desk_with, hold, release
from tests.unit.discounts.test_desk import BUDGET, limited, refusal_of


async def test_a_new_counter_stands_at_what_was_granted_not_at_what_its_batch_wanted(database: Database) -> None:
    desk = desk_with(database, limited(budget_minor=2398, per_customer=5))
    answers = await asyncio.gather(*(refusal_of(hold(desk, 1200)) for _ in range(4)))
    assert Counter(type(answer) for answer in answers) == {type(None): 2, OfferExhausted: 2}
    taken = {name: taken for name, (taken, _, _) in (await counters(database)).items()}
    assert taken[BUDGET] == 2398
    assert taken["customer|parkco-2026|first-park|idt_1_a"] == 2


async def test_a_redemption_gives_back_to_the_counters_that_it_names_in_short(database: Database) -> None:
    desk = desk_with(database, limited(budget_minor=5000, per_customer=1, per_plate_day=1))
    held = await hold(desk, 1200, plate_digest="p")
    async with database.connection() as conn:
        stored = await conn.fetchval("SELECT counter_names FROM redemption")
    assert stored == ["budget", "day|2026-09-21", "customer", "plate|p|2026-09-21"]
    assert (await desk.find("parkco", held.redemption_id)).takes == held.takes
    await release(desk, held)
    assert {taken for taken, _, _ in (await counters(database)).values()} == {0}


async def test_the_time_of_a_hold_is_forgotten_once_it_has_come_whatever_became_of_the_hold(database: Database) -> None:
    desk = desk_with(database, limited(budget_minor=5000))
    await hold(desk, 1200)
    await confirm(desk, await hold(desk, 1200))
    assert await desk.expire_holds_due(NOW_MS + 899_999) == 0
    assert await times_of_holds(database) == 2, "neither's time has come"
    assert await desk.expire_holds_due(NOW_MS + 900_000) == 1
    assert await desk.expire_holds_due(NOW_MS + 900_000) == 0
    assert await times_of_holds(database) == 0


async def times_of_holds(database: Database) -> int:
    async with database.connection() as conn:
        return int(await conn.fetchval("SELECT count(*) FROM hold_due"))


async def test_no_index_of_redemptions_hears_of_a_confirmation(database: Database) -> None:
    """Else each one writes every index again, and its new version leaves its page."""
    desk = desk_with(database, limited(budget_minor=5000))
    held = await hold(desk, 1200)
    before = await row_of(database)
    await confirm(desk, held, order_minor=1100)
    after = await row_of(database)
    changed = {column for column in after if after[column] != before[column]}
    assert {"state", "funding", "discount_minor"} <= changed
    async with database.connection() as conn:
        rows = await conn.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = 'redemption'")
    for (definition,) in rows:
        assert not changed & set(re.findall(r"\w+", definition.partition("USING")[2])), definition


async def row_of(database: Database) -> dict[str, Any]:
    async with database.connection() as conn:
        return dict(await conn.fetchrow("SELECT * FROM redemption"))
