"""Balances that are at most a second old: one question for many askers, and none that outlives a payment of ours."""

import asyncio
from dataclasses import dataclass, field

import pytest

from gateway.accounts.fresh import MAX_AGE_MS, REMEMBERED, FreshBalances
from gateway.corebank.port import Balance, CoreBankUnavailable
from gateway.money import Money

NOW_MS = 1_790_000_000_000


@dataclass(slots=True)
class Bank:
    """Stands for the core bank: answers when it is let, and counts the questions."""

    minor: int = 100
    questions: int = 0
    is_silent: bool = False
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    def __post_init__(self) -> None:
        self.answering.set()

    async def balance(self, account_id: str) -> Balance | None:
        self.questions += 1
        money = Money(self.minor, "CNY")
        self.asked.put_nowait(account_id)
        await self.answering.wait()
        if self.is_silent:
            raise CoreBankUnavailable
        return None if account_id == "unknown" else Balance(account_id, money, money, NOW_MS)


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture
def fresh(bank: Bank) -> FreshBalances:
    return FreshBalances(bank.balance, lambda balance: balance.booked.text.encode())


async def test_a_balance_is_told_for_a_second_and_then_asked_for_again(bank: Bank, fresh: FreshBalances) -> None:
    first = await fresh.get("a", now_ms=NOW_MS)
    assert first is not None
    assert first.body == b"1.00"
    bank.minor = 90
    assert await fresh.get("a", now_ms=NOW_MS + MAX_AGE_MS - 1) is first
    later = await fresh.get("a", now_ms=NOW_MS + MAX_AGE_MS)
    assert later is not None
    assert (later.body, bank.questions) == (b"0.90", 2)


async def test_a_balance_of_a_clock_that_has_gone_back_is_asked_for_again(bank: Bank, fresh: FreshBalances) -> None:
    await fresh.get("a", now_ms=NOW_MS + 86_400_000)
    bank.minor = 90
    later = await fresh.get("a", now_ms=NOW_MS)
    assert later is not None
    assert later.body == b"0.90"


async def test_many_askers_are_one_question(bank: Bank, fresh: FreshBalances) -> None:
    bank.answering.clear()
    asking = [asyncio.create_task(fresh.get("a", now_ms=NOW_MS)) for _ in range(20)]
    await bank.asked.get()
    bank.answering.set()
    assert len(set(map(id, await asyncio.gather(*asking)))) == 1
    assert bank.questions == 1


async def test_an_asker_that_hangs_up_does_not_take_the_answer_along(bank: Bank, fresh: FreshBalances) -> None:
    bank.answering.clear()
    first, second = (asyncio.create_task(fresh.get("a", now_ms=NOW_MS)) for _ in range(2))
    await bank.asked.get()
    first.cancel()
    bank.answering.set()
    assert (await second) is not None
    assert bank.questions == 1


async def test_a_payment_of_ours_makes_the_next_asker_ask(bank: Bank, fresh: FreshBalances) -> None:
    await fresh.get("a", now_ms=NOW_MS)
    bank.minor = 50
    fresh.drop("a")
    known = await fresh.get("a", now_ms=NOW_MS)
    assert known is not None
    assert known.body == b"0.50"


async def test_an_answer_that_was_on_its_way_during_a_payment_is_not_remembered(
    bank: Bank, fresh: FreshBalances
) -> None:
    bank.answering.clear()
    before = asyncio.create_task(fresh.get("a", now_ms=NOW_MS))
    await bank.asked.get()
    bank.minor = 50
    fresh.drop("a")
    after = asyncio.create_task(fresh.get("a", now_ms=NOW_MS))
    await bank.asked.get()
    bank.answering.set()
    old, new = await before, await after
    assert old is not None
    assert new is not None
    assert (old.body, new.body) == (b"1.00", b"0.50")
    assert await fresh.get("a", now_ms=NOW_MS) is new


async def test_an_unknown_account_is_asked_for_each_time(bank: Bank, fresh: FreshBalances) -> None:
    assert [await fresh.get("unknown", now_ms=NOW_MS) for _ in range(2)] == [None, None]
    assert bank.questions == 2


async def test_a_silent_bank_is_told_to_every_asker_and_asked_again(bank: Bank, fresh: FreshBalances) -> None:
    bank.is_silent = True
    answers = await asyncio.gather(*(fresh.get("a", now_ms=NOW_MS) for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [CoreBankUnavailable] * 3
    bank.is_silent = False
    assert await fresh.get("a", now_ms=NOW_MS) is not None


async def test_what_is_remembered_has_an_end(bank: Bank, fresh: FreshBalances) -> None:
    for number in range(REMEMBERED + 1):
        await fresh.get(str(number), now_ms=NOW_MS)
    await fresh.get("0", now_ms=NOW_MS)
    await fresh.get("2", now_ms=NOW_MS)
    assert bank.questions == REMEMBERED + 2  # the first one was forgotten, the third was not
