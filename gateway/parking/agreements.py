"""Vehicle agreements: a plate bound to the mandate that pays for it, while that mandate is in force."""

from dataclasses import dataclass

from gateway.consents.book import ConsentBook
from gateway.consents.consent import Consent, ConsentKind
from gateway.corebank.port import CoreBank
from gateway.database import Connection, Database
from gateway.database.idempotency import KeyedRequest, claim, lookup
from gateway.ids import new_id
from gateway.parking.model import Agreement
from gateway.parking.store import stays
from gateway.partners.identity import IdentityKeys
from gateway.partners.plate import Plate
from gateway.partners.store import know_customers
from gateway.refusal import ForeignResource, Refusal, StateConflict, UnknownResource


class ConsentNotMandate(Refusal):
    """Only a VRP consent lets anybody collect."""

    status, code, ob_code, outcome = 422, "consent_not_mandate", "D032", "consent"
    title = "The consent is not a domestic VRP mandate"


class PlateAlreadyBound(StateConflict):
    """Another mandate pays for this plate."""

    code = "plate_already_bound"
    title = "This plate is bound to another mandate, which is in force"


@dataclass(frozen=True, slots=True)
class AgreementDesk:
    """One instance a worker. The agreement holds how this partner knows the mandate's customer: its identity token."""

    database: Database
    consents: ConsentBook
    bank: CoreBank
    identities: IdentityKeys

    async def bind(self, plate: Plate, keyed: KeyedRequest, *, consent_id: str, now_ms: int) -> Agreement:
        """Raises UnknownResource, ForeignResource, ConsentNotMandate, ConsentNotInForce, PlateAlreadyBound."""
        partner_id = keyed.partner_id
        async with self.database.connection() as conn:
            known = await lookup(conn, keyed)
            if known is not None:
                return await _get(conn, known)
        consent = await self._mandate(partner_id, consent_id, now_ms=now_ms)
        token = await self._customer_token(consent, now_ms=now_ms)
        before = await self._in_force(partner_id, plate, now_ms=now_ms)
        if before is not None and before.consent_id != consent_id:
            raise PlateAlreadyBound
        agreement = before or Agreement(
            new_id("vag"), partner_id, plate.digest, plate.masked, consent_id, subject_token=token, status="ACTIVE",
            created_at_ms=now_ms,
        )  # fmt: skip
        async with self.database.transaction() as conn:
            first = await claim(conn, keyed, resource_id=agreement.agreement_id)
            if first is not None:
                return await _get(conn, first)
            await know_customers(conn, [(partner_id, token)], source="vehicle", now_ms=now_ms)
            if before is None:
                await self._replace(conn, agreement, now_ms=now_ms)
        return agreement

    async def find(self, partner_id: str, agreement_id: str) -> Agreement:
        """Raises UnknownResource, ForeignResource."""
        async with self.database.connection() as conn:
            found = await stays.find_agreement(conn, agreement_id)
        if found is None:
            raise UnknownResource(f"There is no vehicle agreement {agreement_id}")
        if found.partner_id != partner_id:
            raise ForeignResource
        return found

    async def is_in_force(self, agreement: Agreement, *, now_ms: int) -> bool:
        """Whether its mandate still pays."""
        consent = await self.consents.get(agreement.consent_id)
        try:
            consent.check_in_force(now_ms)
        except Refusal:
            return False
        return True

    async def _mandate(self, partner_id: str, consent_id: str, *, now_ms: int) -> Consent:
        consent = await self.consents.get(consent_id)
        consent.check_owner(partner_id)
        if consent.kind is not ConsentKind.DOMESTIC_VRP:
            raise ConsentNotMandate(path="$.Data.ConsentId")
        consent.check_in_force(now_ms)
        return consent

    async def _customer_token(self, consent: Consent, *, now_ms: int) -> str:
        """The same token as in the partner's referrals."""
        assert consent.customer_id is not None, "an authorised consent has its customer"
        customer = await self.bank.customer(consent.customer_id)
        assert customer is not None, "the bank keeps its customers"
        return await self.identities.token(consent.partner_id, customer.phone, now_ms=now_ms)

    async def _in_force(self, partner_id: str, plate: Plate, *, now_ms: int) -> Agreement | None:
        """The plate's agreement, if its mandate still pays."""
        async with self.database.connection() as conn:
            found = await stays.active_agreement(conn, partner_id, plate.digest)
        return found if found is not None and await self.is_in_force(found, now_ms=now_ms) else None

    async def _replace(self, conn: Connection, agreement: Agreement, *, now_ms: int) -> None:
        """The new agreement takes the place of one whose mandate has ended."""
        before = await stays.active_agreement(conn, agreement.partner_id, agreement.plate_digest)
        if before is not None:
            await stays.end_agreement(conn, before.agreement_id, now_ms=now_ms)
        if not await stays.add_agreement(conn, agreement):
            raise PlateAlreadyBound


async def _get(conn: Connection, agreement_id: str) -> Agreement:
    found = await stays.find_agreement(conn, agreement_id)
    assert found is not None, "the key was written with its agreement"
    return found
