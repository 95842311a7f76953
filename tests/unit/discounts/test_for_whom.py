"""For which orders and customers an offer is: one order takes one, and somebody has vouched for who takes it."""

import asyncio
from collections import Counter

import pytest

from gateway.database import Database
from gateway.discounts.limits import CustomerUnknown, OrderHasOffer
from gateway.discounts.model import Redemption
from gateway.discounts.redemption import HoldExpired
from gateway.partners.store import know_customers
from tests.desks import (
    LATE_MS,
    NOW_MS,
    ONE_FEN,
    TEN_OFF,
    confirm,
    contract,
    counters,
    desk_with,
    events,
    hold,
    release,
    reverse,
)


async def test_one_order_takes_one_offer_until_it_is_given_back(database: Database) -> None:
    desk = desk_with(database, contract(ONE_FEN, TEN_OFF))
    held = await hold(desk, 1200, order="o")
    for offer in ("ten", "first-park"):
        with pytest.raises(OrderHasOffer):
            await hold(desk, 1200, offer=offer, order="o")
    await release(desk, held)
    second = await hold(desk, 1200, offer="ten", order="o")
    await desk.expire_holds_due(LATE_MS)
    with pytest.raises(HoldExpired):
        await confirm(desk, second)
    third = await confirm(desk, await hold(desk, 1200, order="o"))
    await reverse(desk, third, third.discount_minor)
    with pytest.raises(OrderHasOffer):
        await hold(desk, 1200, order="o")
    assert len(await events(database, "redemption.confirmed")) == 1


async def test_one_order_takes_one_offer_within_a_batch_and_its_refusals_take_nothing(database: Database) -> None:
    desk = desk_with(database, contract(ONE_FEN, TEN_OFF))
    tries = (hold(desk, 1200, order="o", offer=offer) for offer in ("ten", "first-park") * 8)
    answers = await asyncio.gather(*tries, return_exceptions=True)
    assert Counter(type(answer) for answer in answers) == {Redemption: 1, OrderHasOffer: 15}
    assert (await counters(database))["budget|parkco-2026|first-park|CNY"] == (0, 0, 0)


async def test_one_order_takes_one_offer_across_workers(database: Database) -> None:
    """Offers of two campaigns have no counter in common, so that only the order itself stands between the workers."""
    terms = contract(ONE_FEN, TEN_OFF)
    workers = [desk_with(database, terms) for _ in range(4)]
    for number in range(25):
        tries = (
            hold(desk, 1200, order=f"o{number}", offer=offer)
            for desk, offer in zip(workers, ("ten", "first-park") * 2, strict=True)
        )
        answers = await asyncio.gather(*tries, return_exceptions=True)
        assert Counter(type(answer) for answer in answers) == {Redemption: 1, OrderHasOffer: 3}


async def test_one_key_for_two_confirmations_at_once_is_one_confirmation(database: Database) -> None:
    workers = [desk_with(database, contract(ONE_FEN)) for _ in range(2)]
    for number in range(10):
        holds = [await hold(desk, 1200) for desk in workers]
        tries = (confirm(desk, held, key=f"c{number}") for desk, held in zip(workers, holds, strict=True))
        answers = await asyncio.gather(*tries, return_exceptions=True)
        assert not [answer for answer in answers if not isinstance(answer, Redemption)], answers
    assert len(await events(database, "redemption.confirmed")) == 10


# --- known customers -------------------------------------------------------------------------------------------------
async def test_two_hundred_invented_customers_get_nothing(database: Database) -> None:
    desk = desk_with(database, contract(ONE_FEN, unknown_customer="refuse"))
    tries = (hold(desk, 1200, subject_token=f"idt_1_invented{number}") for number in range(200))
    answers = await asyncio.gather(*tries, return_exceptions=True)
    assert Counter(type(answer) for answer in answers) == {CustomerUnknown: 200}
    assert (await counters(database))["budget|parkco-2026|first-park|CNY"] == (0, 0, 0)


async def test_a_customer_is_known_to_the_partner_that_somebody_vouched_to(database: Database) -> None:
    desk = desk_with(database, contract(ONE_FEN, unknown_customer="refuse"))
    async with database.transaction() as conn:
        await know_customers(
            conn, [("parkco", "idt_1_mine"), ("shopco", "idt_1_theirs")], source="batch", now_ms=NOW_MS
        )
    tries = (hold(desk, 1200, subject_token=token) for token in ("idt_1_mine", "idt_1_theirs", None))
    answers = await asyncio.gather(*tries, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Redemption, CustomerUnknown, Redemption]


async def test_a_contract_may_take_any_customer(database: Database) -> None:
    desk = desk_with(database, contract(ONE_FEN, unknown_customer="allow"))
    assert (await hold(desk, 1200, subject_token="idt_1_nobody")).granted_minor == 1199
