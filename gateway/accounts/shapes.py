"""Bodies as UK Open Banking 4.0.1 spells them: OBReadConsent1, OBAccount6, OBReadBalance1, OBTransaction6."""

from collections.abc import Collection
from typing import Any

import msgspec

from gateway.accounts.permissions import shown_number
from gateway.clock import Moment, rfc3339
from gateway.consents.consent import Consent
from gateway.corebank.port import Account, Balance, Transaction
from gateway.money import Money


class ConsentData(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """OBReadConsent1.Data."""

    permissions: list[str]
    expiration_date_time: Moment | None = None
    transaction_from_date_time: Moment | None = None
    transaction_to_date_time: Moment | None = None


class Empty(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """OBRisk2: an object without members."""


class AccountConsentRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """OBReadConsent1."""

    data: ConsentData
    risk: Empty


def consent_members(consent: Consent, *, now_ms: int) -> dict[str, Any]:
    """OBReadConsentResponse1.Data."""
    return {
        "ConsentId": consent.consent_id,
        "CreationDateTime": rfc3339(consent.created_ms),
        "Status": consent.status_at(now_ms).value,
        "StatusUpdateDateTime": rfc3339(consent.changed_ms),
        **consent.body,
    }


def account_members(account: Account, permissions: Collection[str]) -> dict[str, Any]:
    """OBAccount6: Basic leaves the account's numbers and holder out."""
    members: dict[str, Any] = {
        "AccountId": account.account_id,
        "Status": "Enabled",
        "StatusUpdateDateTime": rfc3339(account.opened_ms),
        "Currency": account.currency,
        "AccountCategory": "Personal",
        "AccountTypeCode": account.type_code,
        "Nickname": account.nickname,
        "OpeningDate": rfc3339(account.opened_ms),
    }
    if "ReadAccountsDetail" in permissions:
        number = shown_number(account.scheme, account.identification, permissions)
        members["Account"] = [{"SchemeName": account.scheme, "Identification": number, "Name": account.holder}]
    return members


def balance_members(balance: Balance) -> list[dict[str, Any]]:
    """Booked and available, with the moment at which they were true."""
    return [
        {
            "AccountId": balance.account_id,
            "CreditDebitIndicator": indicator(money),
            "Type": kind,
            "DateTime": rfc3339(balance.at_ms),
            "Amount": amount_members(money),
        }
        for kind, money in (("ITBD", balance.booked), ("ITAV", balance.available))
    ]


def transaction_members(transaction: Transaction, permissions: Collection[str]) -> dict[str, Any]:
    """OBTransaction6: Basic leaves information, merchant and balance out."""
    members: dict[str, Any] = {
        "AccountId": transaction.account_id,
        "TransactionId": transaction.transaction_id,
        "CreditDebitIndicator": indicator(transaction.amount),
        "Status": "BOOK",
        "TransactionMutability": "Immutable",
        "BookingDateTime": rfc3339(transaction.booked_ms),
        "ValueDateTime": rfc3339(transaction.booked_ms),
        "Amount": amount_members(transaction.amount),
    }
    if "ReadTransactionsDetail" in permissions:
        members["TransactionInformation"] = transaction.information
        members["Balance"] = {
            "CreditDebitIndicator": indicator(transaction.balance_after),
            "Type": "ITBD",
            "Amount": amount_members(transaction.balance_after),
        }
        if transaction.mcc:
            members["MerchantDetails"] = {"MerchantCategoryCode": transaction.mcc}
    return members


def amount_members(money: Money) -> dict[str, str]:
    """The size; the sign is the indicator's."""
    return {"Amount": Money(abs(money.minor), money.currency).text, "Currency": money.currency}


def indicator(money: Money) -> str:
    return "Credit" if money.minor >= 0 else "Debit"
