"""A customer's consent and the pure rules of its life: who may move it from where to where."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from gateway.refusal import ForeignResource, Refusal, StateConflict

ACCOUNTS_LIMIT = 50  # accounts a customer may share in one consent; more than anybody has


class ConsentKind(StrEnum):
    """What is allowed: reading accounts (AISP), or collecting within limits (VRP)."""

    ACCOUNT_ACCESS = "account-access"
    DOMESTIC_VRP = "domestic-vrp"

    @property
    def scope(self) -> str:
        """The scope of the tokens that act under such a consent."""
        return "accounts" if self is ConsentKind.ACCOUNT_ACCESS else "payments"


class ConsentStatus(StrEnum):
    """UK Open Banking 4.0.1: awaiting, authorised, rejected, cancelled, expired. The last three are for good."""

    AWAITING = "AWAU"
    AUTHORISED = "AUTH"
    REJECTED = "RJCT"
    CANCELLED = "CANC"
    EXPIRED = "EXPD"


class ConsentNotInForce(Refusal):
    """The consent is not authorised any more, not yet, or its time is over."""

    status, code, ob_code, outcome = 403, "consent_not_in_force", "U009", "consent"
    ob_status = 400
    oauth_error = "invalid_grant"
    title = "The customer's consent is not in force"


class AccountChoiceInvalid(Refusal):
    """The chosen accounts are not ones that this consent can cover."""

    code, ob_code, outcome = "account_choice_invalid", "U002", "consent"
    title = "Choose at least one of your own accounts; a mandate is for exactly one"


class AnotherCustomer(Refusal):
    """A consent belongs to the customer who gave it."""

    status, code, ob_code, outcome = 403, "another_customer", "U009", "consent"
    oauth_error = "access_denied"
    title = "This consent was given by another customer"


@dataclass(frozen=True, slots=True)
class Consent:
    """`body` is Data as the partner asked for it; `expires_ms` None means until somebody ends it."""

    consent_id: str
    partner_id: str
    client_id: str
    kind: ConsentKind
    status: ConsentStatus
    body: Mapping[str, Any]
    customer_id: str | None
    account_ids: tuple[str, ...]
    created_ms: int
    changed_ms: int
    expires_ms: int | None

    def status_at(self, now_ms: int) -> ConsentStatus:
        """What a reader is told: a consent whose time is over is expired, whether or not a chore has said so yet."""
        open_still = self.status in (ConsentStatus.AWAITING, ConsentStatus.AUTHORISED)
        return ConsentStatus.EXPIRED if open_still and self._over(now_ms) else self.status

    def check_owner(self, partner_id: str) -> None:
        if self.partner_id != partner_id:
            raise ForeignResource(f"Consent {self.consent_id} was made by another partner")

    def check_in_force(self, now_ms: int) -> None:
        """For every use under the consent. Raises ConsentNotInForce."""
        status = self.status_at(now_ms)
        if status is not ConsentStatus.AUTHORISED:
            raise ConsentNotInForce(f"Consent {self.consent_id} is {status}; it must be AUTH")

    def check_can_be_asked(self, now_ms: int) -> None:
        """For an authorization request: awaiting, or given already and to be confirmed again by the same customer."""
        status = self.status_at(now_ms)
        if status not in (ConsentStatus.AWAITING, ConsentStatus.AUTHORISED):
            raise ConsentNotInForce(f"Consent {self.consent_id} is {status}; make a new one")

    def _over(self, now_ms: int) -> bool:
        return self.expires_ms is not None and self.expires_ms <= now_ms


def authorised(consent: Consent, *, customer_id: str, account_ids: Sequence[str], now_ms: int) -> Consent:
    """The customer says yes. A consent given already stays as it was given; only the same customer may repeat it."""
    consent.check_can_be_asked(now_ms)
    if consent.status is ConsentStatus.AUTHORISED:
        if consent.customer_id != customer_id:
            raise AnotherCustomer()
        return consent
    limit = 1 if consent.kind is ConsentKind.DOMESTIC_VRP else ACCOUNTS_LIMIT
    if not 1 <= len(set(account_ids)) <= limit:
        raise AccountChoiceInvalid()
    return replace(
        consent, status=ConsentStatus.AUTHORISED, customer_id=customer_id, changed_ms=now_ms,
        account_ids=tuple(dict.fromkeys(account_ids)),
    )  # fmt: skip


def rejected(consent: Consent, *, customer_id: str | None, now_ms: int) -> Consent:
    """The customer says no. A consent given before is not taken back by not confirming it again."""
    if consent.status is not ConsentStatus.AWAITING:
        return consent
    return replace(consent, status=ConsentStatus.REJECTED, customer_id=customer_id, changed_ms=now_ms)


def cancelled(consent: Consent, *, now_ms: int) -> Consent:
    """The partner, the customer or the bank ends it."""
    if consent.status not in (ConsentStatus.AWAITING, ConsentStatus.AUTHORISED):
        raise StateConflict(f"Consent {consent.consent_id} is {consent.status} already")
    return replace(consent, status=ConsentStatus.CANCELLED, changed_ms=now_ms)


def expired(consent: Consent, *, now_ms: int) -> Consent:
    """Its time is over."""
    assert consent.status_at(now_ms) is ConsentStatus.EXPIRED, "only a consent whose time is over expires"
    return replace(consent, status=ConsentStatus.EXPIRED, changed_ms=now_ms)
