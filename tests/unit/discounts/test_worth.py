"""A redemption is worth what the contract says: what is asked again, whose room is taken when, and for whom it is."""

import asyncio
from functools import partial
from typing import Any

import pytest

from gateway.database import Database
from gateway.discounts import redemption as rules
from gateway.discounts.batches import Step, step_batch
from gateway.discounts.conditions import OfferNotApplicable
from gateway.discounts.limits import OfferExhausted
from gateway.discounts.model import Redemption
from gateway.discounts.redemption import FinalOrder, HoldExpired, RedemptionBound
from gateway.ids import new_id
from gateway.money import CurrencyDiffers
from gateway.partners.occasion import UnknownSite
from gateway.partners.snapshot import TermsUnreadable
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

HOUR_MS = 3_600_000
FUND = "fund|parkco-2026|first-park|CNY|"


def capped(cap_minor: int, *, bps: int = 4000, version: int = 1, **head: Any) -> Any:
    fund = [{"party": "bank", "bps": 10_000 - bps},
            {"party": "partner", "bps": bps, "cap_minor": cap_minor, "overflow": "bank"}]  # fmt: skip
    return contract({**ONE_FEN, "fund": fund}, version=version, **head)


def legs(done: Redemption) -> dict[str, int]:
    assert done.funding is not None
    return dict(done.funding.legs)


# --- asked again -----------------------------------------------------------------------------------------------------
async def test_a_final_order_below_the_minimum_gets_nothing(database: Database) -> None:
    desk = desk_with(database, contract({**ONE_FEN, "when": {"min_minor": 1000}}))
    held = await hold(desk, 1200)
    with pytest.raises(OfferNotApplicable, match="min_minor"):
        await confirm(desk, held, order_minor=999)
    assert (await confirm(desk, held, order_minor=1000)).discount_minor == 999


async def test_a_final_order_at_another_site_is_asked_about_that_site(database: Database) -> None:
    desk = desk_with(database, contract({**ONE_FEN, "when": {"mcc": ["7523"], "site": ["lot-1", "lot-2"]}}))
    held = await hold(desk, 1200, site_id="lot-1", mcc="7523")
    for site_id, mcc in (("lot-3", "7523"), ("lot-2", "5812")):
        with pytest.raises(OfferNotApplicable):
            await confirm(desk, held, site_id=site_id, mcc_of=lambda _, mcc=mcc: mcc)
    done = await confirm(desk, held, site_id="lot-2", mcc_of=lambda _: "7523")
    assert (done.site_id, done.mcc) == ("lot-2", "7523")
    assert await desk.find("parkco", done.redemption_id) == done


async def test_a_site_that_is_not_the_partners_any_more_gets_nothing(database: Database) -> None:
    desk = desk_with(database, contract(ONE_FEN))
    held = await hold(desk, 1200, site_id="lot-1", mcc="7523")

    def gone(site_id: str) -> str:
        raise UnknownSite(site_id)

    with pytest.raises(UnknownSite):
        await confirm(desk, held, mcc_of=gone)


async def test_holding_at_21_59_keeps_the_offer(database: Database) -> None:
    until_ten = contract({**ONE_FEN, "when": {"time": "07:00-22:00", "weekday": [1]}})
    desk, at_21_59 = desk_with(database, until_ten), NOW_MS - 14 * 60_000  # NOW_MS is 22:13 in Shanghai
    for told_ms in (at_21_59, at_21_59 + 6 * 60_000):
        held = await hold(desk, 1200, now_ms=told_ms, occurred_at_ms=at_21_59)
        assert (await confirm(desk, held, now_ms=told_ms + 5 * 60_000)).discount_minor == 1199
    with pytest.raises(OfferNotApplicable, match="time"):
        await hold(desk, 1200)


async def test_a_redemption_stays_in_the_currency_of_its_hold(database: Database) -> None:
    desk = desk_with(database, contract(ONE_FEN))
    held = await hold(desk, 1200)
    with pytest.raises(CurrencyDiffers):
        await confirm(desk, held, order_minor=1200, currency="JPY")
    await confirm(desk, held)
    with pytest.raises(CurrencyDiffers):
        await reverse(desk, held, 100, currency="USD")
    assert await events(database, "redemption.reversed") == []


async def test_a_version_that_this_worker_has_not_read_yet_is_asked_for_again(database: Database) -> None:
    held = await hold(desk_with(database, contract(ONE_FEN), contract(ONE_FEN, version=2)), 1200)
    assert held.contract_version == 2
    with pytest.raises(TermsUnreadable):
        await confirm(desk_with(database, contract(ONE_FEN)), held)


# --- caps of funders -------------------------------------------------------------------------------------------------
async def test_a_partner_cannot_empty_its_own_cap_with_holds(database: Database) -> None:
    desk = desk_with(database, capped(400))
    squatting = [await hold(desk, 1001) for _ in range(20)]
    done = await confirm(desk, await hold(desk, 1001))
    assert legs(done) == {"bank": 600, "partner": 400}, "twenty holds have taken nothing of the partner's room"
    for held in squatting[:10]:
        await release(desk, held)
    await desk.expire_holds_due(LATE_MS)
    assert (await counters(database))[f"{FUND}partner"] == (400, 400, 0)
    assert legs(await confirm(desk, await hold(desk, 1001))) == {"bank": 1000, "partner": 0}


async def test_a_cap_is_shared_out_one_after_the_other_within_a_batch(database: Database) -> None:
    desk = desk_with(database, capped(1000))
    holds = [await hold(desk, 1001) for _ in range(4)]
    done = await asyncio.gather(*(confirm(desk, held) for held in holds))
    assert [legs(one)["partner"] for one in done] == [400, 400, 200, 0]
    assert [one.funding.cap_left for one in done] == [{"partner": left} for left in (1000, 600, 200, 0)]  # type: ignore[union-attr]


async def locked_out(database: Database, batch: "asyncio.Task[Any]", *, batches: int) -> None:
    """Wait until so many batches wait for a lock, or this one is through."""
    waits = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"
    async with database.connection() as conn:
        while not batch.done() and await conn.fetchval(waits) < batches:
            await asyncio.wait((batch,), timeout=0.01)


async def test_batches_of_two_workers_wait_for_each_other_and_never_in_a_ring(database: Database) -> None:
    """One asks a cap, and so locks its funder's counter before all others; both grant an offer that has none."""
    fund = [{"party": "bank", "bps": 6000}, {"party": "partner", "bps": 4000, "cap_minor": 1000, "overflow": "bank"}]
    terms = contract({**ONE_FEN, "fund": fund}, TEN_OFF)
    desk = desk_with(database, terms)
    await confirm(desk, await hold(desk, 1001, offer="ten"))  # its counters are there
    steps = []
    for offer in ("first-park", "ten", "ten"):
        held = await hold(desk, 1001, offer=offer)
        rule = partial(
            rules.confirm, final=FinalOrder(), charge_id=None, event_id=new_id("evt"), key="c", now_ms=NOW_MS
        )
        steps.append(Step("parkco", held.redemption_id, None, NOW_MS, rule, funds=True))
    async with asyncio.TaskGroup() as group:
        async with database.transaction() as conn:
            await conn.execute("SELECT FROM counter WHERE name = 'budget|parkco-2026|first-park|CNY' FOR UPDATE")
            one = group.create_task(step_batch(database, steps[:2], terms=lambda _: terms))
            await locked_out(database, one, batches=1)
            other = group.create_task(step_batch(database, steps[2:], terms=lambda _: terms))
            await locked_out(database, other, batches=2)
    assert [type(answer) for answer in (*one.result(), *other.result())] == [Redemption] * 3


async def test_a_reversal_gives_no_room_back(database: Database) -> None:
    desk = desk_with(database, capped(400))
    await reverse(desk, await confirm(desk, await hold(desk, 1001)), 1000)
    assert legs(await confirm(desk, await hold(desk, 1001))) == {"bank": 1000, "partner": 0}


async def test_a_cap_counts_what_was_funded_under_all_versions_that_have_one(database: Database) -> None:
    free = desk_with(database, contract(ONE_FEN))
    await confirm(free, await hold(free, 1001))
    capped_first = desk_with(database, capped(700, version=2))
    assert legs(await confirm(capped_first, await hold(capped_first, 1001))) == {"bank": 600, "partner": 400}
    later = desk_with(database, capped(700, version=3))
    assert legs(await confirm(later, await hold(later, 1001))) == {"bank": 700, "partner": 300}
    lowered = desk_with(database, capped(100, version=4))
    done = await confirm(lowered, await hold(lowered, 1001))
    assert done.funding.cap_left == {"partner": 0}, "never below nothing"  # type: ignore[union-attr]


async def test_what_overflows_to_a_party_counts_for_that_party(database: Database) -> None:
    desk = desk_with(database, capped(100))
    await confirm(desk, await hold(desk, 1001))
    found = await counters(database)
    assert (found[f"{FUND}partner"], found["share|parkco-2026|first-park|CNY|bank"]) == ((100, 100, 0), (900, 900, 0))


async def test_money_of_two_currencies_is_never_added_up(database: Database) -> None:
    limited = {**ONE_FEN, "max_off_minor": 1000, "limits": {"budget_minor": 1000}}
    yuan = desk_with(database, contract(limited))
    await confirm(yuan, await hold(yuan, 1001))
    with pytest.raises(OfferExhausted):
        await hold(yuan, 1001)
    yen = desk_with(database, contract(limited, version=2, currency="JPY"))
    done = await confirm(yen, await hold(yen, 1001, currency="JPY"), order_minor=1001, currency="JPY")
    assert done.discount_minor == 1000
    found = await counters(database)
    assert found["budget|parkco-2026|first-park|CNY"] == found["budget|parkco-2026|first-park|JPY"] == (1000, 1000, 0)


# --- a charge that is paid with it -----------------------------------------------------------------------------------
async def bound(database: Database, desk: Any, *, charge_id: str = "chg_1") -> Redemption:
    held = await hold(desk, 1001)
    async with database.transaction() as conn:
        await desk.bind(conn, held.redemption_id, charge_id=charge_id, now_ms=NOW_MS)
    return held


async def test_a_bound_hold_outlives_its_time_and_is_moved_by_its_charge_only(database: Database) -> None:
    desk = desk_with(database, contract(ONE_FEN))
    held = await bound(database, desk)
    assert await desk.expire_holds_due(LATE_MS + 1000 * HOUR_MS) == 0
    for step in (confirm(desk, held), release(desk, held), reverse(desk, held, 1)):
        with pytest.raises(RedemptionBound):
            await step
    for foreign in (desk.grant, desk.undo):
        with pytest.raises(RedemptionBound):
            await foreign("parkco", held.redemption_id, charge_id="chg_2", now_ms=LATE_MS)
    done = await desk.grant("parkco", held.redemption_id, charge_id="chg_1", now_ms=LATE_MS + HOUR_MS)
    assert (done.discount_minor, done.left_minor) == (1000, 1000)
    again = await desk.grant("parkco", held.redemption_id, charge_id="chg_1", now_ms=LATE_MS + HOUR_MS)
    assert again == done
    with pytest.raises(RedemptionBound):
        await reverse(desk, held, 1)
    assert len(await events(database, "redemption.confirmed")) == 1


async def test_what_is_undone_returns_from_wherever_it_stands(database: Database) -> None:
    desk = desk_with(database, contract(ONE_FEN))
    held = await bound(database, desk)
    undone = await desk.undo("parkco", held.redemption_id, charge_id="chg_1", now_ms=LATE_MS)
    assert (undone.state, undone.left_minor) == ("RELEASED", 0)
    paid = await bound(database, desk, charge_id="chg_2")
    await desk.grant("parkco", paid.redemption_id, charge_id="chg_2", now_ms=LATE_MS)
    for _ in range(2):
        undone = await desk.undo("parkco", paid.redemption_id, charge_id="chg_2", now_ms=LATE_MS)
        assert (undone.state, undone.left_minor) == ("REVERSED", 0)
    assert [event["amount_minor"] for event in await events(database, "redemption.reversed")] == [-1000]


async def test_a_hold_that_is_over_or_bound_is_not_bound_again(database: Database) -> None:
    desk = desk_with(database, contract(ONE_FEN))
    held, taken = await hold(desk, 1001), await bound(database, desk)
    async with database.transaction() as conn:
        for redemption_id, now_ms in ((held.redemption_id, LATE_MS), (taken.redemption_id, NOW_MS)):
            with pytest.raises(HoldExpired):
                await desk.bind(conn, redemption_id, charge_id="chg_3", now_ms=now_ms)


async def test_a_hold_whose_terms_cannot_be_read_is_given_back_all_the_same(database: Database) -> None:
    """Else the chore would meet it again in every run, and holds behind five hundred such would never expire."""
    known, unreading = desk_with(database, contract(ONE_FEN)), desk_with(database)
    await hold(known, 1001)
    released = await hold(known, 1001)
    assert (await release(unreading, released)).state == "RELEASED"
    assert await unreading.expire_holds_due(LATE_MS) == 1
    assert {taken for taken, _, _ in (await counters(database)).values()} == {0}
