"""Plates under a mandate, stays, charges and refunds: frozen, no rules."""

from dataclasses import dataclass
from enum import StrEnum

DISCOUNT_LAPSED = "discount_lapsed"  # a charge's reason: paid at the reduced price, and nobody funds the rest


class SessionStatus(StrEnum):
    """PARKED → CHARGING → LEFT or OWING (a debt); BLOCKED never began."""

    BLOCKED = "BLOCKED"
    PARKED = "PARKED"
    CHARGING = "CHARGING"
    OWING = "OWING"
    LEFT = "LEFT"


class BlockReason(StrEnum):
    """Why a car can't park contactless now."""

    NO_AGREEMENT = "NO_AGREEMENT"
    MANDATE_ENDED = "MANDATE_ENDED"
    OVERDUE = "OVERDUE"
    ALREADY_PARKED = "ALREADY_PARKED"
    LOT_FULL = "LOT_FULL"


class ChargeState(StrEnum):
    """HELD → PAYING → SUCCESS, or ACCEPTED (the bank has not decided) → SUCCESS, or PAY_FAIL."""

    HELD = "HELD"
    PAYING = "PAYING"
    ACCEPTED = "ACCEPTED"
    SUCCESS = "SUCCESS"
    PAY_FAIL = "PAY_FAIL"


class RefundState(StrEnum):
    """PENDING until the money is on its way back."""

    PENDING = "PENDING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Agreement:
    """A plate (its digest) bound to the mandate that pays for it."""

    agreement_id: str
    partner_id: str
    plate_digest: str
    plate_masked: str
    consent_id: str
    subject_token: str
    status: str
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class Session:
    """One stay of one car, or an entry that was blocked."""

    session_id: str
    partner_id: str
    site_id: str
    plate_digest: str
    plate_masked: str
    agreement_id: str | None
    status: SessionStatus
    block_reason: BlockReason | None
    entered_at_ms: int
    left_at_ms: int | None
    created_at_ms: int
    changed_at_ms: int


@dataclass(frozen=True, slots=True)
class Charge:
    """What a stay costs and how it is being paid. `next_try_ms` is when the chore looks at it again."""

    charge_id: str
    session_id: str
    partner_id: str
    state: ChargeState
    currency: str
    fee_minor: int
    discount_minor: int
    offer_id: str | None
    redemption_id: str | None
    payment_id: str
    mandate_id: str
    creditor_account: str
    reason: str | None
    refunded_minor: int
    tries: int
    next_try_ms: int
    created_at_ms: int
    changed_at_ms: int

    @property
    def payable_minor(self) -> int:
        return self.fee_minor - self.discount_minor

    @property
    def lapsed_minor(self) -> int:
        """What the customer was not asked for and nobody funds."""
        return self.discount_minor if self.reason == DISCOUNT_LAPSED else 0

    @property
    def granted_redemption_id(self) -> str | None:
        """The redemption that was confirmed for this charge; none where that had become impossible."""
        return self.redemption_id if self.reason != DISCOUNT_LAPSED else None


@dataclass(frozen=True, slots=True)
class Refund:
    """Part of a charge going back: some cash to the customer, some discount to its funders."""

    refund_id: str
    charge_id: str
    partner_id: str
    state: RefundState
    amount_minor: int
    cash_minor: int
    discount_minor: int
    reason: str | None
    tries: int
    next_try_ms: int
    created_at_ms: int
    changed_at_ms: int
