"""The outbox: an event is written in the transaction of its fact, so both are there or neither.

The same rows are what a business day seals. Writers hold a shared advisory lock per day and the closer takes it
exclusively, so no event slips into a day that has been counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from gateway.clock import local_day
from gateway.database import Connection
from gateway.ids import new_id
from gateway.jsonio import canonical

BANK_ZONE = ZoneInfo("Asia/Shanghai")  # the bank's business day; the contract's own zone decides tiers and limits
LEAF_VERSION = 2  # of the event's canonical form: docs/settlement-rules.md §2
DAY_LOCK = 0x64617900 << 32  # advisory lock space: "day\0", then the day's ordinal


@dataclass(frozen=True, slots=True)
class Event:
    """One fact. `amount_minor` is signed; `data` holds what the type needs, integers and strings only (no C2 or C3)."""

    type: str
    occurred_at_ms: int
    data: Mapping[str, Any]
    partner: str | None = None
    campaign: str | None = None
    contract: str | None = None
    contract_version: int | None = None
    currency: str | None = None
    amount_minor: int = 0
    subject_token: str | None = None
    idempotency_key: str | None = None
    event_id: str = field(default_factory=lambda: new_id("evt"))


async def append(conn: Connection, events: Sequence[Event], *, now_ms: int) -> date:
    """Write the events of this transaction, in order; returns the business day they are recorded in."""
    day: date = await conn.fetchval("SELECT hold_open_day($1, $2)", local_day(now_ms, BANK_ZONE), DAY_LOCK)
    if events:
        await conn.execute("SELECT record_events($1)", [leaf(event, now_ms=now_ms, day=day) for event in events])
    return day


def leaf(event: Event, *, now_ms: int, day: date) -> bytes:
    """The canonical bytes of the event: what is hashed into the day's tree and what the verifier reads."""
    return canonical(
        {
            "amount_minor": event.amount_minor,
            "business_day": day.isoformat(),
            "campaign": event.campaign,
            "contract": event.contract,
            "contract_version": event.contract_version,
            "currency": event.currency,
            "data": dict(event.data),
            "event_id": event.event_id,
            "idempotency_key": event.idempotency_key,
            "occurred_at_ms": event.occurred_at_ms,
            "partner": event.partner,
            "recorded_at_ms": now_ms,
            "subject_token": event.subject_token,
            "type": event.type,
            "v": LEAF_VERSION,
        }
    )


async def take_turns(conn: Connection) -> None:
    """Closings and moves of the business date, one at a time; writers don't wait for this."""
    await conn.execute("SELECT pg_advisory_xact_lock($1)", DAY_LOCK)


async def close_to_writers(conn: Connection, day: date, *, today: date) -> None:
    """Wait for the writers of all days through `day` and keep new ones out until this transaction ends.

    A writer holds the day that was open when it came; midnight and clocks that differ make that one of three at most.
    Closings and moves of the business date take turns, so no fourth day can have come up meanwhile.
    """
    await take_turns(conn)
    await conn.execute(
        """SELECT pg_advisory_xact_lock($2::bigint + (held.day - date '0001-01-01') + 1)
           FROM (SELECT DISTINCT least(open_day($3::date + near), $1::date) AS day
                 FROM generate_series(-1, 1) AS near ORDER BY day) AS held""",
        day, DAY_LOCK, today,
    )  # fmt: skip


async def open_day(conn: Connection, today: date) -> date:
    """The day that facts are recorded in at present: the business date, or the first after it that is not shut."""
    day: date = await conn.fetchval("SELECT open_day($1)", today)
    return day


async def business_date(conn: Connection, today: date) -> date:
    """The calendar's day in the bank's zone; a sandbox's own date where that is later."""
    moved: date | None = await conn.fetchval("SELECT day FROM sandbox_business_date")
    return max(today, moved or today)


async def move_business_date(conn: Connection, day: date, *, today: date) -> None:
    """A sandbox's, forward. Those who write wait, so that nobody is left on a day that came before."""
    await close_to_writers(conn, day, today=today)
    await conn.execute(
        "INSERT INTO sandbox_business_date (day) VALUES ($1) ON CONFLICT (only_row) DO UPDATE SET day = excluded.day",
        day,
    )
