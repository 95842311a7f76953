"""Orders whose gateway has a clock that jumps, at a bank that keeps the true time."""

from gateway.payments.paying import ASKED_IN_VAIN, LONGEST_WAIT_MS, ORDER_LIFE_MS
from tests.tills import DAY_MS, NOW_MS, Takings


async def test_an_order_on_its_way_is_not_given_up_because_our_clock_has_jumped_a_day_ahead(takings: Takings) -> None:
    """The bank keeps the true time: it may carry the order out until its life is over by that."""
    mandate = await takings.mandate()
    await takings.fault("lose_request")
    await takings.collect(mandate.consent_id, 1250)
    asked = [after_s for after_s in range(99) if await takings.settle(after_ms=DAY_MS + after_s * 1_000)]
    assert (len(asked), await takings.used()) == (ASKED_IN_VAIN, [0])
    assert asked[-1] - asked[0] > ORDER_LIFE_MS / 1_000, "by then the bank does not carry it out any more"


async def test_orders_of_a_clock_that_has_gone_back_a_day_are_asked_for_at_once(takings: Takings) -> None:
    mandate = await takings.mandate()
    for effect in ("lose_answer", "lose_request"):
        await takings.fault(effect)
        assert (await takings.collect(mandate.consent_id, 1250, now_ms=NOW_MS + DAY_MS)).status == "PDNG"
    paid = await takings.collect(mandate.consent_id, 1250)
    await takings.fault("lose_answer")
    back = await takings.refund(paid.payment_id, 100, now_ms=NOW_MS + DAY_MS)
    assert back.status == "PDNG"
    assert await takings.settle(after_ms=0) == 3
    await takings.settle_for_good()
    rows = await takings.sql("SELECT status FROM payment UNION ALL SELECT status FROM payment_refund ORDER BY 1")
    assert [row["status"] for row in rows] == ["ACSC", "ACSC", "ACSC", "RJCT"]


async def test_a_turn_that_is_as_far_ahead_as_the_longest_wait_is_waited_for(takings: Takings) -> None:
    mandate = await takings.mandate()
    await takings.fault("lose_answer")
    await takings.collect(mandate.consent_id, 1250, payment_id="pay_1")
    await takings.sql("UPDATE payment SET next_try_ms = $1", NOW_MS + LONGEST_WAIT_MS)
    assert await takings.settle(after_ms=0) == 0
