"""A charge that is cut off between any two of its steps, or told two things by its bank: money and discount agree."""

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from gateway import metrics
from gateway.chores import RowsFailed
from gateway.database import Database
from gateway.discounts.model import RedemptionState
from gateway.discounts.redemption import HoldExpired
from gateway.ledger.store import trial_balance
from gateway.parking.model import Charge, ChargeState, RefundState, SessionStatus
from tests.desks import NOW_MS, counters, events, hold
from tests.lots import HOUR_MS, Lot, by_key, lot_with, refund

BUDGET = "budget|parkco-2026|first-park|CNY"


async def begun(lot: Lot) -> Charge:
    """The steps up to a crash: the discount is held, the charge is written, nobody has asked the bank."""
    leaving = await lot.park()
    held = await lot.barrier._hold(leaving, now_ms=NOW_MS)
    return await lot.barrier._begin(leaving, held, now_ms=NOW_MS)


async def resumed(lot: Lot, charge: Charge, *, hours: int = 1) -> Charge:
    await lot.barrier.resume_charges_due(NOW_MS + hours * HOUR_MS)
    return await lot.charge_now(charge)


async def test_a_crash_between_hold_and_payment_is_taken_up_by_the_chore(database: Database) -> None:
    lot = lot_with(database, "ACSC")
    charge = await begun(lot)
    assert charge.state is ChargeState.HELD
    assert await lot.desk.expire_holds_due(NOW_MS + HOUR_MS) == 0, (
        "the hold is the charge's from the charge's first moment"
    )
    assert (await resumed(lot, charge)).state is ChargeState.SUCCESS
    assert await lot.redemption(charge) is RedemptionState.CONFIRMED


async def test_a_charge_of_a_clock_that_has_gone_back_a_day_is_taken_up_at_once(database: Database) -> None:
    lot = lot_with(database, "ACSC")
    charge = await begun(lot)
    assert await lot.barrier.resume_charges_due(NOW_MS - 24 * HOUR_MS) == 1
    assert (await lot.charge_now(charge)).state is ChargeState.SUCCESS


async def test_a_crash_before_the_charge_is_written_leaves_a_hold_that_runs_out(database: Database) -> None:
    lot = lot_with(database, "ACSC")
    assert await lot.barrier._hold(await lot.park(), now_ms=NOW_MS) is not None
    assert await lot.desk.expire_holds_due(NOW_MS + HOUR_MS) == 1
    assert (await counters(database))[BUDGET] == (0, 0, 0)


async def test_after_that_crash_another_request_of_the_same_stay_still_has_the_offer(database: Database) -> None:
    lot = lot_with(database, "ACSC")
    leaving = await lot.park()
    left_behind = await lot.barrier._hold(leaving, now_ms=NOW_MS)
    paid = await lot.barrier.charge(replace(leaving, keyed=by_key("another")), now_ms=NOW_MS + 1)
    assert (paid.state, paid.payable_minor) == (ChargeState.SUCCESS, 1)
    with pytest.raises(HoldExpired):
        await lot.barrier._begin(replace(await lot.park("q"), keyed=by_key("late")), left_behind, now_ms=NOW_MS + 2)


async def test_a_crash_between_grant_and_success_grants_once(database: Database) -> None:
    lot = lot_with(database, "ACSC")
    charge = await begun(lot)
    assert charge.redemption_id is not None
    await lot.desk.grant("parkco", charge.redemption_id, charge_id=charge.charge_id, now_ms=NOW_MS)
    assert (await resumed(lot, charge)).state is ChargeState.SUCCESS
    assert len(await events(database, "redemption.confirmed")) == 1


async def test_a_granted_discount_whose_payment_turns_out_to_have_failed_reverses_by_itself(database: Database) -> None:
    """Killed between grant and success; then the bank says no: found confirmed, it used to stay confirmed for good."""
    lot = lot_with(database, "RJCT")
    charge = await begun(lot)
    assert charge.redemption_id is not None
    await lot.desk.grant("parkco", charge.redemption_id, charge_id=charge.charge_id, now_ms=NOW_MS)
    failed = await resumed(lot, charge)
    assert (failed.state, (await lot.session()).status) == (ChargeState.PAY_FAIL, SessionStatus.OWING)
    assert await lot.redemption(charge) is RedemptionState.REVERSED
    async with database.connection() as conn:
        assert {balance.balance_minor for balance in await trial_balance(conn)} == {0}


async def test_a_crash_between_undoing_and_failure_undoes_once(database: Database) -> None:
    lot = lot_with(database, "RJCT")
    charge = await begun(lot)
    assert charge.redemption_id is not None
    await lot.desk.undo("parkco", charge.redemption_id, charge_id=charge.charge_id, now_ms=NOW_MS)
    assert (await resumed(lot, charge)).state is ChargeState.PAY_FAIL
    assert (await counters(database))[BUDGET] == (0, 0, 0)


async def test_a_discount_that_cannot_be_granted_on_a_paid_charge_is_told_in_the_book_and_sealed(
    database: Database,
) -> None:
    """Only a bank that says no, and then yes, comes here: nobody may find out by counting."""
    lot = lot_with(database, "ACSC")
    charge = await begun(lot)
    assert charge.redemption_id is not None
    await lot.desk.undo("parkco", charge.redemption_id, charge_id=charge.charge_id, now_ms=NOW_MS)
    settled = await resumed(lot, charge)
    assert (settled.state, settled.reason) == (ChargeState.SUCCESS, "discount_lapsed")
    [told] = await events(database, "discount.lapsed")
    assert (told["partner"], told["idempotency_key"], told["amount_minor"]) == ("parkco", None, 0)
    async with database.connection() as conn:
        book = {balance.account: balance.balance_minor for balance in await trial_balance(conn)}
    assert book == {"discount_suspense:bank:CNY": 1199, "discount_unfunded:parkco:CNY": -1199}
    assert 'parasol_discounts_lapsed_total{partner="parkco"}' in (await metrics.page()).decode()
    assert (await refund(lot, settled, 1200)).state is RefundState.SUCCESS, "the cash still goes back"
    await resumed(lot, charge, hours=2)
    assert len(await events(database, "discount.lapsed")) == 1


async def test_a_reversed_grant_on_a_charge_that_is_paid_after_all_is_told_too(database: Database) -> None:
    lot = lot_with(database, "ACSC")
    charge = await begun(lot)
    assert charge.redemption_id is not None
    for step in (lot.desk.grant, lot.desk.undo):
        await step("parkco", charge.redemption_id, charge_id=charge.charge_id, now_ms=NOW_MS)
    assert (await resumed(lot, charge)).reason == "discount_lapsed"
    assert len(await events(database, "discount.lapsed")) == 1


async def test_one_charge_that_cannot_be_decided_does_not_stop_the_others(database: Database) -> None:
    lot = lot_with(database, "PDNG")
    first = await lot.barrier.charge(await lot.park("p"), now_ms=NOW_MS)
    second = await lot.barrier.charge(await lot.park("q"), now_ms=NOW_MS)
    assert first.redemption_id is not None
    async with database.connection() as conn:  # a redemption that belongs to nobody we know
        await conn.execute("UPDATE redemption SET contract_version = 99 WHERE redemption_id = $1", first.redemption_id)
    lot.bank.answers = ["ACSC"]
    assert (await resumed(lot, second)).state is ChargeState.SUCCESS
    assert (await lot.charge_now(first)).state is ChargeState.ACCEPTED
    assert await lot.redemption(first) is RedemptionState.HELD


async def test_a_charge_that_breaks_its_driver_drops_none_of_the_run(database: Database) -> None:
    """A bug, or a bank that answers nonsense, at one row: the others of that run used to be left for their next try."""
    lot = lot_with(database, "PDNG")
    parked = [await lot.barrier.charge(await lot.park(plate), now_ms=NOW_MS) for plate in "pqr"]
    lot.bank.answers = [RuntimeError("nonsense"), "ACSC"]
    with capture_logs() as lines, pytest.raises(RowsFailed, match="1 of 3"):
        await lot.barrier.resume_charges_due(NOW_MS + HOUR_MS)
    states = {charge.charge_id: (await lot.charge_now(charge)).state for charge in parked}
    (left,) = (charge_id for charge_id, state in states.items() if state is ChargeState.ACCEPTED)
    assert sorted(states.values()) == [ChargeState.ACCEPTED, ChargeState.SUCCESS, ChargeState.SUCCESS]
    assert [line["charge_id"] for line in lines if line["event"] == "chore_row_failed"] == [left]
    assert await lot.barrier.resume_charges_due(NOW_MS + 2 * HOUR_MS) == 1


async def test_an_order_that_the_partner_has_used_up_itself_is_charged_in_full(database: Database) -> None:
    lot = lot_with(database, "ACSC")
    leaving = await lot.park()
    taken = await hold(lot.desk, 1200, order=leaving.session.session_id)
    async with database.transaction() as conn:
        await lot.desk.bind(conn, taken.redemption_id, charge_id="chg_of_another", now_ms=NOW_MS)
    charge = await lot.barrier.charge(leaving, now_ms=NOW_MS)
    assert (charge.payable_minor, charge.offer_id) == (1200, None)
