"""Charges as a saga: whatever the bank says, or does not say, money and discount end up together."""

from dataclasses import replace

import pytest

from gateway.corebank.port import CoreBankUnavailable
from gateway.database import Database
from gateway.discounts.limits import CustomerLimitReached
from gateway.discounts.model import RedemptionState
from gateway.money import Money
from gateway.parking.charge import ChargeRunning, SessionNotOpen
from gateway.parking.model import ChargeState, RefundState, SessionStatus
from gateway.parking.store import stays
from tests.desks import NOW_MS, ONE_FEN, counters, events
from tests.lots import HOUR_MS, FundsShort, by_key, lot_exit, lot_with, refund


async def test_a_car_pays_one_fen_and_the_funders_pay_the_rest(database: Database) -> None:
    lot = lot_with(database, "ACSC")
    charge = await lot.barrier.charge(await lot.park(), now_ms=NOW_MS)
    assert (charge.state, charge.fee_minor, charge.payable_minor) == (ChargeState.SUCCESS, 1200, 1)
    assert lot.bank.taken == {charge.payment_id: 1}
    assert await lot.redemption(charge) is RedemptionState.CONFIRMED
    assert (await lot.session()).status is SessionStatus.LEFT
    assert len(await events(database, "session.left")) == 1


async def test_the_same_key_again_finds_the_charge_and_takes_no_more_money(database: Database) -> None:
    lot = lot_with(database, "ACSC")
    leaving = await lot.park()
    first = await lot.barrier.charge(leaving, now_ms=NOW_MS)
    assert await lot.barrier.charge(leaving, now_ms=NOW_MS + 1) == first
    with pytest.raises(SessionNotOpen):
        await lot.barrier.charge(replace(leaving, session=await lot.session(), keyed=by_key("other")), now_ms=NOW_MS)
    assert lot.bank.taken == {first.payment_id: 1}


async def test_a_rejected_payment_becomes_a_debt_and_the_discount_returns(database: Database) -> None:
    lot = lot_with(database, FundsShort(), "ACSC")
    leaving = await lot.park()
    failed = await lot.barrier.charge(leaving, now_ms=NOW_MS)
    assert (failed.state, failed.reason) == (ChargeState.PAY_FAIL, "funds_short")
    assert await lot.redemption(failed) is RedemptionState.RELEASED
    assert (await counters(database))["budget|parkco-2026|first-park|CNY"] == (0, 0, 0)
    async with database.connection() as conn:
        assert await stays.owes(conn, "parkco", "p")
    paid = await lot.barrier.charge(replace(leaving, session=await lot.session(), keyed=by_key("again")), now_ms=NOW_MS)
    assert paid.state is ChargeState.SUCCESS
    async with database.connection() as conn:
        assert not await stays.owes(conn, "parkco", "p")


async def test_a_pending_payment_opens_the_barrier_and_settles_by_the_chore(database: Database) -> None:
    lot = lot_with(database, "PDNG", "PDNG", "ACSC")
    charge = await lot.barrier.charge(await lot.park(), now_ms=NOW_MS)
    assert charge.state is ChargeState.ACCEPTED
    assert (await lot.session()).status is SessionStatus.LEFT
    assert await lot.barrier.resume_charges_due(NOW_MS + 1) == 0, "not before its time"
    assert await lot.barrier.resume_charges_due(NOW_MS + HOUR_MS) == 1
    assert (await lot.charge_now(charge)).state is ChargeState.ACCEPTED
    assert await lot.barrier.resume_charges_due(NOW_MS + 2 * HOUR_MS) == 1
    assert (await lot.charge_now(charge)).state is ChargeState.SUCCESS
    assert await lot.redemption(charge) is RedemptionState.CONFIRMED


async def test_a_pending_payment_that_is_rejected_later_is_a_debt_and_its_discount_returns(database: Database) -> None:
    lot = lot_with(database, "PDNG", "RJCT")
    charge = await lot.barrier.charge(await lot.park(), now_ms=NOW_MS)
    assert await lot.redemption(charge) is RedemptionState.HELD, "granted when the money is there, not before"
    await lot.barrier.resume_charges_due(NOW_MS + HOUR_MS)
    assert (await lot.charge_now(charge)).state is ChargeState.PAY_FAIL
    assert await lot.redemption(charge) is RedemptionState.RELEASED
    assert (await lot.session()).status is SessionStatus.OWING
    assert await events(database, "redemption.confirmed") == []


async def test_a_lost_answer_keeps_the_barrier_closed_until_the_bank_has_said_it(database: Database) -> None:
    lot = lot_with(database, "LOST", "ACSC")
    charge = await lot.barrier.charge(await lot.park(), now_ms=NOW_MS)
    assert charge.state is ChargeState.PAYING
    with pytest.raises(ChargeRunning):
        await lot.barrier.charge(replace(await lot_exit(lot), keyed=by_key("other")), now_ms=NOW_MS)
    await lot.barrier.resume_charges_due(NOW_MS + 60_000)
    assert (await lot.charge_now(charge)).state is ChargeState.SUCCESS
    assert lot.bank.taken == {charge.payment_id: 1}


async def test_a_bank_that_is_silent_longer_than_a_hold_costs_nobody_the_discount(database: Database) -> None:
    lot = lot_with(database, "LOST", CoreBankUnavailable(), "ACSC")
    charge = await lot.barrier.charge(await lot.park(), now_ms=NOW_MS)
    for hours in (1, 50):
        assert await lot.desk.expire_holds_due(NOW_MS + hours * HOUR_MS) == 0
        await lot.barrier.resume_charges_due(NOW_MS + hours * HOUR_MS)
    settled = await lot.charge_now(charge)
    assert (settled.state, settled.reason) == (ChargeState.SUCCESS, None)
    assert await lot.redemption(charge) is RedemptionState.CONFIRMED
    assert await events(database, "discount.lapsed") == []
    assert (await refund(lot, settled, 1200)).state is RefundState.SUCCESS
    assert await lot.redemption(charge) is RedemptionState.REVERSED


async def test_the_second_visit_pays_full_when_the_offer_is_for_the_first(database: Database) -> None:
    once = {**ONE_FEN, "limits": {"per_customer": 1}}
    lot = lot_with(database, "ACSC", discounts=(once,))
    await lot.barrier.charge(await lot.park("p"), now_ms=NOW_MS)
    second = await lot.park("q")
    charge = await lot.barrier.charge(second, now_ms=NOW_MS)
    assert (charge.payable_minor, charge.offer_id) == (1200, None)
    third = replace(await lot.park("r"), offer_id="first-park")
    with pytest.raises(CustomerLimitReached):
        await lot.barrier.charge(third, now_ms=NOW_MS)
    assert (await lot.session("r")).status is SessionStatus.PARKED


async def test_a_stay_that_costs_nothing_asks_nobody(database: Database) -> None:
    lot = lot_with(database, AssertionError("the bank is not asked"))
    leaving = replace(await lot.park(), fee=Money(0, "CNY"))
    assert (await lot.barrier.charge(leaving, now_ms=NOW_MS)).state is ChargeState.SUCCESS
