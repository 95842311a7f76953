"""The bank's goal feed, as attribution reads it."""

from collections.abc import Sequence
from typing import Protocol

from gateway.corebank.port import CustomerEvent
from gateway.referrals.attributing import Feed, FeedEntry
from gateway.referrals.model import GoalReached, Tenure


class CustomerEvents(Protocol):
    """The part of the core bank that attribution needs."""

    async def customer_events(self, *, after: int, limit: int) -> tuple[CustomerEvent, ...]: ...


def bank_feed(bank: CustomerEvents) -> Feed:
    """Our cursor is text, as another bank's may be no number; empty stands for the beginning."""

    async def read(after_cursor: str, limit: int) -> Sequence[FeedEntry]:
        events = await bank.customer_events(after=int(after_cursor or 0), limit=limit)
        return [FeedEntry(str(event.cursor), _goal(event)) for event in events]

    return read


def _goal(event: CustomerEvent) -> GoalReached:
    return GoalReached(
        bank_event_id=event.event_id,
        goal=event.kind.value,
        customer_id=event.customer_id,
        phone=event.phone,
        amount_minor=event.amount_minor,
        currency=event.currency,
        occurred_at_ms=event.occurred_ms,
        tenures=tuple(Tenure(tenure.since_ms, tenure.until_ms) for tenure in event.tenures),
        first_at_ms=event.first_ms,
        scan_ticket=event.scan_ticket or "",
    )
