"""The JSON of the parking operations: bodies as they are read, lots, stays, charges and refunds as they are shown."""

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct

from gateway.clock import Moment, rfc3339
from gateway.money import Amount, Money, amount_json
from gateway.parking.model import Agreement, Charge, ChargeState, Refund, RefundState, Session
from gateway.parking.ports import Offer
from gateway.parking.tariff import Tariff
from gateway.partners.partner import Site

_Id = Annotated[str, Meta(min_length=1, max_length=100)]
_Plate = Annotated[str, Meta(min_length=4, max_length=20)]


class _Body(Struct, frozen=True, forbid_unknown_fields=True, rename="pascal", kw_only=True):
    """Every body: PascalCase members, an unknown one is refused."""


class AgreementOrder(_Body, frozen=True):
    """A plate and the authorised mandate that is to pay for it."""

    plate: _Plate
    consent_id: _Id


class AgreementBody(_Body, frozen=True):
    data: AgreementOrder


class EntryOrder(_Body, frozen=True):
    """A car at the entry of a lot; without OccurredAt: now."""

    site_id: _Id
    plate: _Plate
    occurred_at: Moment | None = None


class EntryBody(_Body, frozen=True):
    data: EntryOrder


class ParkingQuoteOrder(_Body, frozen=True):
    """What would the stay cost at that moment; without OccurredAt: now."""

    occurred_at: Moment | None = None


class ParkingQuoteBody(_Body, frozen=True):
    data: ParkingQuoteOrder


class ChargeOrder(_Body, frozen=True):
    """A car at the exit. Without OfferId the best offer that has something left is used."""

    occurred_at: Moment | None = None
    offer_id: _Id | None = None


class ChargeBody(_Body, frozen=True):
    data: ChargeOrder


class RefundOrder(_Body, frozen=True):
    """How much of the fee is given back: cash and discount together."""

    amount: Amount


class RefundBody(_Body, frozen=True):
    data: RefundOrder


def lot_json(site: Site, tariff: Tariff | None, *, parked: int) -> dict[str, Any]:
    """Capacity 0 is one that nobody has agreed; it is left out, and so is what is free."""
    shown: dict[str, Any] = {"SiteId": site.site_id, "Name": site.name, "ParkedVehicles": parked}
    if site.capacity:
        shown |= {"Capacity": site.capacity, "FreeSpaces": max(site.capacity - parked, 0)}
    if tariff is not None:
        shown["Tariff"] = {
            "TariffId": tariff.id,
            "FreeMinutes": tariff.free_minutes,
            "DayCap": amount_json(tariff.day_cap_minor, tariff.currency),
            "Step": [
                {"FromMinutes": step.from_minutes, "EveryMinutes": step.every_minutes,
                 "Amount": amount_json(step.minor, tariff.currency)}
                for step in tariff.step
            ],
        }  # fmt: skip
    return shown


def agreement_json(agreement: Agreement) -> dict[str, Any]:
    return {
        "AgreementId": agreement.agreement_id,
        "Status": agreement.status,
        "Plate": agreement.plate_masked,
        "ConsentId": agreement.consent_id,
        "CustomerToken": agreement.subject_token,
        "CreationDateTime": rfc3339(agreement.created_at_ms),
    }


def session_json(session: Session) -> dict[str, Any]:
    """`EntryState` is what the barrier asks; `Status` is how the stay stands."""
    optional = {
        "BlockReason": session.block_reason.value if session.block_reason else None,
        "AgreementId": session.agreement_id,
        "LeftAt": rfc3339(session.left_at_ms) if session.left_at_ms is not None else None,
    }
    return {
        "SessionId": session.session_id,
        "EntryState": "BLOCKED" if session.block_reason else "NORMAL",
        "Status": session.status.value,
        "SiteId": session.site_id,
        "Plate": session.plate_masked,
        "EnteredAt": rfc3339(session.entered_at_ms),
        "StatusUpdateDateTime": rfc3339(session.changed_at_ms),
        **{name: value for name, value in optional.items() if value is not None},
    }


def quote_json(session: Session, fee: Money, offers: Sequence[Offer], *, at_ms: int) -> dict[str, Any]:
    """The best offer is the one that a charge without OfferId tries first."""
    best = offers[0].payable_minor if offers else fee.minor
    return {
        "SessionId": session.session_id,
        "OccurredAt": rfc3339(at_ms),
        "FeeAmount": amount_json(fee.minor, fee.currency),
        "Offer": [
            {"OfferId": offer.discount_id, "Title": offer.title,
             "DiscountAmount": amount_json(offer.discount_minor, fee.currency),
             "PayableAmount": amount_json(offer.payable_minor, fee.currency)}
            for offer in offers
        ],
        "PayableAmount": amount_json(best, fee.currency),
    }  # fmt: skip


# HELD and PAYING are steps of ours: to the partner the charge is in progress, and the barrier stays closed.
_SHOWN_STATE = {ChargeState.HELD: "PROCESSING", ChargeState.PAYING: "PROCESSING"}


def charge_json(charge: Charge, refunds: Sequence[Refund] = ()) -> dict[str, Any]:
    """The barrier may open on ACCEPTED and SUCCESS only."""
    currency = charge.currency
    optional = {
        "OfferId": charge.offer_id,
        "RedemptionId": charge.redemption_id,
        "Reason": charge.reason,
        "Refund": [refund_json(refund, currency) for refund in refunds] or None,
    }
    return {
        "ChargeId": charge.charge_id,
        "SessionId": charge.session_id,
        "Status": _SHOWN_STATE.get(charge.state, charge.state.value),
        "OpenBarrier": charge.state in (ChargeState.ACCEPTED, ChargeState.SUCCESS),
        "FeeAmount": amount_json(charge.fee_minor, currency),
        "DiscountAmount": amount_json(charge.discount_minor, currency),
        "PayableAmount": amount_json(charge.payable_minor, currency),
        "RefundedAmount": amount_json(charge.refunded_minor, currency),
        "PaymentId": charge.payment_id,
        "CreationDateTime": rfc3339(charge.created_at_ms),
        "StatusUpdateDateTime": rfc3339(charge.changed_at_ms),
        **{name: value for name, value in optional.items() if value is not None},
    }


def refund_json(refund: Refund, currency: str) -> dict[str, Any]:
    shown = {
        "RefundId": refund.refund_id,
        "ChargeId": refund.charge_id,
        "Status": "ACCEPTED" if refund.state is RefundState.PENDING else refund.state.value,
        "Amount": amount_json(refund.amount_minor, currency),
        "CashAmount": amount_json(refund.cash_minor, currency),
        "DiscountAmount": amount_json(refund.discount_minor, currency),
        "CreationDateTime": rfc3339(refund.created_at_ms),
    }
    return shown if refund.reason is None else {**shown, "Reason": refund.reason}
