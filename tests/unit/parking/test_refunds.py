"""Refunds: pro rata between the customer's cash and the funders' discount, in any steps, exact in the end."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chores import RowsFailed
from gateway.database import Database
from gateway.discounts.model import RedemptionState
from gateway.parking.charge import ChargeNotPaid, RefundExceedsCharge, RefundRunning, refund_parts
from gateway.parking.model import Charge, ChargeState, RefundState
from gateway.partners.snapshot import TermsUnreadable
from tests.desks import NOW_MS, ONE_FEN
from tests.lots import HOUR_MS, lot_with, refund


async def test_refunds_in_steps_give_everybody_exactly_what_they_paid(database: Database) -> None:
    capped = {**ONE_FEN, "max_off_minor": 701}
    lot = lot_with(database, "ACSC", discounts=(capped,))
    charge = await lot.barrier.charge(await lot.park(), now_ms=NOW_MS)
    assert charge.payable_minor == 499
    first = await refund(lot, charge, 500, key="1")
    assert (first.state, first.cash_minor, first.discount_minor) == (RefundState.SUCCESS, 208, 292)
    assert await refund(lot, charge, 500, key="1") == first, "the same key is the same refund"
    await refund(lot, charge, 700, key="2")
    assert sum(lot.bank.given.values()) == 499
    assert await lot.redemption(charge) is RedemptionState.REVERSED
    with pytest.raises(RefundExceedsCharge):
        await refund(lot, charge, 1, key="3")


async def test_a_refund_that_the_bank_rejects_changes_nothing(database: Database) -> None:
    lot = lot_with(database, "ACSC", "RJCT", "ACSC")
    charge = await lot.barrier.charge(await lot.park(), now_ms=NOW_MS)
    assert (await refund(lot, charge, 1200, key="1")).state is RefundState.FAILED
    assert await lot.redemption(charge) is RedemptionState.CONFIRMED
    assert (await lot.charge_now(charge)).refunded_minor == 0
    assert (await refund(lot, charge, 1200, key="2")).state is RefundState.SUCCESS


async def test_one_refund_at_a_time_and_the_chore_finishes_a_silent_one(database: Database) -> None:
    lot = lot_with(database, "ACSC", "PDNG", "ACSC", discounts=())
    charge = await lot.barrier.charge(await lot.park(), now_ms=NOW_MS)
    waiting = await refund(lot, charge, 600, key="1")
    assert waiting.state is RefundState.PENDING
    with pytest.raises(RefundRunning):
        await refund(lot, charge, 600, key="2")
    assert await lot.counter.resume_refunds_due(NOW_MS + HOUR_MS) == 1
    assert (await refund(lot, charge, 600, key="2")).state is RefundState.SUCCESS


async def test_a_refund_whose_terms_cannot_be_read_delays_nobody_elses(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    lot = lot_with(database, "ACSC", "ACSC", "PDNG", "PDNG", "ACSC")
    poisoned = await lot.barrier.charge(await lot.park(), now_ms=NOW_MS)
    other = await lot.barrier.charge(await lot.park("q"), now_ms=NOW_MS)
    for charge in (poisoned, other):
        await refund(lot, charge, 1200, key=charge.charge_id)
    reverse = lot.desk.reverse

    async def unreadable(partner_id: str, redemption_id: str, **rest: Any) -> Any:
        if redemption_id == poisoned.redemption_id:
            raise TermsUnreadable
        return await reverse(partner_id, redemption_id, **rest)

    monkeypatch.setattr(lot.desk, "reverse", unreadable)
    assert await lot.counter.resume_refunds_due(NOW_MS + HOUR_MS) == 2
    assert await lot.redemption(other) is RedemptionState.REVERSED
    assert await lot.redemption(poisoned) is RedemptionState.CONFIRMED
    monkeypatch.setattr(lot.desk, "reverse", reverse)
    assert await lot.counter.resume_refunds_due(NOW_MS + 2 * HOUR_MS) == 1
    assert await lot.redemption(poisoned) is RedemptionState.REVERSED
    assert sum(lot.bank.given.values()) == poisoned.payable_minor + other.payable_minor


async def test_a_refund_that_breaks_its_driver_drops_none_of_the_run(database: Database) -> None:
    lot = lot_with(database, "ACSC", discounts=())
    paid = [await lot.barrier.charge(await lot.park(plate), now_ms=NOW_MS) for plate in "pqr"]
    lot.bank.answers = ["PDNG"]
    for charge in paid:
        await refund(lot, charge, 1200, key=charge.charge_id)
    lot.bank.answers = [RuntimeError("nonsense"), "ACSC"]
    with pytest.raises(RowsFailed, match="1 of 3"):
        await lot.counter.resume_refunds_due(NOW_MS + HOUR_MS)
    assert sum(lot.bank.given.values()) == 2400
    assert await lot.counter.resume_refunds_due(NOW_MS + 2 * HOUR_MS) == 1
    assert sum(lot.bank.given.values()) == 3600


async def test_what_is_not_paid_is_not_refunded(database: Database) -> None:
    lot = lot_with(database, "RJCT")
    charge = await lot.barrier.charge(await lot.park(), now_ms=NOW_MS)
    with pytest.raises(ChargeNotPaid):
        await refund(lot, charge, 1)


@given(
    fee=st.integers(1, 10**9), discount=st.integers(0, 10**9), parts=st.lists(st.integers(1, 10**9), max_size=8)
)  # fmt: skip
def test_a_full_refund_returns_exactly_everything_whatever_its_steps(fee: int, discount: int, parts: list[int]) -> None:
    charge = Charge(
        "chg", "prk", "parkco", ChargeState.SUCCESS, "CNY", fee, min(discount, fee), "o", "rdm", "pay", "cns", "acc",
        None, 0, 0, 0, 0, 0,
    )  # fmt: skip
    cash = given_back = 0
    for part in [*parts, fee]:
        step = min(part, fee - charge.refunded_minor)
        if step == 0:
            break
        split = refund_parts(charge, step)
        assert split.cash_minor >= 0
        assert split.discount_minor >= 0
        cash, given_back = cash + split.cash_minor, given_back + split.discount_minor
        charge = replace(charge, refunded_minor=charge.refunded_minor + step)
    assert (cash, given_back) == (charge.payable_minor, charge.discount_minor)
