"""Collecting under a mandate, on a real database and the sandbox bank: once, within limits, whatever the bank says."""

import asyncio

import pytest

from gateway.consents import store as consents
from gateway.consents.consent import ConsentNotInForce
from gateway.payments.limits import ControlParameterBreached
from gateway.payments.mandate import PaymentDiffersFromConsent
from gateway.payments.paying import NEVER_ARRIVED, ORDER_LIFE_MS
from gateway.payments.refunding import RefundExceedsPayment
from gateway.refusal import ForeignResource, StateConflict, UnknownResource
from tests.tills import ASKED_AFTER_S, NOW_MS, Takings, vrp_body


async def test_a_payment_moves_money_and_is_booked(takings: Takings) -> None:
    mandate = await takings.mandate()
    done = await takings.collect(mandate.consent_id, 1250)
    assert (done.status, done.reason) == ("ACSC", None)
    assert (await takings.spent(), await takings.booked(), await takings.used()) == (1250, 1250, [1250])
    assert await takings.events() == ["payment.completed"]
    assert takings.moved == [takings.account_id]


async def test_the_same_payment_again_takes_nothing(takings: Takings) -> None:
    mandate = await takings.mandate()
    answers = [await takings.collect(mandate.consent_id, 1250, payment_id="pay_1") for _ in range(2)]
    assert answers[0] == answers[1]
    assert (await takings.spent(), await takings.booked(), await takings.used()) == (1250, 1250, [1250])


async def test_the_same_payment_many_times_at_once_takes_once(takings: Takings) -> None:
    mandate = await takings.mandate()
    many = [takings.collect(mandate.consent_id, 1250, payment_id="pay_1") for _ in range(4)]
    answers = await asyncio.gather(*many)
    assert {answer.status for answer in answers} <= {"ACSC", "PDNG"}
    assert (await takings.collections.status(partner_id="parkco", payment_id="pay_1", now_ms=NOW_MS)).status == "ACSC"
    assert (await takings.spent(), await takings.booked(), await takings.used()) == (1250, 1250, [1250])


async def test_another_order_under_the_same_id_is_refused(takings: Takings) -> None:
    mandate = await takings.mandate()
    await takings.collect(mandate.consent_id, 1250, payment_id="pay_1")
    with pytest.raises(StateConflict):
        await takings.collect(mandate.consent_id, 1251, payment_id="pay_1")
    with pytest.raises(ForeignResource):
        await takings.collect(mandate.consent_id, 1250, payment_id="pay_1", partner_id="shopco")
    assert await takings.spent() == 1250


async def test_a_payment_that_was_made_is_found_after_the_mandate_has_ended(takings: Takings) -> None:
    mandate = await takings.mandate()
    await takings.collect(mandate.consent_id, 1250, payment_id="pay_1")
    async with takings.database.transaction() as conn:
        await consents.revoke(conn, mandate.consent_id, partner_id="parkco", actor="customer", now_ms=NOW_MS)
    assert (await takings.collect(mandate.consent_id, 1250, payment_id="pay_1")).status == "ACSC"
    with pytest.raises(ConsentNotInForce):
        await takings.collect(mandate.consent_id, 1250, payment_id="pay_2")
    assert await takings.spent() == 1250


async def test_nobody_collects_under_anothers_mandate(takings: Takings) -> None:
    mandate = await takings.mandate()
    with pytest.raises(ForeignResource):
        await takings.collect(mandate.consent_id, 1, partner_id="shopco")
    with pytest.raises(UnknownResource):
        await takings.collect("cns_unknown", 1)
    assert await takings.spent() == 0


async def test_another_creditor_than_the_mandates_is_refused(takings: Takings) -> None:
    mandate = await takings.mandate()
    with pytest.raises(PaymentDiffersFromConsent):
        await takings.collect(mandate.consent_id, 1, creditor_account="shopco-settlement")
    assert await takings.sql("SELECT 1 FROM payment") == []


@pytest.mark.parametrize(
    ("minor", "currency", "now_ms", "parameter"),
    [
        (10_001, "CNY", NOW_MS, "MaximumIndividualAmount"),
        (1, "EUR", NOW_MS, "MaximumIndividualAmount"),
        (1, "CNY", NOW_MS + 1_000, "ValidToDateTime"),
        (1, "CNY", NOW_MS - 1_001, "ValidFromDateTime"),
        (6_000, "CNY", NOW_MS, "PeriodicLimits[1].Amount"),
    ],
)
async def test_a_payment_outside_its_control_parameters_leaves_no_trace(
    takings: Takings, minor: int, currency: str, now_ms: int, parameter: str
) -> None:
    body = vrp_body(
        ("Month", "Calendar", "500.00"), ("Day", "Consent", "59.99"),
        ValidFromDateTime="2026-09-21T14:13:19Z", ValidToDateTime="2026-09-21T14:13:21Z",
    )  # fmt: skip
    mandate = await takings.mandate(body)
    with pytest.raises(ControlParameterBreached) as refused:
        await takings.collect(mandate.consent_id, minor, currency=currency, now_ms=now_ms)
    assert refused.value.path == f"$.Data.ControlParameters.{parameter}"
    assert (await takings.sql("SELECT 1 FROM payment"), await takings.used()) == ([], [])


async def test_what_a_period_has_left_is_exact_however_many_come_at_once(takings: Takings) -> None:
    body = vrp_body(("Month", "Calendar", "500.00"), ("Day", "Calendar", "50.00"), ("Week", "Consent", "80.00"))
    mandate = await takings.mandate(body)
    tries = [takings.collect(mandate.consent_id, 1_100) for _ in range(12)]
    answers = await asyncio.gather(*tries, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, ControlParameterBreached)]
    assert (len(answers) - len(refused), len(refused)) == (4, 8)
    assert {refusal.path for refusal in refused} == {"$.Data.ControlParameters.PeriodicLimits[1].Amount"}
    assert await takings.used() == [4_400, 4_400, 4_400]
    assert await takings.spent() == await takings.booked() == 4_400


async def test_a_new_day_has_its_own_limit(takings: Takings) -> None:
    mandate = await takings.mandate(vrp_body(("Day", "Calendar", "50.00")))
    await takings.collect(mandate.consent_id, 5_000)
    with pytest.raises(ControlParameterBreached):
        await takings.collect(mandate.consent_id, 1)
    midnight_ms = NOW_MS + 107 * 60_000  # 22:13:20 → 00:00:20 in Shanghai
    assert (await takings.collect(mandate.consent_id, 5_000, now_ms=midnight_ms)).status == "ACSC"


async def test_a_rejected_payment_gives_its_usage_back(takings: Takings) -> None:
    mandate = await takings.mandate(vrp_body(("Day", "Calendar", "10.00"), ("Month", "Consent", "10.00")))
    await takings.fault("reject")
    refused = await takings.collect(mandate.consent_id, 1_000)
    assert (refused.status, refused.reason) == ("RJCT", "NARR")
    assert (await takings.used(), await takings.booked(), await takings.events()) == ([0, 0], 0, [])
    assert (await takings.collect(mandate.consent_id, 1_000)).status == "ACSC"


async def test_an_account_without_enough_money_rejects(takings: Takings) -> None:
    mandate = await takings.mandate(vrp_body(("Year", "Calendar", "9000.00"), maximum="9000.00"))
    assert (await takings.collect(mandate.consent_id, 100_001)).reason == "AM04"


# --- a silent bank -----------------------------------------------------------------------------------------------
async def test_a_lost_answer_stays_pending_until_a_question_settles_it(takings: Takings) -> None:
    mandate = await takings.mandate()
    await takings.fault("lose_answer")
    pending = await takings.collect(mandate.consent_id, 1250, payment_id="pay_1")
    assert (pending.status, await takings.booked(), await takings.used()) == ("PDNG", 0, [1250])
    assert await takings.settle(after_ms=1_999) == 0
    assert await takings.settle(after_ms=2_000) == 1
    assert await takings.settle(after_ms=600_000) == 0
    assert (await takings.spent(), await takings.booked(), await takings.used()) == (1250, 1250, [1250])
    assert (len(await takings.sql("SELECT 1 FROM sandbox_bank.bank_order")), await takings.events()) == (
        1, ["payment.completed"],
    )  # fmt: skip


async def test_a_lost_answer_is_settled_by_asking_again_with_the_same_id(takings: Takings) -> None:
    mandate = await takings.mandate()
    await takings.fault("lose_answer")
    answers = [(await takings.collect(mandate.consent_id, 1250, payment_id="pay_1")).status for _ in range(2)]
    assert answers == ["PDNG", "ACSC"]
    assert await takings.spent() == 1250


async def test_an_order_that_never_arrived_is_rejected_after_its_grace_and_never_sent_again(takings: Takings) -> None:
    mandate = await takings.mandate()
    await takings.fault("lose_request")
    again = [await takings.collect(mandate.consent_id, 1250, payment_id="pay_1") for _ in range(3)]
    assert [answer.status for answer in again] == ["PDNG", "PDNG", "PDNG"]
    for after_s in ASKED_AFTER_S[:-1]:
        assert await takings.settle(after_ms=after_s * 1_000) == 1
    assert (await takings.collect(mandate.consent_id, 1250, payment_id="pay_1")).status == "PDNG"
    assert await takings.settle(after_ms=ASKED_AFTER_S[-1] * 1_000) == 1
    late = await takings.collect(mandate.consent_id, 1250, payment_id="pay_1")
    assert (late.status, late.reason) == ("RJCT", NEVER_ARRIVED)
    assert (await takings.used(), await takings.spent(), await takings.booked()) == ([0], 0, 0)
    assert await takings.sql("SELECT 1 FROM sandbox_bank.bank_order") == []


async def test_an_order_that_arrives_after_its_life_is_not_carried_out(takings: Takings) -> None:
    """A process that stood still between writing and sending: nobody waits for that order any more."""
    mandate = await takings.mandate()
    late = await takings.collect(mandate.consent_id, 1250, now_ms=NOW_MS - ORDER_LIFE_MS - 1)
    assert (late.status, late.reason) == ("RJCT", "TM01")
    assert (await takings.used(), await takings.spent(), await takings.booked()) == ([0], 0, 0)


async def test_an_order_that_the_bank_leaves_pending_stays_so_however_long(takings: Takings) -> None:
    mandate = await takings.mandate()
    await takings.fault("pend")
    assert (await takings.collect(mandate.consent_id, 1250)).status == "PDNG"
    assert await takings.settle(after_ms=3_600_000) == 1
    await takings.settle_for_good()
    assert [row["status"] for row in await takings.sql("SELECT status FROM payment")] == ["PDNG"]
    assert await takings.used() == [1250]


async def test_a_silent_order_is_asked_for_less_and_less_often(takings: Takings) -> None:
    mandate = await takings.mandate()
    await takings.fault("pend")
    await takings.collect(mandate.consent_id, 1250)
    asked = [after_s for after_s in range(1, 200) if await takings.settle(after_ms=after_s * 1_000)]
    assert asked == [*ASKED_AFTER_S, 128]


# --- giving back -------------------------------------------------------------------------------------------------
async def test_refunds_give_back_up_to_the_payment(takings: Takings) -> None:
    paid = await takings.collect((await takings.mandate()).consent_id, 1_000)
    assert (await takings.refund(paid.payment_id, 400, refund_id="rfd_1")).status == "ACSC"
    assert (await takings.refund(paid.payment_id, 400, refund_id="rfd_1")).status == "ACSC"
    assert (await takings.spent(), await takings.booked()) == (600, 600)
    with pytest.raises(RefundExceedsPayment):
        await takings.refund(paid.payment_id, 601)
    assert (await takings.refund(paid.payment_id, 600)).status == "ACSC"
    assert (await takings.spent(), await takings.booked()) == (0, 0)
    assert await takings.events() == ["payment.completed", "payment.refunded", "payment.refunded"]
    assert takings.moved == [takings.account_id] * 3


async def test_refunds_that_race_never_exceed_the_payment(takings: Takings) -> None:
    paid = await takings.collect((await takings.mandate()).consent_id, 1_000)
    answers = await asyncio.gather(*(takings.refund(paid.payment_id, 300) for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(answer, RefundExceedsPayment) for answer in answers) == 3
    assert await takings.spent() == await takings.booked() == 100


async def test_another_refund_under_the_same_id_is_refused(takings: Takings) -> None:
    paid = await takings.collect((await takings.mandate()).consent_id, 1_000)
    await takings.refund(paid.payment_id, 400, refund_id="rfd_1")
    with pytest.raises(StateConflict):
        await takings.refund(paid.payment_id, 401, refund_id="rfd_1")
    with pytest.raises(ForeignResource):
        await takings.refund(paid.payment_id, 100, partner_id="shopco")


async def test_a_payment_that_has_not_settled_is_not_given_back(takings: Takings) -> None:
    mandate = await takings.mandate()
    for effect in ("pend", "reject"):
        await takings.fault(effect)
        paid = await takings.collect(mandate.consent_id, 1_000)
        with pytest.raises(RefundExceedsPayment):
            await takings.refund(paid.payment_id, 1)


@pytest.mark.parametrize(("effect", "status", "left"), [("lose_answer", "ACSC", 700), ("lose_request", "RJCT", 1_000)])
async def test_a_refund_that_was_not_answered_is_asked_for(
    takings: Takings, effect: str, status: str, left: int
) -> None:
    paid = await takings.collect((await takings.mandate()).consent_id, 1_000)
    await takings.fault(effect)
    assert (await takings.refund(paid.payment_id, 300, refund_id="rfd_1")).status == "PDNG"
    await takings.settle_for_good()
    assert (await takings.refund(paid.payment_id, 300, refund_id="rfd_1")).status == status
    assert await takings.spent() == await takings.booked() == left
    [row] = await takings.sql("SELECT refunded_minor FROM payment")
    assert row["refunded_minor"] == 1_000 - left


async def test_a_rejected_refund_leaves_its_amount_to_another(takings: Takings) -> None:
    paid = await takings.collect((await takings.mandate()).consent_id, 1_000)
    await takings.fault("reject")
    assert (await takings.refund(paid.payment_id, 1_000)).status == "RJCT"
    assert (await takings.refund(paid.payment_id, 1_000)).status == "ACSC"
