"""Mandates and payments as UK Open Banking 4.0.1 spells them: what comes in, and what goes out."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gateway.clock import Moment, rfc3339
from gateway.consents.consent import Consent
from gateway.corebank.port import Account, OrderStatus, masked
from gateway.jsonio import plain
from gateway.payments.initiation import (
    Amount,
    CreditorAccount,
    Decimal,
    Initiation,
    Part,
    PostalAddress,
    Remittance,
    Risk,
    Supplement,
    Text35,
    UltimateParty,
)
from gateway.payments.limits import PERIODS_LIMIT
from gateway.payments.model import Payment

Code = Annotated[str, Meta(min_length=1, max_length=70)]
Interaction = Literal["InSession", "OffSession"]
ConsentId = Annotated[str, Meta(min_length=1, max_length=128)]
_REASONS = {
    "AC01": "The creditor's or the customer's account is not known",
    "AM03": "The account is not in that currency",
    "AM04": "The customer's account does not have that much",
    "NOOR": "The order never reached the bank's books; no money has moved",
}
_REJECTED = "The bank has rejected the payment"


# --- in ----------------------------------------------------------------------------------------------------------
class PeriodicLimit(Part, frozen=True):
    """OBDomesticVRPControlParameters.PeriodicLimits."""

    period_type: Literal["Day", "Week", "Fortnight", "Month", "Half-year", "Year"]
    period_alignment: Literal["Consent", "Calendar"]
    amount: Decimal
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")]


class ControlParameters(Part, frozen=True):
    """OBDomesticVRPControlParameters."""

    vrp_type: Annotated[list[Code], Meta(min_length=1)] = msgspec.field(name="VRPType")
    psu_authentication_methods: Annotated[list[Code], Meta(min_length=1)] = msgspec.field(
        name="PSUAuthenticationMethods"
    )
    maximum_individual_amount: Amount
    periodic_limits: Annotated[list[PeriodicLimit], Meta(min_length=1, max_length=PERIODS_LIMIT)]
    valid_from_date_time: Moment | None = None
    valid_to_date_time: Moment | None = None
    psu_interaction_types: list[Interaction] | None = msgspec.field(name="PSUInteractionTypes", default=None)
    supplementary_data: Supplement | None = None


class MandateData(Part, frozen=True):
    """OBDomesticVRPConsentRequest.Data."""

    control_parameters: ControlParameters
    initiation: Initiation
    read_refund_account: Literal["Yes", "No"] | None = None


class MandateRequest(Part, frozen=True):
    """OBDomesticVRPConsentRequest."""

    data: MandateData
    risk: Risk


class FundsQuestion(Part, frozen=True):
    """OBVRPFundsConfirmationRequest.Data."""

    consent_id: ConsentId
    instructed_amount: Amount
    reference: Text35 | None = None


class FundsRequest(Part, frozen=True):
    """OBVRPFundsConfirmationRequest."""

    data: FundsQuestion


class Instruction(Part, frozen=True):
    """OBDomesticVRPInstruction: what is this payment's own."""

    instruction_identification: Text35
    end_to_end_identification: Text35
    instructed_amount: Amount
    creditor_account: CreditorAccount
    remittance_information: Remittance | None = None
    local_instrument: Code | None = None
    creditor_postal_address: PostalAddress | None = None
    ultimate_creditor: UltimateParty | None = None
    supplementary_data: Supplement | None = None


class PaymentData(Part, frozen=True):
    """OBDomesticVRPRequest.Data."""

    consent_id: ConsentId
    psu_authentication_method: Code = msgspec.field(name="PSUAuthenticationMethod")
    vrp_type: Code = msgspec.field(name="VRPType")
    initiation: Initiation
    instruction: Instruction
    psu_interaction_type: Interaction | None = msgspec.field(name="PSUInteractionType", default=None)


class PaymentRequest(Part, frozen=True):
    """OBDomesticVRPRequest."""

    data: PaymentData
    risk: Risk


def members(part: Part) -> dict[str, Any]:
    """The object as sent, times in one spelling: what is stored, compared, and shown again."""
    sent: dict[str, Any] = plain(part)
    return sent


# --- out ---------------------------------------------------------------------------------------------------------
def mandate_json(consent: Consent, *, debtor: Account | None, now_ms: int) -> dict[str, Any]:
    """OBDomesticVRPConsentResponse.Data; its Risk is kept beside the rest of what was asked for.

    `debtor` is the account that the customer has chosen: its number (C2) is masked, unless the partner named it itself.
    """
    shown = {
        "ConsentId": consent.consent_id,
        "CreationDateTime": rfc3339(consent.created_ms),
        "Status": consent.status_at(now_ms).value,
        "StatusUpdateDateTime": rfc3339(consent.changed_ms),
        **{name: value for name, value in consent.body.items() if name != "Risk"},
    }
    if debtor is not None:
        chosen = {"SchemeName": debtor.scheme, "Identification": masked(debtor.identification)}
        shown["DebtorAccount"] = consent.body["Initiation"].get("DebtorAccount", chosen)
    return shown


def payment_json(payment: Payment, sent: dict[str, Any]) -> dict[str, Any]:
    """OBDomesticVRPResponse.Data. `sent` is Data as the partner sent it, or `instruction_of` where nobody did."""
    shown = {
        "DomesticVRPId": payment.payment_id,
        "ConsentId": payment.consent_id,
        "CreationDateTime": rfc3339(payment.created_ms),
        "Status": payment.status.value,
        "StatusUpdateDateTime": rfc3339(payment.changed_ms),
        "Initiation": sent["Initiation"],
        "Instruction": sent["Instruction"],
    }
    if payment.status is OrderStatus.REJECTED:
        shown["StatusReason"] = [{"StatusReasonCode": payment.reason, "StatusReasonDescription": _why(payment)}]
    return shown


def instruction_of(payment: Payment, consent: Consent, *, creditor: str) -> dict[str, Any]:
    """A payment that another capability collected, in the standard's words. `creditor` is the partner's name."""
    named = consent.body["Initiation"].get("CreditorAccount")
    account = {"SchemeName": "CN.CNAPS.AccountNumber", "Identification": payment.creditor_account, "Name": creditor}
    return {
        "Initiation": consent.body["Initiation"],
        "Instruction": {
            "InstructionIdentification": payment.payment_id,
            "EndToEndIdentification": payment.payment_id,
            "RemittanceInformation": {"Unstructured": [payment.reference]},
            "InstructedAmount": amount_json(payment),
            "CreditorAccount": named or account,
        },
    }


def details_json(payment: Payment) -> dict[str, Any]:
    """OBDomesticVRPDetails.Data."""
    detail = {"Status": payment.status.value}
    if payment.status is OrderStatus.REJECTED:
        detail |= {"StatusReason": payment.reason, "StatusReasonDescription": _why(payment)}
    return {
        "PaymentStatus": [
            {
                "PaymentTransactionId": payment.payment_id,
                "Status": payment.status.value,
                "StatusUpdateDateTime": rfc3339(payment.changed_ms),
                "StatusDetail": detail,
            }
        ]
    }


def amount_json(payment: Payment) -> dict[str, str]:
    return {"Amount": payment.amount.text, "Currency": payment.amount.currency}


def _why(payment: Payment) -> str:
    return _REASONS.get(payment.reason, _REJECTED)
