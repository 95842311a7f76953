"""The port to the bank's own systems. The sandbox bank and an HTTP connector stand behind the same small interface.

Every method may be a network call: none is made inside a transaction of the gateway. Orders carry the id that the
gateway gave them; the bank acts once per id, whatever is sent twice. An answer may be lost: then nobody knows, and
`order_status` is asked, never the order repeated under another id. An order says until when it may be carried out, so
a bank that does not know it after that moment will never carry it out: the unknown ends (docs/decisions/0005).
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from gateway.money import Money
from gateway.refusal import Refusal


class CoreBankUnavailable(Refusal):
    """No answer: the call may or may not have been carried out. Those who move money catch it and ask later."""

    status, retry_after_s = 503, 5
    code, ob_code, outcome = "core_bank_unavailable", "D033", "bank_error"
    oauth_error, oauth_status = "temporarily_unavailable", 503
    title = "The bank's own systems do not answer; try again in a moment"


class OrderIdReused(Exception):
    """The bank has another order under this id: a bug of the gateway, and nothing has moved."""


class OrderStatus(StrEnum):
    """ISO 20022 external payment status codes, as UK Open Banking 4.0.1 uses them."""

    PENDING = "PDNG"
    SETTLED = "ACSC"
    REJECTED = "RJCT"


class CustomerEventKind(StrEnum):
    """What the bank's goal feed tells."""

    ACCOUNT_OPENED = "ACCOUNT_OPENED"
    CARD_ACTIVATED = "CARD_ACTIVATED"
    SPEND = "SPEND"


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer of the bank. `phone` is C2 data: it never leaves the gateway and is in no repr."""

    customer_id: str
    name: str = field(repr=False)
    phone: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Account:
    """An account; `identification` is the full number (C2): masked unless a consent has ReadPAN or Detail."""

    account_id: str
    customer_id: str
    currency: str
    nickname: str
    type_code: str  # ISO 20022 ExternalCashAccountType1Code, e.g. CACC
    scheme: str  # CN.CNAPS.AccountNumber, CN.UnionPay.PAN
    identification: str = field(repr=False)
    holder: str = field(repr=False)
    opened_ms: int = 0


@dataclass(frozen=True, slots=True)
class Balance:
    """What was true at `at_ms`. `available` is what may be spent."""

    account_id: str
    booked: Money
    available: Money
    at_ms: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """A booked movement; `amount` is signed from the account's side, `cursor` its place in the account's history."""

    transaction_id: str
    account_id: str
    amount: Money
    booked_ms: int
    information: str
    merchant: str
    mcc: str
    balance_after: Money
    cursor: int


@dataclass(frozen=True, slots=True)
class PaymentOrder:
    """Take `amount` from the customer's account and credit the named account of a partner, by `valid_until_ms`."""

    payment_id: str
    debtor_account_id: str
    creditor_account: str
    amount: Money
    reference: str
    mcc: str
    valid_until_ms: int


@dataclass(frozen=True, slots=True)
class RefundOrder:
    """Give back part of a payment, from the same creditor account, by `valid_until_ms`."""

    refund_id: str
    payment_id: str
    amount: Money
    valid_until_ms: int


@dataclass(frozen=True, slots=True)
class OrderOutcome:
    """Where an order stands; `reason` is a short code when it was rejected."""

    order_id: str
    status: OrderStatus
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Tenure:
    """A time in which a person has had at least one account at the bank; `until_ms` None: still."""

    since_ms: int
    until_ms: int | None


@dataclass(frozen=True, slots=True)
class CustomerEvent:
    """One entry of the goal feed, in whatever order they are told. What follows `occurred_ms` is the bank's knowledge.

    `tenures` are the person's times as a customer, in order. `first_ms` is when the person first reached this kind of
    goal in the tenure that the event lies in. `phone` and `scan_ticket` are those of signing up, told with every goal:
    the number then given, and what a customer who had scanned a link showed.
    """

    cursor: int
    event_id: str
    kind: CustomerEventKind
    customer_id: str
    amount_minor: int
    currency: str
    occurred_ms: int
    first_ms: int
    tenures: tuple[Tenure, ...]
    phone: str = field(repr=False)
    scan_ticket: str | None = field(default=None, repr=False)


def masked(number: str) -> str:
    """How an account's number is shown to those who may not know it (C2): `622202******1234`."""
    return number if len(number) < 11 else f"{number[:6]}{'*' * 6}{number[-4:]}"


class CoreBank(Protocol):
    """All methods may raise CoreBankUnavailable."""

    async def customer(self, customer_id: str) -> Customer | None: ...

    async def find_login(self, login: str, passcode: str) -> Customer | None: ...

    async def accounts(self, customer_id: str) -> tuple[Account, ...]: ...

    async def registered_holder(self, account_number: str) -> str | None:
        """Confirmation of payee: the name that the bank has registered for that number; None: no such account."""
        ...

    async def balance(self, account_id: str) -> Balance | None: ...

    async def transactions(
        self, account_id: str, *, from_ms: int, to_ms: int, after: int, limit: int
    ) -> tuple[Transaction, ...]: ...

    async def funds_available(self, account_id: str, amount: Money) -> bool: ...

    async def post_payment(self, order: PaymentOrder) -> OrderOutcome:
        """Once per id: the same order again gets the first one's outcome. Raises OrderIdReused for another order."""
        ...

    async def refund(self, order: RefundOrder) -> OrderOutcome:
        """The same; refunds together never exceed their payment."""
        ...

    async def order_status(self, order_id: str) -> OrderOutcome | None:
        """None: the bank knows nothing of such an order."""
        ...

    async def customer_events(self, *, after: int, limit: int) -> tuple[CustomerEvent, ...]: ...
