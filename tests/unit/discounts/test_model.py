"""The life of redemptions against a model, on a real database: no sequence of steps overspends or loses a fen."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from gateway.database import Database
from gateway.discounts.model import Redemption, RedemptionState
from gateway.ledger.store import trial_balance
from gateway.refusal import Refusal
from tests.conftest import past_all_rules
from tests.desks import NOW_MS, ONE_FEN, confirm, contract, counters, desk_with, hold, release, reverse

T = TypeVar("T")
BUDGET, DAY_BUDGET, PARTNER_CAP, TIMES = 6000, 5000, 1500, 2
TERMS = contract(
    {
        **ONE_FEN,
        "fund": [
            {"party": "bank", "bps": 6667},
            {"party": "partner", "bps": 3333, "cap_minor": PARTNER_CAP, "overflow": "bank"},
        ],
        "limits": {"budget_minor": BUDGET, "per_day_minor": DAY_BUDGET, "per_customer": TIMES},
    },
    unknown_customer="refuse",
)
KNOWN_CUSTOMERS = "abc"  # "?" is invented
LIVE = (RedemptionState.HELD, RedemptionState.CONFIRMED, RedemptionState.PART_REVERSED, RedemptionState.REVERSED)


@dataclass
class Known:
    """The model of one redemption."""

    customer: str
    reference: str
    state: RedemptionState
    order: int
    held: int
    granted: int = 0
    reversed: int = 0

    @property
    def taken(self) -> int:
        return self.held if self.state is RedemptionState.HELD else self.granted


class RedemptionLife(RuleBasedStateMachine):
    """Steps in any order; after each the counters, the rows and the book say what the model says."""

    database: Database
    loop: asyncio.AbstractEventLoop
    held = Bundle("held")
    confirmed = Bundle("confirmed")

    def __init__(self) -> None:
        super().__init__()
        self.run(_forget(self.database))
        self.desk = desk_with(self.database, TERMS)
        self.model: dict[str, Known] = {}
        self.funded = 0
        self.now_ms = NOW_MS

    def run(self, awaitable: Awaitable[T]) -> T:
        return asyncio.run_coroutine_threadsafe(_as_coroutine(awaitable), self.loop).result(timeout=30)

    def attempt(self, awaitable: Awaitable[Redemption]) -> Redemption | None:
        try:
            return self.run(awaitable)
        except Refusal:
            return None

    @rule(
        target=held, order=st.integers(2, 3000), customer=st.sampled_from("aabbcc?"),
        reference=st.integers(1, 12).map("order {}".format),
    )  # fmt: skip
    def hold_one(self, order: int, customer: str, reference: str) -> Any:
        off = min(order - 1, 2000)
        used = sum(known.taken for known in self.model.values() if known.state in LIVE)
        times = sum(known.customer == customer and known.state in LIVE for known in self.model.values())
        free = not any(known.reference == reference and known.state in LIVE for known in self.model.values())
        token = f"idt_1_{customer}"
        made = self.attempt(hold(self.desk, order, order=reference, subject_token=token, now_ms=self.now_ms))
        within = used + off <= min(BUDGET, DAY_BUDGET) and times < TIMES
        assert (made is not None) == (within and free and customer in KNOWN_CUSTOMERS)
        if made is None:
            return multiple()
        self.model[made.redemption_id] = Known(customer, reference, RedemptionState.HELD, order, off)
        return made

    @rule(target=confirmed, redemption=consumes(held), share=st.integers(1, 100))
    def confirm_one(self, redemption: Redemption, share: int) -> Any:
        known = self.model[redemption.redemption_id]
        order = max(2, known.order * share // 100)
        done = self.attempt(confirm(self.desk, redemption, order_minor=order, now_ms=self.now_ms))
        assert (done is not None) == (known.state is RedemptionState.HELD)
        if done is None:
            return multiple()
        known.state, known.granted = RedemptionState.CONFIRMED, min(order - 1, 2000)
        assert done.discount_minor == known.granted
        assert done.funding is not None
        assert done.funding.cap_left == {"partner": max(PARTNER_CAP - self.funded, 0)}, "whatever is held meanwhile"
        self.funded += done.funding.legs["partner"]
        return done

    @rule(redemption=consumes(held))
    def release_one(self, redemption: Redemption) -> None:
        known = self.model[redemption.redemption_id]
        if self.attempt(release(self.desk, redemption, now_ms=self.now_ms)) is not None:
            assert known.state is RedemptionState.HELD
            known.state = RedemptionState.RELEASED

    @rule(redemption=confirmed, amount=st.integers(1, 2500))
    def reverse_one(self, redemption: Redemption, amount: int) -> None:
        known = self.model[redemption.redemption_id]
        done = self.attempt(reverse(self.desk, redemption, amount))
        assert (done is not None) == (known.reversed + amount <= known.granted)
        if done is not None:
            known.reversed += amount
            whole = known.reversed == known.granted
            known.state = RedemptionState.REVERSED if whole else RedemptionState.PART_REVERSED
            assert done.state is known.state

    @rule()
    def time_passes(self) -> None:
        self.now_ms += 900_000
        open_holds = [known for known in self.model.values() if known.state is RedemptionState.HELD]
        assert self.run(self.desk.expire_holds_due(self.now_ms)) == len(open_holds)
        for known in open_holds:
            known.state = RedemptionState.EXPIRED

    @invariant()
    def counters_are_what_the_model_says(self) -> None:
        found = self.run(counters(self.database))
        taken = sum(known.taken for known in self.model.values() if known.state in LIVE)
        used = sum(known.granted for known in self.model.values())
        returned = sum(known.reversed for known in self.model.values())
        assert found.get("budget|parkco-2026|first-park|CNY", (0, 0, 0)) == (taken, used, returned)
        funded = found.get("fund|parkco-2026|first-park|CNY|partner", (0, 0, 0))
        assert funded[:2] == (self.funded, self.funded)
        assert self.funded <= PARTNER_CAP

    @invariant()
    def the_book_sums_to_zero_and_to_the_discounts(self) -> None:
        found = {b.account: b.balance_minor for b in self.run(_trial_balance(self.database))}
        granted = sum(known.granted - known.reversed for known in self.model.values())
        assert sum(found.values()) == 0
        assert found.get("merchant_clearing:parkco:CNY", 0) == -granted


async def _as_coroutine(awaitable: Awaitable[T]) -> T:
    return await awaitable


async def _trial_balance(database: Database) -> Any:
    async with database.connection() as conn:
        return await trial_balance(conn)


async def _forget(database: Database) -> None:
    """Each run begins with empty tables; the book itself never lets anybody do this."""
    async with past_all_rules(database.url) as conn:
        await conn.execute("TRUNCATE redemption, redemption_step, counter, event, ledger_entry, ledger_posting")


async def test_no_sequence_of_steps_overspends_or_loses_a_fen(database: Database) -> None:
    loop = asyncio.get_running_loop()
    machine = type("Life", (RedemptionLife,), {"database": database, "loop": loop})
    limits = settings(max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))
    await asyncio.to_thread(run_state_machine_as_test, machine, settings=limits)
