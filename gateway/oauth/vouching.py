"""Whoever has given a partner a consent is that partner's known customer: offers may be for them from then on."""

from dataclasses import dataclass

from gateway.consents.consent import Consent
from gateway.corebank.port import CoreBank, CoreBankUnavailable
from gateway.database import Connection
from gateway.oauth.refusals import BankUnreachable
from gateway.partners.identity import IdentityKeys, PhoneMalformed
from gateway.partners.store import know_customers


@dataclass(frozen=True, slots=True)
class Vouching:
    """The bank is asked before the transaction of the consent, the token is written inside it."""

    corebank: CoreBank
    identities: IdentityKeys

    async def token(self, consent: Consent, customer_id: str, *, now_ms: int) -> str | None:
        """How the consent's partner names this customer; None where the bank has no phone that makes a token."""
        try:
            customer = await self.corebank.customer(customer_id)
        except CoreBankUnavailable:
            raise BankUnreachable() from None
        if customer is None:
            return None
        try:
            return await self.identities.token(consent.partner_id, customer.phone, now_ms=now_ms)
        except PhoneMalformed:
            return None


async def vouch(conn: Connection, consent: Consent, token: str | None, *, now_ms: int) -> None:
    """In the transaction that authorises the consent."""
    if token is not None:
        await know_customers(conn, [(consent.partner_id, token)], source="consent", now_ms=now_ms)
