"""A payment must be what its consent says: the same initiation, creditor and kind. Pure rules."""

from collections.abc import Mapping
from typing import Any

from gateway.consents.consent import Consent
from gateway.refusal import Refusal


class PaymentDiffersFromConsent(Refusal):
    """Something in the payment is not as the customer has seen it."""

    code, ob_code, outcome = "payment_differs_from_consent", "U008", "consent"
    title = "The payment is not the one that the customer allowed"


class CreditorNotAgreed(Refusal):
    """A partner collects to the account that it agreed with the bank, and to no other."""

    code, ob_code, outcome = "creditor_not_agreed", "U002", "schema"
    title = "The creditor account is not the one that you agreed with the bank"


def check_creditor(consent: Consent, creditor_account: str) -> None:
    """Where the consent names a creditor, it is that one. Raises PaymentDiffersFromConsent."""
    named = consent.body["Initiation"].get("CreditorAccount")
    if named is not None and named["Identification"] != creditor_account:
        raise PaymentDiffersFromConsent("The consent names another creditor", path="$.Data.Instruction.CreditorAccount")


def check_agreed(account: Mapping[str, Any], settlement_account: str, *, path: str) -> None:
    """Raises CreditorNotAgreed."""
    if account["Identification"] != settlement_account:
        raise CreditorNotAgreed(path=f"{path}.Identification")


def check_same(consent: Consent, payment: Mapping[str, Any], *, risk: Mapping[str, Any]) -> None:
    """`payment` is Data as sent. Raises PaymentDiffersFromConsent."""
    parameters = consent.body["ControlParameters"]
    if payment["Initiation"] != consent.body["Initiation"]:
        raise PaymentDiffersFromConsent("Initiation is not as in the consent", path="$.Data.Initiation")
    if risk != consent.body["Risk"]:
        raise PaymentDiffersFromConsent("Risk is not as in the consent", path="$.Risk")
    check_creditor(consent, payment["Instruction"]["CreditorAccount"]["Identification"])
    if payment["VRPType"] not in parameters["VRPType"]:
        raise PaymentDiffersFromConsent("The consent does not have this type", path="$.Data.VRPType")
    if payment["PSUAuthenticationMethod"] not in parameters["PSUAuthenticationMethods"]:
        raise PaymentDiffersFromConsent("The consent does not have this method", path="$.Data.PSUAuthenticationMethod")
    interaction = payment.get("PSUInteractionType", "OffSession")
    if interaction not in parameters.get("PSUInteractionTypes", ("OffSession",)):
        raise PaymentDiffersFromConsent("The consent does not have this interaction", path="$.Data.PSUInteractionType")
