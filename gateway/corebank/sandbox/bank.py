"""The port's reads and orders, on the sandbox bank's own connections: never inside a transaction of the gateway."""

import hashlib
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hmac import compare_digest

from asyncpg import Record

from gateway.corebank.port import (
    Account,
    Balance,
    CoreBankUnavailable,
    Customer,
    CustomerEvent,
    CustomerEventKind,
    OrderIdReused,
    OrderOutcome,
    OrderStatus,
    PaymentOrder,
    RefundOrder,
    Tenure,
    Transaction,
)
from gateway.corebank.sandbox import store
from gateway.corebank.sandbox.goal_feed import store as goal_feed
from gateway.corebank.sandbox.store import Booking
from gateway.database import Connection, Database
from gateway.money import Money

_SCRYPT = {"n": 2**12, "r": 8, "p": 1}  # light on purpose: demo passcodes are printed on the login page
_SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class SandboxBank:
    """Implements gateway.corebank.port.CoreBank. `clock` is the bank's own and may be moved by tests."""

    database: Database
    clock: "Clock"

    async def customer(self, customer_id: str) -> Customer | None:
        async with self.database.connection() as conn:
            row = await store.customer(conn, customer_id)
        return _customer(row) if row else None

    async def find_login(self, login: str, passcode: str) -> Customer | None:
        async with self.database.connection() as conn:
            row = await store.customer_by_login(conn, login)
        kept = row["passcode"] if row else _NOBODY  # the same work for an unknown login
        return _customer(row) if passcode_fits(passcode, kept) and row else None

    async def accounts(self, customer_id: str) -> tuple[Account, ...]:
        async with self.database.connection() as conn:
            return tuple(_account(row) for row in await store.accounts(conn, customer_id))

    async def registered_holder(self, account_number: str) -> str | None:
        async with self.database.connection() as conn:
            return await store.holder_of(conn, account_number)

    async def balance(self, account_id: str) -> Balance | None:
        async with self.database.connection() as conn:
            row = await store.account(conn, account_id)
        if row is None:
            return None
        money = Money(row["balance_minor"], row["currency"])
        return Balance(account_id, money, money, self.clock())

    async def transactions(
        self, account_id: str, *, from_ms: int, to_ms: int, after: int, limit: int
    ) -> tuple[Transaction, ...]:
        async with self.database.connection() as conn:
            rows = await store.movements(conn, account_id, from_ms=from_ms, to_ms=to_ms, after=after, limit=limit)
        return tuple(_transaction(row) for row in rows)

    async def funds_available(self, account_id: str, amount: Money) -> bool:
        found = await self.balance(account_id)
        return (
            found is not None and found.available.currency == amount.currency and found.available.minor >= amount.minor
        )

    async def post_payment(self, order: PaymentOrder) -> OrderOutcome:
        """Once per payment_id: a repeated order gets the first one's outcome. Raises CoreBankUnavailable (a fault)."""
        booking = Booking(order.payment_id, "payment", None, order.debtor_account_id, order.creditor_account,
                          order.amount, order.reference, order.mcc)  # fmt: skip
        return await self._carry_out(booking, valid_until_ms=order.valid_until_ms)

    async def refund(self, order: RefundOrder) -> OrderOutcome:
        """Once per refund_id, together never more than the payment."""
        async with self.database.connection() as conn:
            payment = await store.order(conn, order.payment_id)
        if payment is None or payment["kind"] != "payment":
            return OrderOutcome(order.refund_id, OrderStatus.REJECTED, "NOOR")
        booking = Booking(order.refund_id, "refund", order.payment_id, payment["creditor"], payment["debtor"],
                          order.amount, "refund", "")  # fmt: skip
        return await self._carry_out(booking, valid_until_ms=order.valid_until_ms)

    async def order_status(self, order_id: str) -> OrderOutcome | None:
        async with self.database.connection() as conn:
            row = await store.order(conn, order_id)
        return OrderOutcome(order_id, OrderStatus(row["status"]), row["reason"]) if row else None

    async def customer_events(self, *, after: int, limit: int) -> tuple[CustomerEvent, ...]:
        async with self.database.connection() as conn:
            rows = await goal_feed.customer_events(conn, after=after, limit=limit)
        return tuple(_event(row) for row in rows)

    async def decide(self, order_id: str, *, book: bool = True) -> OrderOutcome | None:
        """What the bank's back office does with an order that was left pending; None: there is none of that id."""
        async with self.database.transaction() as conn:
            booking = await store.lock_pending(conn, order_id)
            if booking is not None:
                return await self._conclude(conn, booking, await self._book(conn, booking) if book else "NARR")
        return await self.order_status(order_id)

    async def _carry_out(self, booking: Booking, *, valid_until_ms: int) -> OrderOutcome:
        async with self.database.transaction() as conn:
            effect = await store.take_fault(conn)
        if effect == "lose_request":
            raise CoreBankUnavailable  # on the way here
        async with self.database.transaction() as conn:
            outcome = await self._decide(conn, booking, effect=effect, is_late=self.clock() > valid_until_ms)
        if effect == "lose_answer":
            raise CoreBankUnavailable  # on the way back
        return outcome

    async def _decide(self, conn: Connection, booking: Booking, *, effect: str | None, is_late: bool) -> OrderOutcome:
        known = await store.claim_order(conn, booking)
        if known is not None:
            if not booking.is_as_kept(known):
                raise OrderIdReused(booking.order_id)
            return OrderOutcome(booking.order_id, OrderStatus(known["status"]), known["reason"])
        if effect == "pend":
            return OrderOutcome(booking.order_id, OrderStatus.PENDING)
        if is_late:
            return await self._conclude(conn, booking, "TM01")  # received after the agreed moment
        return await self._conclude(conn, booking, "NARR" if effect == "reject" else await self._book(conn, booking))

    async def _conclude(self, conn: Connection, booking: Booking, reason: str) -> OrderOutcome:
        """For good: settled without a reason, rejected with one."""
        status = OrderStatus.REJECTED if reason else OrderStatus.SETTLED
        await store.finish_order(conn, booking.order_id, status=status, reason=reason)
        return OrderOutcome(booking.order_id, status, reason)

    async def _book(self, conn: Connection, booking: Booking) -> str:
        """Empty when the money has moved, else ISO 20022's reason why not."""
        accounts = await store.lock_accounts(conn, (booking.debtor, booking.creditor))
        debtor, creditor = accounts.get(booking.debtor), accounts.get(booking.creditor)
        if debtor is None or creditor is None:
            return "AC01"  # incorrect account number
        if debtor["account_id"] == creditor["account_id"]:
            return "AC03"  # invalid creditor account: nobody pays themselves
        if {debtor["currency"], creditor["currency"]} != {booking.amount.currency}:
            return "AM03"  # currency not allowed
        if debtor["balance_minor"] < booking.amount.minor and not debtor["overdraft"]:
            return "AM04"  # insufficient funds
        if booking.kind == "refund" and not await store.reserve_refund(conn, booking):
            return "AM09"  # wrong amount: more than the payment has left
        await store.move(conn, booking, booked_ms=self.clock())
        return ""


class Clock:
    """The sandbox bank's clock: the real one plus an offset that tests and demonstrations may set."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self.offset_ms = 0

    def __call__(self) -> int:
        return self._now_ms() + self.offset_ms


def hash_passcode(passcode: str) -> str:
    salt = secrets.token_bytes(_SALT_BYTES)
    return b64encode(salt + hashlib.scrypt(passcode.encode(), salt=salt, **_SCRYPT)).decode()


def passcode_fits(passcode: str, kept: str) -> bool:
    raw = b64decode(kept)
    salt, wanted = raw[:_SALT_BYTES], raw[_SALT_BYTES:]
    return compare_digest(hashlib.scrypt(passcode.encode(), salt=salt, **_SCRYPT), wanted)


_NOBODY = hash_passcode(secrets.token_hex(16))


def _customer(row: Record) -> Customer:
    return Customer(row["customer_id"], row["name"], row["phone"])


def _account(row: Record) -> Account:
    return Account(
        row["account_id"], row["customer_id"], row["currency"], row["nickname"], row["type_code"], row["scheme"],
        row["identification"], row["holder"], row["opened_ms"],
    )  # fmt: skip


def _transaction(row: Record) -> Transaction:
    return Transaction(
        row["movement_id"], row["account_id"], Money(row["amount_minor"], row["currency"]), row["booked_ms"],
        row["information"], row["merchant"], row["mcc"], Money(row["balance_minor"], row["currency"]), row["seq"],
    )  # fmt: skip


def _event(row: Record) -> CustomerEvent:
    return CustomerEvent(
        row["seq"], row["event_id"], CustomerEventKind(row["kind"]), row["customer_id"], row["amount_minor"],
        row["currency"], row["occurred_ms"], row["first_ms"],
        tuple(Tenure(since, until) for since, until in zip(row["sinces"], row["untils"], strict=True)),
        row["phone"], row["scan_ticket"],
    )  # fmt: skip
