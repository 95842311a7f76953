"""Parking over HTTP: lots, plates under a mandate, entries, quotes, charges at the exit, refunds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.call import Answer, Call, enveloped
from gateway.clock import Moment, MomentTooLate, moment_ms
from gateway.database import Database
from gateway.money import CurrencyDiffers, Money
from gateway.parking.agreements import AgreementDesk
from gateway.parking.charge import check_chargeable, check_exit
from gateway.parking.charging import Barrier, Exit
from gateway.parking.entry import EntryGate
from gateway.parking.model import Agreement, Charge, Session
from gateway.parking.refunding import RefundCounter
from gateway.parking.shapes import (
    ChargeOrder,
    EntryOrder,
    agreement_json,
    charge_json,
    lot_json,
    quote_json,
    refund_json,
    session_json,
)
from gateway.parking.store import charges, stays
from gateway.parking.tariff import DAY_MINUTES, MINUTE_MS, Tariff, fee_minor
from gateway.partners.contract import Settle
from gateway.partners.occasion import Occasion, site_of
from gateway.partners.plate import PlateReader
from gateway.partners.snapshot import Snapshot
from gateway.refusal import ForeignResource, Refusal, UnknownResource

BASE = "/partner/v1/parking"
_DAY_MS = DAY_MINUTES * MINUTE_MS


class SiteWithoutTariff(Refusal):
    """The site has no fee table, so nobody can say what a stay costs."""

    status, code, ob_code = 409, "site_without_tariff", "D030"
    title = "The site has no fee table; name one in your partner file"


@dataclass(frozen=True, slots=True)
class ParkingApi:
    """One endpoint an operation; what is asked for must be the caller's own."""

    database: Database
    agreements: AgreementDesk
    gate: EntryGate
    barrier: Barrier
    counter: RefundCounter
    plates: PlateReader
    snapshot: Callable[[], Snapshot]
    tariffs: Mapping[tuple[str, str], Tariff]
    public_url: str

    # --- lots and plates ---------------------------------------------------------------------------------------------
    async def list_parking_lots(self, call: Call) -> Answer:
        """The partner's sites that have a fee table."""
        partner = call.partner
        async with self.database.connection() as conn:
            parked = await stays.parked_cars(conn, partner.partner_id)
        lots = [
            lot_json(site, self.tariffs.get((partner.partner_id, site.tariff_id)), parked=parked.get(site.site_id, 0))
            for site in partner.sites
            if site.tariff_id
        ]
        return enveloped(200, {"Lot": lots}, address=f"{self.public_url}{BASE}/lots")

    async def create_vehicle_agreement(self, call: Call) -> Answer:
        order = call.body.data
        plate = self.plates.read(call.partner.partner_id, order.plate, path="$.Data.Plate")
        agreement = await self.agreements.bind(plate, call.keyed, consent_id=order.consent_id, now_ms=call.now_ms)
        return self._agreement(201, agreement)

    async def get_vehicle_agreement(self, call: Call) -> Answer:
        agreement = await self.agreements.find(call.partner.partner_id, call.path["AgreementId"])
        return self._agreement(200, agreement)

    # --- stays -------------------------------------------------------------------------------------------------------
    async def enter_parking(self, call: Call) -> Answer:
        """201 for a blocked entry too: it is recorded, with its reason."""
        order: EntryOrder = call.body.data
        site = site_of(call.partner, order.site_id)
        self._tariff(call, site.tariff_id)
        plate = self.plates.read(call.partner.partner_id, order.plate, path="$.Data.Plate")
        try:
            entered_at_ms = self._told_ms(call, order.occurred_at)
        except MomentTooLate:  # a retry of what was told in time finds its stay
            known = await self.gate.find(call.keyed)
            if known is None:
                raise
            return self._session(201, known)
        session = await self.gate.enter(site, call.keyed, plate=plate, entered_at_ms=entered_at_ms, now_ms=call.now_ms)
        return self._session(201, session)

    async def get_parking_session(self, call: Call) -> Answer:
        return self._session(200, await self._own_session(call))

    async def quote_parking(self, call: Call) -> Answer:
        """What the stay costs at that moment, and what would come off. Nothing is reserved."""
        session = await self._own_session(call)
        check_chargeable(session)
        left_ms = self._left_ms(call, session, call.body.data.occurred_at)
        fee, mcc = self._fee(call, session, left_ms)
        agreement = await self._agreement_of(session)
        occasion = Occasion(fee, left_ms, agreement.subject_token, session.plate_digest, session.site_id, mcc)
        offers = self.barrier.offers(call.partner.partner_id, occasion=occasion, now_ms=call.now_ms)
        address = f"{self.public_url}{BASE}/sessions/{session.session_id}/quotes"
        return enveloped(201, quote_json(session, fee, offers, at_ms=left_ms), address=address)

    # --- charges -----------------------------------------------------------------------------------------------------
    async def charge_parking(self, call: Call) -> Answer:
        """201 whatever the bank says: `Status` tells the barrier. The same key again finds the charge as it is."""
        order: ChargeOrder = call.body.data
        session = await self._own_session(call)
        if session.agreement_id is None:
            check_chargeable(session)
        left_ms = self._left_ms(call, session, order.occurred_at)
        fee, mcc = self._fee(call, session, left_ms)
        leaving = Exit(
            session, await self._agreement_of(session), fee=fee, left_at_ms=left_ms, mcc=mcc, offer_id=order.offer_id,
            creditor_account=call.partner.settlement_account, keyed=call.keyed,
        )  # fmt: skip
        return self._charge(201, await self.barrier.charge(leaving, now_ms=call.now_ms))

    async def get_parking_charge(self, call: Call) -> Answer:
        charge = await self._own_charge(call)
        async with self.database.connection() as conn:
            refunds = await charges.refunds_of(conn, charge.charge_id)
        address = f"{self.public_url}{BASE}/charges/{charge.charge_id}"
        return enveloped(200, charge_json(charge, refunds), address=address)

    async def refund_parking_charge(self, call: Call) -> Answer:
        charge = await self._own_charge(call)
        amount = call.body.data.amount.positive(path="$.Data.Amount")
        if amount.currency != charge.currency:
            raise CurrencyDiffers(f"The charge is in {charge.currency}", path="$.Data.Amount.Currency")
        refund = await self.counter.refund(charge, call.keyed, amount=amount, now_ms=call.now_ms)
        address = f"{self.public_url}{BASE}/charges/{charge.charge_id}"
        return enveloped(201, refund_json(refund, charge.currency), address=address)

    # --- what the endpoints share ------------------------------------------------------------------------------------
    async def _own_session(self, call: Call) -> Session:
        async with self.database.connection() as conn:
            session = await stays.find_session(conn, call.path["SessionId"])
        if session is None:
            raise UnknownResource(f"There is no parking session {call.path['SessionId']}")
        if session.partner_id != call.partner.partner_id:
            raise ForeignResource
        return session

    async def _own_charge(self, call: Call) -> Charge:
        async with self.database.connection() as conn:
            charge = await charges.find_charge(conn, call.path["ChargeId"])
        if charge is None:
            raise UnknownResource(f"There is no parking charge {call.path['ChargeId']}")
        if charge.partner_id != call.partner.partner_id:
            raise ForeignResource
        return charge

    async def _agreement_of(self, session: Session) -> Agreement:
        assert session.agreement_id is not None, "only a blocked entry has none"
        return await self.agreements.find(session.partner_id, session.agreement_id)

    def _told_ms(self, call: Call, said: Moment | None) -> int:
        """The moment in the body, at most `late_days` of the contract in force ago; now, where none is said."""
        if said is None:
            return call.now_ms
        contract = self.snapshot().contract_at(call.partner.partner_id, call.now_ms)
        late_days = (contract.settle if contract is not None else Settle()).late_days
        return moment_ms(said, now_ms=call.now_ms, path="$.Data.OccurredAt", late_ms=late_days * _DAY_MS)

    def _left_ms(self, call: Call, session: Session, said: Moment | None) -> int:
        """When the car left: as first told, however often and however late a debt is tried.

        Unsaid it is now, by our clock: the one at the entry may run ahead of it, and nobody waits for that.
        """
        if session.left_at_ms is not None:
            return session.left_at_ms
        if said is None:
            return max(call.now_ms, session.entered_at_ms)
        left_ms = self._told_ms(call, said)
        check_exit(session, left_ms)
        return left_ms

    def _fee(self, call: Call, session: Session, left_ms: int) -> tuple[Money, str]:
        """The fee of the stay, and the category of its site."""
        site = site_of(call.partner, session.site_id)
        tariff = self._tariff(call, site.tariff_id)
        fee = Money(fee_minor(tariff, entered_ms=session.entered_at_ms, left_ms=left_ms), tariff.currency)
        call.policy.check_amount(fee, path="$.Data.OccurredAt")
        return fee, site.mcc

    def _tariff(self, call: Call, tariff_id: str) -> Tariff:
        tariff = self.tariffs.get((call.partner.partner_id, tariff_id))
        if tariff is None:
            raise SiteWithoutTariff(path="$.Data.SiteId")
        return tariff

    def _agreement(self, status: int, agreement: Agreement) -> Answer:
        address = f"{self.public_url}{BASE}/vehicle-agreements/{agreement.agreement_id}"
        return enveloped(status, agreement_json(agreement), address=address)

    def _session(self, status: int, session: Session) -> Answer:
        address = f"{self.public_url}{BASE}/sessions/{session.session_id}"
        return enveloped(status, session_json(session), address=address)

    def _charge(self, status: int, charge: Charge) -> Answer:
        address = f"{self.public_url}{BASE}/charges/{charge.charge_id}"
        return enveloped(status, charge_json(charge), address=address)
