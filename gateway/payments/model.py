"""A payment under a mandate and a refund of one, as they stand; and the partner's order for one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.corebank.port import OrderStatus
from gateway.database.idempotency import KeyedRequest
from gateway.money import Money


@dataclass(frozen=True, slots=True)
class Order:
    """What a partner, or a capability for it, asks for. `request` is Data and Risk as sent; None: nobody sent them.

    `keyed` is the request by its idempotency key; None: `payment_id` alone makes it happen once.
    """

    payment_id: str
    partner_id: str
    consent_id: str
    amount: Money
    creditor_account: str
    reference: str
    mcc: str
    request: Mapping[str, Any] | None
    keyed: KeyedRequest | None


@dataclass(frozen=True, slots=True)
class Payment:
    """`reason` is the bank's short code when it was rejected; `refunded_minor` includes refunds on their way."""

    payment_id: str
    partner_id: str
    consent_id: str
    debtor_account_id: str
    creditor_account: str
    amount: Money
    reference: str
    mcc: str
    request: Mapping[str, Any] | None
    status: OrderStatus
    reason: str
    refunded_minor: int
    created_ms: int
    changed_ms: int
    tries: int  # times that the bank was asked for it in the background


@dataclass(frozen=True, slots=True)
class Refund:
    """Money on its way back, or back, or not coming back."""

    refund_id: str
    payment_id: str
    partner_id: str
    amount: Money
    status: OrderStatus
    reason: str
    created_ms: int
    changed_ms: int
    tries: int  # times that the bank was asked for it in the background
