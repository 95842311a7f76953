"""The rules of a charge: which session may be charged, what a refund gives back to whom, when to look again. Pure."""

from dataclasses import dataclass

from gateway.money import Money
from gateway.parking.model import Charge, ChargeState, Session, SessionStatus
from gateway.refusal import Refusal, StateConflict

# How long to wait before a charge or refund that is not finished is looked at again; the last one repeats.
RETRY_MS = (10_000, 15_000, 30_000, 60_000, 300_000, 900_000)


class SessionNotOpen(StateConflict):
    """The car has left and paid, or never came in."""

    code = "session_not_open"
    title = "The session is not one that can be charged"


class ChargeRunning(StateConflict):
    """One charge of a session at a time."""

    code = "charge_running"
    title = "The session is being charged; ask for that charge"


class LeftBeforeEntry(Refusal):
    """Nobody leaves before coming in."""

    code, ob_code, outcome = "left_before_entry", "U002", "schema"
    title = "The exit lies before the entry"


class ChargeNotPaid(StateConflict):
    """Only what was paid can be given back."""

    code = "charge_not_paid"
    title = "The charge is not paid; there is nothing to refund"


class RefundRunning(StateConflict):
    """One refund of a charge at a time: the next one is computed from what this one comes to."""

    code = "refund_running"
    title = "A refund of this charge is on its way; try again when it is done"


class RefundExceedsCharge(Refusal):
    """More is asked back than is left."""

    status, code, ob_code = 422, "refund_exceeds_charge", "D031"
    title = "The refund is above what is left of the charge"


@dataclass(frozen=True, slots=True)
class RefundParts:
    """How a refund of the fee divides: what the customer gets, and what the discount's funders get."""

    cash_minor: int
    discount_minor: int


def check_chargeable(session: Session) -> None:
    """A parked car, or one whose debt is tried again."""
    if session.status is SessionStatus.CHARGING:
        raise ChargeRunning
    if session.status not in (SessionStatus.PARKED, SessionStatus.OWING):
        raise SessionNotOpen(f"The session is {session.status}")


def check_exit(session: Session, left_ms: int) -> None:
    """Raises LeftBeforeEntry."""
    if left_ms < session.entered_at_ms:
        raise LeftBeforeEntry(path="$.Data.OccurredAt")


def refund_parts(charge: Charge, amount_minor: int) -> RefundParts:
    """Pro rata of the fee, cumulatively: floor(discount × refunded / fee), so a full refund returns exactly everything.

    Raises ChargeNotPaid, RefundExceedsCharge.
    """
    if charge.state is not ChargeState.SUCCESS:
        raise ChargeNotPaid(f"The charge is {charge.state}")
    left_minor = charge.fee_minor - charge.refunded_minor
    if amount_minor > left_minor:
        left = Money(left_minor, charge.currency)
        raise RefundExceedsCharge(f"{left.text} {left.currency} is left", path="$.Data.Amount")
    before = charge.discount_minor * charge.refunded_minor // charge.fee_minor
    after = charge.discount_minor * (charge.refunded_minor + amount_minor) // charge.fee_minor
    return RefundParts(amount_minor - (after - before), after - before)


def next_try_ms(tries: int, now_ms: int) -> int:
    return now_ms + RETRY_MS[min(tries, len(RETRY_MS) - 1)]
