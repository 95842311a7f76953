"""The 21 permission codes of UK Open Banking 4.0.1: which sets make sense, and what each one lets a partner see."""

from collections.abc import Collection, Mapping
from typing import Any

from gateway.corebank.port import masked
from gateway.refusal import Refusal

CODES = frozenset(
    (
        "ReadAccountsBasic", "ReadAccountsDetail", "ReadBalances", "ReadBeneficiariesBasic", "ReadBeneficiariesDetail",
        "ReadDirectDebits", "ReadOffers", "ReadPAN", "ReadParty", "ReadPartyPSU", "ReadProducts",
        "ReadScheduledPaymentsBasic", "ReadScheduledPaymentsDetail", "ReadStandingOrdersBasic",
        "ReadStandingOrdersDetail", "ReadStatementsBasic", "ReadStatementsDetail", "ReadTransactionsBasic",
        "ReadTransactionsCredits", "ReadTransactionsDebits", "ReadTransactionsDetail",
    )
)  # fmt: skip
_LEVELS = {"ReadTransactionsBasic", "ReadTransactionsDetail"}
_SIDES = {"ReadTransactionsCredits", "ReadTransactionsDebits"}


class PermissionsContradict(Refusal):
    """A set of permissions that the standard calls unusable."""

    code, ob_code, outcome = "permissions_contradict", "U002", "schema"
    title = "The permissions do not fit together"


class PermissionMissing(Refusal):
    """The customer's consent does not have the permission."""

    status, code, ob_code, outcome = 403, "permission_missing", "D008", "consent"
    title = "The customer's consent does not allow this"


def check_permissions(codes: Collection[str]) -> None:
    """Raises PermissionsContradict: unknown, repeated, without an account, or half of the transaction pair."""
    given = set(codes)
    if unknown := sorted(given - CODES):
        raise PermissionsContradict(f"{unknown[0]} is not a permission code", path="$.Data.Permissions")
    if len(given) != len(codes) or not given:
        raise PermissionsContradict("Name each permission once, and at least one", path="$.Data.Permissions")
    if not given & {"ReadAccountsBasic", "ReadAccountsDetail"}:
        raise PermissionsContradict("ReadAccountsBasic or ReadAccountsDetail is needed", path="$.Data.Permissions")
    if bool(given & _LEVELS) != bool(given & _SIDES):
        raise PermissionsContradict(
            "Transactions need one of Basic or Detail together with Credits, Debits or both", path="$.Data.Permissions"
        )


def require(permissions: Collection[str], *codes: str) -> None:
    """Any of the codes will do. Raises PermissionMissing."""
    if not any(code in permissions for code in codes):
        raise PermissionMissing(f"The consent has none of {', '.join(codes)}")


def sides(permissions: Collection[str]) -> tuple[bool, bool]:
    """(credits, debits) that may be seen."""
    return "ReadTransactionsCredits" in permissions, "ReadTransactionsDebits" in permissions


def shown_number(scheme: str, number: str, permissions: Collection[str]) -> str:
    """A card number only with ReadPAN (banking.md); other numbers with Detail, which is what lets them be shown."""
    return number if "PAN" not in scheme or "ReadPAN" in permissions else masked(number)


def consent_permissions(body: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(body["Permissions"])
