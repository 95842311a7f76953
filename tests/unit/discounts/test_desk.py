"""The redemption desk over a real database: the life of a hold, its limits, its keys, and the book behind it."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from asyncpg import CheckViolationError

from gateway import metrics
from gateway.database import Database
from gateway.discounts import redemption as rules
from gateway.discounts.conditions import OfferNotApplicable
from gateway.discounts.desk import UnknownOffer
from gateway.discounts.limits import CustomerLimitReached, DayBudgetExhausted, OfferExhausted, PlateLimitReached
from gateway.discounts.model import Redemption, RedemptionState
from gateway.jsonio import decode
from gateway.refusal import ForeignResource, Refusal, UnknownResource
from tests.desks import (
    BUDGET,
    NOW_MS,
    ONE_FEN,
    balances,
    confirm,
    contract,
    counters,
    desk_with,
    events,
    hold,
    limited,
    refusal_of,
    release,
    reverse,
)

DAY_MS = 86_400_000


# --- the straight way ----------------------------------------------------------------------------------------------
async def test_a_held_discount_is_confirmed_and_booked_to_those_who_fund_it(database: Database) -> None:
    desk = desk_with(database, limited(budget_minor=5000))
    held = await hold(desk, 1001)
    assert (held.state, held.granted_minor) == (RedemptionState.HELD, 1000)
    done = await confirm(desk, held)
    assert (done.state, done.discount_minor) == (RedemptionState.CONFIRMED, 1000)
    assert await balances(database) == {
        "discount_expense:bank:CNY": 600,
        "funded_receivable:parkco:CNY": 400,
        "merchant_clearing:parkco:CNY": -1000,
    }
    assert await desk.find("parkco", held.redemption_id) == done


async def test_the_event_says_everything_that_a_verifier_needs(database: Database) -> None:
    capped = {**ONE_FEN, "fund": [{"party": "bank", "bps": 6000},
                                  {"party": "partner", "bps": 4000, "cap_minor": 100, "overflow": "bank"}]}  # fmt: skip
    desk = desk_with(database, contract(capped))
    done = await confirm(
        desk, await hold(desk, 1200, key="k", order="o-1", site_id="lot-1", mcc="7523"), order_minor=1000
    )
    [event] = await events(database, "redemption.confirmed")
    leaf = decode(event["leaf"], dict[str, Any])
    assert leaf["data"] == {
        "redemption_id": done.redemption_id, "discount": "first-park", "order_minor": 1000, "discount_minor": 999,
        "payable_minor": 1, "cap_left_minor": {"partner": 100}, "legs": {"bank": 899, "partner": 100},
        "seed": f"k|{done.redemption_id}", "site": "lot-1", "mcc": "7523", "order_reference": "o-1",
    }  # fmt: skip
    assert (leaf["amount_minor"], leaf["contract"], leaf["contract_version"]) == (999, "parkco-2026", 1)
    assert (leaf["occurred_at_ms"], leaf["subject_token"], leaf["campaign"]) == (NOW_MS, "idt_1_a", "first-park")


async def test_what_a_smaller_order_leaves_over_returns_to_the_counters(database: Database) -> None:
    desk = desk_with(database, limited(budget_minor=1199))
    await confirm(desk, await hold(desk, 1200), order_minor=500)
    assert (await counters(database))[BUDGET] == (499, 499, 0)
    assert (await hold(desk, 701)).granted_minor == 700


async def test_a_reversal_in_steps_zeroes_every_account(database: Database) -> None:
    desk = desk_with(database, limited(budget_minor=5000))
    done = await confirm(desk, await hold(desk, 1200, key="k"))
    part = await reverse(desk, done, 333)
    assert (part.state, part.reversed_minor) == (RedemptionState.PART_REVERSED, 333)
    assert (await reverse(desk, done, 866)).state is RedemptionState.REVERSED
    assert set((await balances(database)).values()) == {0}
    assert (await counters(database))[BUDGET] == (1199, 1199, 1199), "a reversal does not open the cap again"
    reversals = await events(database, "redemption.reversed")
    seeds = {decode(event["leaf"], dict[str, Any])["data"]["seed"] for event in reversals}
    assert seeds == {f"k|{done.redemption_id}"}, "a reversal splits by its original's seed"
    assert [event["amount_minor"] for event in reversals] == [-333, -866]


async def test_a_released_hold_gives_everything_back(database: Database) -> None:
    desk = desk_with(database, limited(budget_minor=1199, per_customer=1))
    released = await release(desk, await hold(desk, 1200))
    assert (released.state, released.granted_minor) == (RedemptionState.RELEASED, 0)
    assert (await hold(desk, 1200)).state is RedemptionState.HELD
    assert await events(database, "redemption.confirmed") == []


async def test_a_hold_whose_time_is_over_returns_by_the_chore(database: Database) -> None:
    desk = desk_with(database, limited(budget_minor=2500))
    first, second = await hold(desk, 1200), await hold(desk, 1200)
    await confirm(desk, second)
    assert await desk.expire_holds_due(NOW_MS + 899_999) == 0
    assert await desk.expire_holds_due(NOW_MS + 900_000) == 1
    assert (await desk.find("parkco", first.redemption_id)).state is RedemptionState.EXPIRED
    assert (await counters(database))[BUDGET] == (1199, 1199, 0)


async def test_a_party_whose_cap_is_used_up_leaves_the_rest_to_its_overflow(database: Database) -> None:
    capped = {**ONE_FEN, "fund": [{"party": "bank", "bps": 5000},
                                  {"party": "partner", "bps": 5000, "cap_minor": 700, "overflow": "bank"}]}  # fmt: skip
    desk = desk_with(database, contract(capped))
    holds = [await hold(desk, 1001) for _ in range(3)]
    legs = [(await confirm(desk, held)).funding.legs for held in holds]  # type: ignore[union-attr]
    assert [leg["partner"] for leg in legs] == [500, 200, 0]
    assert all(sum(leg.values()) == 1000 for leg in legs)


async def test_the_terms_are_those_of_the_customers_moment(database: Database) -> None:
    dearer = contract({**ONE_FEN, "pay_minor": 100}, version=2)
    desk = desk_with(database, limited(), dearer)
    assert (await hold(desk, 1200)).contract_version == 2
    with pytest.raises(UnknownOffer):
        await hold(desk, 1200, occurred_at_ms=NOW_MS - 400 * DAY_MS)


async def test_the_metrics_page_shows_what_a_campaign_has_used(database: Database) -> None:
    desk = desk_with(database, limited(budget_minor=5000))
    await confirm(desk, await hold(desk, 1200))
    await hold(desk, 1200)
    assert await desk.report_budgets_due(NOW_MS) == 0
    page = (await metrics.page()).decode()
    assert 'parasol_budget_used_minor{campaign="parkco-2026/first-park",currency="CNY"} 1199.0' in page


async def test_a_hold_that_cannot_be_given_back_holds_up_no_other(database: Database) -> None:
    other = {**ONE_FEN, "id": "other"}
    desk = desk_with(database, contract(ONE_FEN, other))
    await hold(desk, 1001)
    await hold(desk, 1001, offer="other")
    async with database.connection() as conn:
        await conn.execute("UPDATE counter SET taken = 0 WHERE name = $1", BUDGET)  # it would fall below nothing
    with pytest.raises(CheckViolationError):
        await desk.expire_holds_due(NOW_MS + 900_000)
    assert (await counters(database))["budget|parkco-2026|other|CNY"] == (0, 0, 0)


# --- limits --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("limits", "second", "broken"),
    [
        ({"budget_minor": 2397}, {}, OfferExhausted),
        ({"per_day_minor": 2397}, {}, DayBudgetExhausted),
        ({"per_customer": 1}, {}, CustomerLimitReached),
        ({"per_plate_day": 1}, {"subject_token": "idt_1_b"}, PlateLimitReached),
    ],
)
async def test_each_limit_says_which_it_is(
    database: Database, limits: dict[str, int], second: dict[str, str], broken: type[Refusal]
) -> None:
    desk = desk_with(database, limited(**limits))
    await hold(desk, 1200, plate_digest="p")
    before = await counters(database)
    assert isinstance(await refusal_of(hold(desk, 1200, plate_digest="p", **second)), broken)
    assert await counters(database) == before


async def test_limits_of_a_day_begin_anew_on_the_contracts_next_day(database: Database) -> None:
    desk = desk_with(database, limited(per_day_minor=1199, per_plate_day=1))
    await hold(desk, 1200, plate_digest="p")
    assert isinstance(await refusal_of(hold(desk, 1200, plate_digest="q")), DayBudgetExhausted)
    midnight_in_shanghai = NOW_MS + (24 * 60 - 22 * 60 - 13) * 60_000
    assert (await hold(desk, 1200, plate_digest="p", occurred_at_ms=midnight_in_shanghai)).granted_minor == 1199


async def test_a_limit_that_is_raised_opens_and_one_that_is_lowered_closes(database: Database) -> None:
    await hold(desk_with(database, limited(budget_minor=1199)), 1200)
    raised = desk_with(database, contract({**ONE_FEN, "limits": {"budget_minor": 2398}}, version=2))
    await hold(raised, 1200)
    lowered = desk_with(database, contract({**ONE_FEN, "limits": {"budget_minor": 100}}, version=3))
    assert isinstance(await refusal_of(hold(lowered, 1200)), OfferExhausted)


async def test_of_64_parallel_takers_of_a_stock_of_one_exactly_one_wins(database: Database) -> None:
    desk = desk_with(database, limited(budget_minor=1199))
    answers = await asyncio.gather(*(hold(desk, 1200) for _ in range(64)), return_exceptions=True)
    assert Counter(type(answer) for answer in answers) == {Redemption: 1, OfferExhausted: 63}


async def test_a_batch_that_crosses_the_cap_is_cut_at_the_row(database: Database) -> None:
    desk = desk_with(database, limited(budget_minor=2500))
    orders = [1001, 1001, 1001, 501, 1]  # pays 1 fen: takes 1000, 1000, 1000, 500 and nothing
    answers = await asyncio.gather(*(hold(desk, order) for order in orders), return_exceptions=True)
    kinds = [answer.granted_minor if isinstance(answer, Redemption) else type(answer) for answer in answers]
    assert kinds == [1000, 1000, OfferExhausted, 500, OfferNotApplicable]


async def test_customers_are_limited_each_for_themselves_within_a_batch(database: Database) -> None:
    desk = desk_with(database, limited(per_customer=2))
    takers = ["a", "b", "a", "a", "b", "c"]
    answers = await asyncio.gather(*(hold(desk, 1200, subject_token=t) for t in takers), return_exceptions=True)
    assert [isinstance(answer, Redemption) for answer in answers] == [True, True, True, False, True, True]


# --- every step from every state -------------------------------------------------------------------------------------
async def test_steps_out_of_order_are_refused_by_name(database: Database) -> None:
    desk = desk_with(database, limited())
    held, released, expired = await hold(desk, 1200), await hold(desk, 1200), await hold(desk, 1200)
    late = NOW_MS + 900_000
    await release(desk, released)
    assert isinstance(await refusal_of(reverse(desk, held, 1)), rules.RedemptionNotConfirmed)
    assert isinstance(await refusal_of(confirm(desk, held, order_minor=1201)), rules.OrderAboveHold)
    assert isinstance(await refusal_of(confirm(desk, held, order_minor=1)), rules.OrderBelowOffer)
    assert isinstance(await refusal_of(confirm(desk, released)), rules.HoldAlreadyReleased)
    assert isinstance(await refusal_of(release(desk, released)), rules.HoldAlreadyReleased)
    assert isinstance(await refusal_of(confirm(desk, expired, now_ms=late)), rules.HoldExpired)
    assert isinstance(await refusal_of(release(desk, expired, now_ms=late)), rules.HoldExpired)
    await confirm(desk, held)
    assert isinstance(await refusal_of(confirm(desk, held)), rules.RedemptionAlreadyConfirmed)
    assert isinstance(await refusal_of(release(desk, held)), rules.RedemptionAlreadyConfirmed)
    assert isinstance(await refusal_of(reverse(desk, held, 1200)), rules.ReversalExceedsRedemption)
    assert len(await events(database, "redemption.confirmed")) == 1


async def test_a_refused_step_leaves_its_neighbours_in_the_batch_alone(database: Database) -> None:
    desk = desk_with(database, limited())
    one, two = await hold(desk, 1200), await hold(desk, 1200)
    await release(desk, one)
    answers = await asyncio.gather(confirm(desk, one), confirm(desk, two), return_exceptions=True)
    assert isinstance(answers[0], rules.HoldAlreadyReleased)
    assert isinstance(answers[1], Redemption)


async def test_another_partners_redemption_is_out_of_reach(database: Database) -> None:
    desk = desk_with(database, limited())
    held = await hold(desk, 1200)
    key = {"operation": "ReleaseRedemption", "key": "k", "request_hash": b"", "now_ms": NOW_MS}
    with pytest.raises(ForeignResource):
        await desk.release("shopco", held.redemption_id, **key)
    with pytest.raises(ForeignResource):
        await desk.find("shopco", held.redemption_id)
    with pytest.raises(UnknownResource):
        await desk.release("parkco", "rdm_nowhere", **key)
    with pytest.raises(UnknownResource):
        await desk.find("parkco", "rdm_nowhere")
