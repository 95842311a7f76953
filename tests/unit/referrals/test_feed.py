"""The bank's feed as attribution reads it, and what of it is not shown in a log."""

from gateway.corebank.port import CustomerEvent, CustomerEventKind, Tenure
from gateway.referrals.feed import bank_feed

PHONE, TICKET = "+8613800138000", "tkt_secret"


class Bank:
    """Three events; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    async def customer_events(self, *, after: int, limit: int) -> tuple[CustomerEvent, ...]:
        self.asked.append((after, limit))
        kinds = (CustomerEventKind.ACCOUNT_OPENED, CustomerEventKind.CARD_ACTIVATED, CustomerEventKind.SPEND)
        events = [
            CustomerEvent(place, f"e{place}", kind, "cus-1", 0, "CNY", place, place, (Tenure(1, None),), PHONE, TICKET)
            for place, kind in enumerate(kinds, 1)
        ]
        return tuple(event for event in events if event.cursor > after)[:limit]


async def test_the_feed_goes_on_where_its_cursor_stands() -> None:
    bank = Bank()
    read = bank_feed(bank)
    first = await read("", 2)
    rest = await read(first[-1].cursor, 2)
    assert [entry.goal.goal for entry in (*first, *rest)] == ["ACCOUNT_OPENED", "CARD_ACTIVATED", "SPEND"]
    assert [entry.goal.scan_ticket for entry in first] == [TICKET, TICKET]
    assert bank.asked == [(0, 2), (2, 2)]


async def test_a_goal_shows_neither_phone_nor_ticket() -> None:
    (entry,) = await bank_feed(Bank())("", 1)
    assert PHONE not in repr(entry)
    assert TICKET not in repr(entry)
    assert entry.goal.phone == PHONE
