"""Charges and refunds as sagas: whatever the bank says, or does not say, money and discount end up together."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.corebank.port import CoreBankUnavailable
from gateway.database import Database
from gateway.discounts.limits import CustomerLimitReached
from gateway.discounts.model import RedemptionState
from gateway.money import Money
from gateway.parking.charge import (
    ChargeNotPaid,
    ChargeRunning,
    RefundExceedsCharge,
    RefundRunning,
    SessionNotOpen,
    refund_parts,
)
from gateway.parking.charging import Barrier, Exit
from gateway.parking.model import Agreement, Charge, ChargeState, RefundState, Session, SessionStatus
from gateway.parking.refunding import RefundCounter
from gateway.parking.store import charges, stays
from gateway.refusal import Refusal
from tests.desks import NOW_MS, ONE_FEN, contract, counters, desk_with, events

HOUR_MS = 3_600_000
FEE = Money(1200, "CNY")


class FundsShort(Refusal):
    """What a bank's rule may say no with."""

    code = "funds_short"


@dataclass(slots=True)
class FakeBank:
    """Answers in the order given, the last one for ever; counts money by payment, as ids make orders happen once."""

    answers: list[Any]
    taken: dict[str, int] = field(default_factory=dict)
    given: dict[str, int] = field(default_factory=dict)

    async def collect(self, *, payment_id: str, amount: Money, **_: Any) -> "Answered":
        return self._answer(self.taken, payment_id, amount)

    async def refund(self, *, refund_id: str, amount: Money, **_: Any) -> "Answered":
        return self._answer(self.given, refund_id, amount)

    def _answer(self, book: dict[str, int], order_id: str, amount: Money) -> "Answered":
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer == "LOST":  # the bank has acted, its answer never came
            book[order_id] = amount.minor
            raise CoreBankUnavailable
        if isinstance(answer, Exception):
            raise answer
        if answer == "ACSC":
            book[order_id] = amount.minor
        return Answered(answer)


@dataclass(frozen=True, slots=True)
class Answered:
    status: str
    reason: str | None = None


@dataclass(slots=True)
class Lot:
    """One car park with a desk, a barrier and a bank that says what it is told to."""

    database: Database
    bank: FakeBank
    barrier: Barrier
    counter: RefundCounter

    async def park(self, plate: str = "p") -> Exit:
        agreement = Agreement(f"vag_{plate}", "parkco", plate, "粤B***1", "cns_1", "idt_1_a", "ACTIVE", NOW_MS)
        session = Session(
            f"prk_{plate}", "parkco", "lot-1", plate, "粤B***1", f"vag_{plate}", SessionStatus.PARKED, None,
            NOW_MS - HOUR_MS, None, NOW_MS - HOUR_MS, NOW_MS - HOUR_MS,
        )  # fmt: skip
        async with self.database.transaction() as conn:
            await stays.add_agreement(conn, agreement)
            assert await stays.park(conn, session, capacity=0) == session
        return Exit(
            session, agreement, fee=FEE, left_at_ms=NOW_MS, mcc="7523", offer_id=None, creditor_account="acc_parkco",
            operation="ChargeParking", key=f"key-{plate}", request_hash=b"h",
        )  # fmt: skip

    async def session(self, plate: str = "p") -> Session:
        async with self.database.connection() as conn:
            found = await stays.find_session(conn, f"prk_{plate}")
        assert found is not None
        return found

    async def charge_now(self, charge: Charge) -> Charge:
        async with self.database.connection() as conn:
            return await charges.get_charge(conn, charge.charge_id)

    async def redemption(self, charge: Charge) -> RedemptionState:
        async with self.database.connection() as conn:
            state = await conn.fetchval("SELECT state FROM redemption WHERE redemption_id = $1", charge.redemption_id)
        return RedemptionState(state)


def lot_with(database: Database, *answers: Any, discounts: tuple[dict[str, Any], ...] = (ONE_FEN,)) -> Lot:
    bank, desk = FakeBank(list(answers)), desk_with(database, contract(*discounts))
    return Lot(
        database, bank, Barrier(database, discounts=desk, collections=bank),
        RefundCounter(database, discounts=desk, collections=bank),
    )  # fmt: skip


async def refund(lot: Lot, charge: Charge, minor: int, *, key: str = "r") -> Any:
    return await lot.counter.refund(
        charge, amount=Money(minor, "CNY"), operation="RefundParkingCharge", key=key, request_hash=str(minor).encode(),
        now_ms=NOW_MS,
    )  # fmt: skip


# --- charges -------------------------------------------------------------------------------------------------------
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
        await lot.barrier.charge(replace(leaving, session=await lot.session(), key="other"), now_ms=NOW_MS)
    assert lot.bank.taken == {first.payment_id: 1}


async def test_a_rejected_payment_becomes_a_debt_and_the_discount_returns(database: Database) -> None:
    lot = lot_with(database, FundsShort(), "ACSC")
    leaving = await lot.park()
    failed = await lot.barrier.charge(leaving, now_ms=NOW_MS)
    assert (failed.state, failed.reason) == (ChargeState.PAY_FAIL, "funds_short")
    assert await lot.redemption(failed) is RedemptionState.RELEASED
    assert (await counters(database))["budget|parkco-2026|first-park"] == (0, 0, 0)
    async with database.connection() as conn:
        assert await stays.owes(conn, "parkco", "p")
    paid = await lot.barrier.charge(replace(leaving, session=await lot.session(), key="again"), now_ms=NOW_MS)
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


async def test_a_pending_payment_that_is_rejected_later_is_a_debt_and_its_discount_is_reversed(
    database: Database,
) -> None:
    lot = lot_with(database, "PDNG", "RJCT")
    charge = await lot.barrier.charge(await lot.park(), now_ms=NOW_MS)
    await lot.barrier.resume_charges_due(NOW_MS + HOUR_MS)
    assert (await lot.charge_now(charge)).state is ChargeState.PAY_FAIL
    assert await lot.redemption(charge) is RedemptionState.REVERSED
    assert (await lot.session()).status is SessionStatus.OWING


async def test_a_lost_answer_keeps_the_barrier_closed_until_the_bank_has_said_it(database: Database) -> None:
    lot = lot_with(database, "LOST", "ACSC")
    charge = await lot.barrier.charge(await lot.park(), now_ms=NOW_MS)
    assert charge.state is ChargeState.PAYING
    with pytest.raises(ChargeRunning):
        await lot.barrier.charge(replace(await lot_exit(lot), key="other"), now_ms=NOW_MS)
    await lot.barrier.resume_charges_due(NOW_MS + 60_000)
    assert (await lot.charge_now(charge)).state is ChargeState.SUCCESS
    assert lot.bank.taken == {charge.payment_id: 1}


async def lot_exit(lot: Lot) -> Exit:
    """The same car at the barrier again, as the partner's next request would see it."""
    session = await lot.session()
    agreement = Agreement("vag_p", "parkco", "p", "粤B***1", "cns_1", "idt_1_a", "ACTIVE", NOW_MS)
    return Exit(session, agreement, FEE, NOW_MS, "7523", None, "acc_parkco", "ChargeParking", "k", b"h")


async def test_a_hold_that_ran_out_while_the_bank_was_silent_is_said_in_the_charge(database: Database) -> None:
    lot = lot_with(database, "LOST", "ACSC")
    charge = await lot.barrier.charge(await lot.park(), now_ms=NOW_MS)
    await lot.barrier.resume_charges_due(NOW_MS + HOUR_MS)
    settled = await lot.charge_now(charge)
    assert (settled.state, settled.reason) == (ChargeState.SUCCESS, "discount_lapsed")
    assert (await refund(lot, settled, 1200)).state is RefundState.SUCCESS, "the cash still goes back"


async def test_a_crash_between_hold_and_payment_is_taken_up_by_the_chore(database: Database) -> None:
    lot = lot_with(database, "ACSC")
    leaving = await lot.park()
    held = await lot.barrier._hold(leaving, now_ms=NOW_MS)  # the steps up to the crash, then nothing
    charge = await lot.barrier._begin(leaving, held, now_ms=NOW_MS)
    assert charge.state is ChargeState.HELD
    assert await lot.barrier.resume_charges_due(NOW_MS + 60_000) == 1
    assert (await lot.charge_now(charge)).state is ChargeState.SUCCESS
    assert await lot.redemption(charge) is RedemptionState.CONFIRMED


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


# --- refunds -------------------------------------------------------------------------------------------------------
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
