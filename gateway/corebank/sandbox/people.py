"""The sandbox bank's counter: customers who open accounts, activate cards and spend; and the seeded demo customers."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.corebank.sandbox import store
from gateway.corebank.sandbox.bank import hash_passcode
from gateway.corebank.sandbox.goal_feed import store as goal_feed
from gateway.corebank.sandbox.store import FeedEvent, NewCustomer
from gateway.database import Database

TREASURY = "acc_sandbox_treasury"  # where opening money comes from; may be overdrawn
DEMO_PASSCODE = "246810"
DEMO_OPENING_MINOR = 100_000_000  # 1,000,000.00: enough for a real day of car parks
DEMO_CUSTOMERS = (
    ("demo-1", "王小明", "+8613800000001"),
    ("demo-2", "李芳", "+8613800000002"),
    ("demo-3", "张伟", "+8613800000003"),
    ("demo-4", "刘洋", "+8613800000004"),
    ("demo-5", "陈静", "+8613800000005"),
    ("demo-6", "杨帆", "+8613800000006"),
    ("demo-7", "赵敏", "+8613800000007"),
    ("demo-8", "黄磊", "+8613800000008"),
)
_SEED_MS = 1_735_689_600_000  # 2025-01-01T00:00:00Z: the demo's customers have been here for a while
_BIN = "622202"


@dataclass(frozen=True, slots=True)
class Opening:
    """Somebody opens an account at the sandbox bank. `phone` is normalised already."""

    phone: str
    name: str
    currency: str
    occurred_ms: int
    opening_minor: int = 0
    scan_ticket: str | None = None


@dataclass(frozen=True, slots=True)
class Counter:
    """What happens at the bank's counter."""

    database: Database

    async def open_accounts(self, openings: Sequence[Opening]) -> dict[str, str]:
        """phone → customer id of every opening; those who were customers before stay who they are, without a goal."""
        passcode = hash_passcode(DEMO_PASSCODE)
        first: dict[str, Opening] = {}
        for opening in openings:
            first.setdefault(opening.phone, opening)  # somebody who comes twice in one call comes once
        openings = list(first.values())
        new = [_new_customer(opening, passcode) for opening in openings]
        async with self.database.transaction() as conn:
            fresh = await store.open_customers(conn, new, source_account=TREASURY)
            await goal_feed.append_events(
                conn,
                [
                    FeedEvent(f"open-{c.customer_id}", "ACCOUNT_OPENED", c.customer_id, 0, o.currency, o.occurred_ms,
                              o.scan_ticket)
                    for c, o in zip(new, openings, strict=True)
                    if c.customer_id in fresh
                ],
            )  # fmt: skip
            return await store.customer_ids(conn, [opening.phone for opening in openings])

    async def tell(self, events: Sequence[FeedEvent]) -> set[str]:
        """Cards activated and money spent, onto the goal feed; returns the ids that were new."""
        async with self.database.transaction() as conn:
            return await goal_feed.append_events(conn, events)

    async def customer_ids(self, phones: Sequence[str]) -> dict[str, str]:
        async with self.database.connection() as conn:
            return await store.customer_ids(conn, phones)

    async def logins(self, customer_ids: Sequence[str]) -> dict[str, str]:
        """customer id → login; the passcode of everybody here is the demo's."""
        async with self.database.connection() as conn:
            return await store.logins_of(conn, customer_ids)

    async def seed(self, house_accounts: Sequence[tuple[str, str]], *, currency: str) -> None:
        """Demo customers, the treasury, and (account number, holder) of each partner. Safe to run again."""
        passcode = hash_passcode(DEMO_PASSCODE)
        demo = [
            _new_customer(Opening(phone, name, currency, _SEED_MS, DEMO_OPENING_MINOR), passcode, login=login)
            for login, name, phone in DEMO_CUSTOMERS
        ]
        async with self.database.transaction() as conn:
            await store.open_house_account(
                conn, TREASURY, holder="沙箱银行 Sandbox bank", identification="0000000000000000000", currency=currency,
                overdraft=True, opened_ms=_SEED_MS,
            )  # fmt: skip
            for number, holder in house_accounts:
                await store.open_house_account(
                    conn, f"acc_house_{number}", holder=holder, identification=number, currency=currency,
                    overdraft=True, opened_ms=_SEED_MS,
                )  # fmt: skip
            await store.open_customers(conn, demo, source_account=TREASURY)

    async def demo_logins(self) -> list[tuple[str, str]]:
        """(login, name) for the sandbox's login page."""
        async with self.database.connection() as conn:
            return await store.logins(conn, len(DEMO_CUSTOMERS))


def _new_customer(opening: Opening, passcode_hash: str, *, login: str | None = None) -> NewCustomer:
    """Ids follow from the phone, so the same person opens the same account however often the demo runs."""
    digest = hashlib.sha256(f"sandbox {opening.phone}".encode()).hexdigest()
    number = str(int(digest[:12], 16)).zfill(15)[-12:]
    return NewCustomer(
        f"cus_{digest[:20]}", opening.name, opening.phone, login or f"c-{digest[:12]}", passcode_hash,
        f"acc_{digest[20:40]}", _BIN + number + _check_digit(_BIN + number), opening.currency, opening.occurred_ms,
        opening.opening_minor,
    )  # fmt: skip


def _check_digit(number: str) -> str:
    """ISO/IEC 7812-1 Annex B (Luhn)."""
    doubled = [int(digit) * (2 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(number))]
    return str(-sum(value - 9 if value > 9 else value for value in doubled) % 10)
