"""What every core bank behind the port keeps to. The sandbox bank is held to it; an HTTP connector will be too."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from gateway.corebank.port import (
    Account,
    CoreBank,
    CoreBankUnavailable,
    OrderIdReused,
    OrderStatus,
    PaymentOrder,
    RefundOrder,
    Tenure,
)
from gateway.corebank.sandbox.bank import Clock, SandboxBank
from gateway.corebank.sandbox.people import DEMO_OPENING_MINOR, DEMO_PASSCODE, Counter, Opening
from gateway.corebank.sandbox.store import FeedEvent
from gateway.database import Database
from gateway.money import Money

NOW_MS = 1_790_000_000_000
MERCHANT = "parkco-settlement"
PHONE = "+8613911112222"


@dataclass(slots=True)
class Bank:
    """The core bank that is tried, by its port, and what only a tester sees."""

    port: CoreBank
    sandbox: SandboxBank
    counter: Counter
    account: Account

    def payment(self, minor: int, **changes: Any) -> PaymentOrder:
        order = PaymentOrder(
            f"pay_{secrets.token_hex(6)}", self.account.account_id, MERCHANT, Money(minor, "CNY"), "stay", "7523",
            NOW_MS + 1,
        )  # fmt: skip
        return replace(order, **changes)

    def refund(self, payment: PaymentOrder, minor: int, **changes: Any) -> RefundOrder:
        order = RefundOrder(f"rfd_{secrets.token_hex(6)}", payment.payment_id, Money(minor, "CNY"), NOW_MS + 1)
        return replace(order, **changes)

    async def balance(self) -> int:
        found = await self.port.balance(self.account.account_id)
        assert found is not None
        assert (found.booked, found.at_ms) == (found.available, NOW_MS)
        return found.booked.minor - DEMO_OPENING_MINOR

    async def fault(self, effect: str) -> None:
        await self.sql("INSERT INTO sandbox_bank.fault (effect, remaining) VALUES ($1, 1)", effect)

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        async with self.sandbox.database.connection() as conn:
            return list(await conn.fetch(statement, *values))


@pytest.fixture
async def bank(database: Database) -> AsyncIterator[Bank]:
    sandbox, counter = SandboxBank(database, Clock(lambda: NOW_MS)), Counter(database)
    customer = await sandbox.find_login("demo-1", DEMO_PASSCODE)
    assert customer is not None
    [account] = await sandbox.accounts(customer.customer_id)
    yield Bank(sandbox, sandbox, counter, account)
    [row] = await the_book(database)
    assert (row["wrong"], row["total"]) == (0, 0), "the bank's own book does not balance"


async def the_book(database: Database) -> list[Any]:
    """How many accounts hold something else than the sum of their movements, and the sum of all money."""
    async with database.connection() as conn:
        return list(
            await conn.fetch(
                """SELECT count(*) FILTER (WHERE a.balance_minor <> coalesce(m.total, 0)) AS wrong,
                     sum(a.balance_minor) AS total
                   FROM sandbox_bank.account a LEFT JOIN (
                     SELECT account_id, sum(amount_minor) AS total FROM sandbox_bank.movement GROUP BY account_id
                   ) m USING (account_id)"""
            )
        )


# --- people ------------------------------------------------------------------------------------------------------
async def test_a_login_needs_its_passcode(bank: Bank) -> None:
    known = await bank.port.find_login("demo-1", DEMO_PASSCODE)
    assert known is not None
    assert known == await bank.port.customer(known.customer_id)
    assert await bank.port.find_login("demo-1", "000000") is None
    assert await bank.port.find_login("demo-99", DEMO_PASSCODE) is None
    assert await bank.port.customer("cus_unknown") is None


async def test_customers_keep_their_data_out_of_texts(bank: Bank) -> None:
    known = await bank.port.find_login("demo-1", DEMO_PASSCODE)
    assert known is not None
    for secret in (known.phone, known.name, bank.account.identification):
        assert secret not in repr(known) + repr(bank.account)


async def test_accounts_are_the_customers_own_and_their_holder_is_told_by_the_number(bank: Bank) -> None:
    assert bank.account.currency == "CNY"
    assert await bank.port.registered_holder(bank.account.identification) == bank.account.holder
    unknown = (bank.port.accounts("cus_unknown"), bank.port.balance("acc_unknown"), bank.port.registered_holder("0"))
    assert [await nothing for nothing in unknown] == [(), None, None]
    assert not await bank.port.funds_available("acc_unknown", Money(1, "CNY"))


async def test_funds_are_there_up_to_the_balance_and_in_its_currency(bank: Bank) -> None:
    asked = [(DEMO_OPENING_MINOR, "CNY"), (DEMO_OPENING_MINOR + 1, "CNY"), (1, "EUR")]
    assert [await bank.port.funds_available(bank.account.account_id, Money(*m)) for m in asked] == [True, False, False]


# --- orders ------------------------------------------------------------------------------------------------------
async def test_a_payment_moves_money_once_however_often_it_is_sent(bank: Bank) -> None:
    order = bank.payment(1_250)
    answers = {(await bank.port.post_payment(order)).status for _ in range(3)}
    answers |= {outcome.status for outcome in await asyncio.gather(*(bank.port.post_payment(order) for _ in range(4)))}
    assert answers == {OrderStatus.SETTLED}
    assert await bank.balance() == -1_250
    assert (await bank.port.order_status(order.payment_id)) == await bank.port.post_payment(order)


@pytest.mark.parametrize(
    "change", [{"amount": Money(1_251, "CNY")}, {"creditor_account": "shopco"}, {"debtor_account_id": "acc_other"}]
)
async def test_another_order_under_a_known_id_moves_nothing(bank: Bank, change: dict[str, Any]) -> None:
    order = bank.payment(1_250)
    await bank.port.post_payment(order)
    with pytest.raises(OrderIdReused):
        await bank.port.post_payment(replace(order, **change))
    assert await bank.balance() == -1_250


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"amount": Money(DEMO_OPENING_MINOR + 1, "CNY")}, "AM04"),
        ({"amount": Money(1, "EUR")}, "AM03"),
        ({"creditor_account": "nobody"}, "AC01"),
        ({"debtor_account_id": "nobody"}, "AC01"),
        ({"valid_until_ms": NOW_MS - 1}, "TM01"),
    ],
)
async def test_an_order_that_cannot_be_carried_out_is_rejected_for_good(
    bank: Bank, change: dict[str, Any], reason: str
) -> None:
    order = bank.payment(1_250, **change)
    outcome = await bank.port.post_payment(order)
    assert (outcome.status, outcome.reason) == (OrderStatus.REJECTED, reason)
    assert await bank.port.order_status(order.payment_id) == outcome
    assert await bank.balance() == 0


async def test_nobody_pays_themselves(bank: Bank) -> None:
    outcome = await bank.port.post_payment(bank.payment(1, creditor_account=bank.account.identification))
    assert (outcome.status, outcome.reason) == (OrderStatus.REJECTED, "AC03")


async def test_payments_that_race_never_overdraw(bank: Bank) -> None:
    order = bank.payment(DEMO_OPENING_MINOR // 4 - 1)
    orders = [replace(order, payment_id=f"pay_{number}") for number in range(8)]
    outcomes = await asyncio.gather(*map(bank.port.post_payment, orders))
    assert sorted(outcome.reason for outcome in outcomes) == ["", "", "", "", "AM04", "AM04", "AM04", "AM04"]
    assert await bank.balance() == -4 * order.amount.minor


async def test_refunds_together_never_exceed_their_payment(bank: Bank) -> None:
    paid = bank.payment(1_000)
    await bank.port.post_payment(paid)
    outcomes = await asyncio.gather(*(bank.port.refund(bank.refund(paid, 300)) for _ in range(5)))
    assert sorted(outcome.reason for outcome in outcomes) == ["", "", "", "AM09", "AM09"]
    assert await bank.balance() == -100


async def test_a_refund_gives_back_once_however_often_it_is_sent(bank: Bank) -> None:
    paid = bank.payment(1_000)
    await bank.port.post_payment(paid)
    order = bank.refund(paid, 300)
    assert {(await bank.port.refund(order)).status for _ in range(3)} == {OrderStatus.SETTLED}
    with pytest.raises(OrderIdReused):
        await bank.port.refund(replace(order, amount=Money(301, "CNY")))
    assert await bank.balance() == -700


async def test_what_was_never_paid_is_not_given_back(bank: Bank) -> None:
    refused = bank.payment(1_000, creditor_account="nobody")
    await bank.port.post_payment(refused)
    for payment in (refused, bank.payment(1_000)):
        assert (await bank.port.refund(bank.refund(payment, 1))).status is OrderStatus.REJECTED
    assert await bank.balance() == 0


async def test_an_unknown_order_is_unknown(bank: Bank) -> None:
    assert await bank.port.order_status("pay_unknown") is None


# --- answers that do not come ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("effect", "known", "moved"), [("lose_answer", OrderStatus.SETTLED, -1_250), ("lose_request", None, 0)]
)
async def test_a_lost_answer_leaves_only_a_question(
    bank: Bank, effect: str, known: OrderStatus | None, moved: int
) -> None:
    order = bank.payment(1_250)
    await bank.fault(effect)
    with pytest.raises(CoreBankUnavailable):
        await bank.port.post_payment(order)
    found = await bank.port.order_status(order.payment_id)
    assert (found.status if found else None) is known
    assert await bank.balance() == moved


async def test_a_pending_order_is_decided_once(bank: Bank) -> None:
    order = bank.payment(1_250)
    await bank.fault("pend")
    assert (await bank.port.post_payment(order)).status is OrderStatus.PENDING
    assert (await bank.port.post_payment(order)).status is OrderStatus.PENDING
    assert await bank.balance() == 0
    outcomes = await asyncio.gather(*(bank.sandbox.decide(order.payment_id) for _ in range(3)))
    assert {outcome.status if outcome else None for outcome in outcomes} == {OrderStatus.SETTLED}
    assert await bank.balance() == -1_250
    assert await bank.sandbox.decide("pay_unknown") is None


async def test_a_fault_strikes_as_often_as_it_says(bank: Bank) -> None:
    await bank.fault("reject")
    outcomes = [await bank.port.post_payment(bank.payment(10)) for _ in range(2)]
    assert [(outcome.status, outcome.reason) for outcome in outcomes] == [
        (OrderStatus.REJECTED, "NARR"), (OrderStatus.SETTLED, ""),
    ]  # fmt: skip


# --- history and the goal feed -----------------------------------------------------------------------------------
async def test_history_comes_in_pages_in_the_order_of_booking(bank: Bank) -> None:
    for minor in (100, 200, 300):
        await bank.port.post_payment(bank.payment(minor))
    everything = {"from_ms": 0, "to_ms": NOW_MS}
    whole = await bank.port.transactions(bank.account.account_id, after=0, limit=10, **everything)
    assert [row.amount.minor for row in whole] == [DEMO_OPENING_MINOR, -100, -200, -300]
    assert whole[-1].balance_after.minor == DEMO_OPENING_MINOR - 600
    assert (whole[-1].information, whole[-1].mcc) == ("stay", "7523")
    paged = [
        row
        for after in (0, whole[1].cursor, whole[3].cursor)
        for row in await bank.port.transactions(bank.account.account_id, after=after, limit=2, **everything)
    ]
    assert tuple(paged) == whole
    today = await bank.port.transactions(bank.account.account_id, from_ms=NOW_MS, to_ms=NOW_MS, after=0, limit=10)
    assert [row.amount.minor for row in today] == [-100, -200, -300]


async def test_the_goal_feed_says_the_same_of_a_person_in_whatever_order_it_tells(bank: Bank) -> None:
    """Since when a customer, until when before, the first goal of the kind since: the books, not the telling."""
    year = 365 * 86_400_000
    customer = (await bank.counter.open_accounts([Opening(PHONE, "王五", "CNY", NOW_MS - year)]))[PHONE]
    async with bank.sandbox.database.connection() as conn:
        await conn.execute(
            "UPDATE sandbox_bank.account SET closed_ms = opened_ms + 10 WHERE customer_id = $1", customer
        )
        for number, opened_ms in enumerate((NOW_MS - 90, NOW_MS - 70)):
            await conn.execute(
                """INSERT INTO sandbox_bank.account (account_id, customer_id, currency, nickname, type_code, scheme,
                       identification, holder, opened_ms)
                   VALUES ($1, $2, 'CNY', '', 'CACC', 'CN.UnionPay.PAN', $1, '', $3)""",
                f"again-{number}", customer, opened_ms,
            )  # fmt: skip
    for number, at_ms in enumerate((NOW_MS - 20, NOW_MS - 50, NOW_MS - year + 5)):
        await bank.counter.tell([FeedEvent(f"s{number}", "SPEND", customer, 1, "CNY", at_ms, None)])
    events = (await bank.port.customer_events(after=0, limit=10))[1:]
    assert {event.tenures for event in events} == {
        (Tenure(NOW_MS - year, NOW_MS - year + 10), Tenure(NOW_MS - 90, None))
    }
    assert [event.first_ms for event in events] == [NOW_MS - 50, NOW_MS - 50, NOW_MS - year + 5]


async def test_the_goal_feed_tells_each_event_once_and_in_order(bank: Bank) -> None:
    opening = Opening(PHONE, "王五", "CNY", NOW_MS - 5, scan_ticket="ticket")
    opened = await bank.counter.open_accounts([opening])
    again = await bank.counter.open_accounts([opening])
    assert opened == again
    spend = FeedEvent("spend-1", "SPEND", opened[PHONE], 4_200, "CNY", NOW_MS - 1, None)
    assert await bank.counter.tell([spend, spend]) == {"spend-1"}
    assert await bank.counter.tell([spend]) == set()
    events = await bank.port.customer_events(after=0, limit=10)
    assert [(event.kind, event.amount_minor, event.scan_ticket) for event in events] == [
        ("ACCOUNT_OPENED", 0, "ticket"), ("SPEND", 4_200, "ticket"),
    ]  # fmt: skip
    assert {event.tenures for event in events} == {(Tenure(NOW_MS - 5, None),)}
    assert [event.first_ms for event in events] == [NOW_MS - 5, NOW_MS - 1]
    assert {event.phone for event in events} == {PHONE}
    assert await bank.port.customer_events(after=events[0].cursor, limit=10) == events[1:]
    assert PHONE not in repr(events)
