"""A redemption desk over a real database with terms of the test's own, and short spellings of its requests."""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gateway.database import Database
from gateway.discounts.desk import RedemptionDesk
from gateway.discounts.model import Redemption
from gateway.discounts.redemption import FinalOrder
from gateway.ledger.store import trial_balance
from gateway.money import Money
from gateway.partners.contract import Contract
from gateway.partners.contract_rules import from_document
from gateway.partners.occasion import Occasion
from gateway.partners.snapshot import Snapshot
from gateway.refusal import Refusal

NOW_MS = 1_790_000_000_000  # 2026-09-21T14:13:20Z, a Monday; 22:13 in Shanghai
SECRET = bytes(32)
ONE_FEN: dict[str, Any] = {
    "id": "first-park", "title": "First parking for one fen", "kind": "cap_price", "pay_minor": 1,
    "max_off_minor": 2000,
    "fund": [{"party": "bank", "bps": 6000}, {"party": "partner", "bps": 4000}],
}  # fmt: skip

TEN_OFF = {"id": "ten", "title": "Ten off", "kind": "amount_off", "off_minor": 1000, "fund": ONE_FEN["fund"]}
BUDGET = "budget|parkco-2026|first-park|CNY"  # the counter of ONE_FEN's budget
LATE_MS = NOW_MS + 900_000  # a hold's time is over


def contract(*discounts: dict[str, Any], version: int = 1, **head: Any) -> Contract:
    """Any customer token will do, unless `unknown_customer="refuse"` is among the terms."""
    head = {
        "id": "parkco-2026", "version": version, "currency": "CNY", "valid_from": "2026-01-01",
        "unknown_customer": "allow", **head,
    }  # fmt: skip
    return from_document({"contract": head, "discount": list(discounts)})


def desk_with(database: Database, *versions: Contract) -> RedemptionDesk:
    snapshot = Snapshot(1, {}, {}, {}, {"parkco": versions}, frozenset())
    return RedemptionDesk(database, snapshot=lambda: snapshot, secret=SECRET)


def occasion(order_minor: int, **more: Any) -> Occasion:
    facts = {"occurred_at_ms": NOW_MS, "subject_token": "idt_1_a", "plate_digest": None, "site_id": None, "mcc": None}
    return Occasion(Money(order_minor, more.pop("currency", "CNY")), **{**facts, **more})


async def hold(
    desk: RedemptionDesk, order_minor: int, *, offer: str = "first-park", key: str = "", order: str = "",
    now_ms: int = NOW_MS, **more: Any,
) -> Redemption:  # fmt: skip
    """`order` is its reference; without one it is an order of its own."""
    quote = desk.quote("parkco", offer, occasion=occasion(order_minor, **more), now_ms=now_ms)
    return await desk.hold(
        quote, operation="HoldRedemption", key=key or secrets.token_hex(8), request_hash=str(order_minor).encode(),
        order_reference=order or secrets.token_hex(8), now_ms=now_ms,
    )  # fmt: skip


async def confirm(
    desk: RedemptionDesk, held: Redemption, *, order_minor: int | None = None, key: str = "", now_ms: int = NOW_MS,
    currency: str = "CNY", site_id: str | None = None, mcc_of: Callable[[str], str] | None = None,
) -> Redemption:  # fmt: skip
    order = Money(order_minor, currency) if order_minor is not None else None
    return await desk.confirm(
        "parkco", held.redemption_id, final=FinalOrder(order, site_id, mcc_of), operation="ConfirmRedemption",
        key=key or secrets.token_hex(8), request_hash=str(order_minor).encode(), now_ms=now_ms,
    )  # fmt: skip


async def release(desk: RedemptionDesk, held: Redemption, *, key: str = "", now_ms: int = NOW_MS) -> Redemption:
    return await desk.release(
        "parkco", held.redemption_id, operation="ReleaseRedemption", key=key or secrets.token_hex(8),
        request_hash=b"r", now_ms=now_ms,
    )  # fmt: skip


async def reverse(
    desk: RedemptionDesk, done: Redemption, amount_minor: int, *, key: str = "", currency: str = "CNY",
    now_ms: int = NOW_MS,
) -> Redemption:  # fmt: skip
    return await desk.reverse(
        "parkco", done.redemption_id, amount=Money(amount_minor, currency), operation="ReverseRedemption",
        key=key or secrets.token_hex(8), request_hash=str(amount_minor).encode(), now_ms=now_ms,
    )  # fmt: skip


async def counters(database: Database) -> dict[str, tuple[int, int, int]]:
    """(taken, used, reversed) by counter."""
    async with database.connection() as conn:
        rows = await conn.fetch("SELECT name, taken, used, reversed FROM counter ORDER BY name")
    return {row["name"]: (row["taken"], row["used"], row["reversed"]) for row in rows}


async def events(database: Database, kind: str) -> Sequence[Any]:
    async with database.connection() as conn:
        return list(await conn.fetch("SELECT * FROM event WHERE type = $1 ORDER BY seq", kind))


def limited(**limits: int) -> Contract:
    return contract({**ONE_FEN, "limits": limits})


async def balances(database: Database) -> dict[str, int]:
    async with database.connection() as conn:
        return {b.account: b.balance_minor for b in await trial_balance(conn)}


async def refusal_of(awaitable: Awaitable[Any]) -> Refusal | None:
    try:
        await awaitable
    except Refusal as refusal:
        return refusal
    return None
