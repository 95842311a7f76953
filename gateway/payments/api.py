"""Variable recurring payments over HTTP (PISP): mandates by the partner, payments under a customer's mandate."""

from dataclasses import dataclass

from gateway.call import Answer, Call
from gateway.clock import rfc3339
from gateway.consents import store as consents
from gateway.consents.book import ConsentBook
from gateway.consents.consent import Consent, ConsentKind, ConsentStatus
from gateway.corebank.port import Account, CoreBank
from gateway.database import Connection, Database
from gateway.database.idempotency import claim
from gateway.ids import new_id
from gateway.money import Money, parse_amount
from gateway.payments import store
from gateway.payments.initiation import Amount
from gateway.payments.limits import check_payment, period_breached, read_parameters, uses
from gateway.payments.mandate import PaymentDiffersFromConsent, check_agreed, check_same
from gateway.payments.model import Order, Payment
from gateway.payments.paying import Till, mandate
from gateway.payments.shapes import (
    FundsQuestion,
    MandateRequest,
    PaymentRequest,
    details_json,
    instruction_of,
    mandate_json,
    members,
    payment_json,
)
from gateway.refusal import ForeignResource, Refusal, UnknownResource

BASE = "/open-banking/v4.0/pisp"


class PaymentNotPositive(Refusal):
    """Nobody pays nothing."""

    code, ob_code, outcome = "payment_not_positive", "U002", "schema"
    title = "The amount must be above zero"


class MandateOver(Refusal):
    """A mandate that would end before it is given."""

    code, ob_code, outcome = "mandate_over", "U003", "schema"
    title = "ValidToDateTime lies in the past"


@dataclass(frozen=True, slots=True)
class PaymentsApi:
    """domesticVrpConsents* and domesticVrp*."""

    database: Database
    book: ConsentBook
    bank: CoreBank
    till: Till
    issuer: str

    # --- mandates, by the partner -------------------------------------------------------------------------------
    async def create_mandate(self, call: Call) -> Answer:
        """201 with a mandate that awaits its customer; a retry with its key finds it as it is now."""
        request: MandateRequest = call.body
        body = members(request.data) | {"Risk": members(request.risk)}
        parameters = read_parameters(body)
        if "CreditorAccount" in body["Initiation"]:
            account = body["Initiation"]["CreditorAccount"]
            check_agreed(account, call.partner.settlement_account, path="$.Data.Initiation.CreditorAccount")
        consent_id = new_id("cns")
        async with self.database.transaction() as conn:
            known = await claim(conn, call.keyed, resource_id=consent_id)
            if known is not None:
                made = await consents.load(conn, known, partner_id=call.partner.partner_id)
            else:
                if parameters.valid_to_ms is not None and parameters.valid_to_ms <= call.now_ms:
                    raise MandateOver(path="$.Data.ControlParameters.ValidToDateTime")
                made = await consents.create(
                    conn, partner_id=call.partner.partner_id, client_id=call.app.client_id,
                    kind=ConsentKind.DOMESTIC_VRP, body=body, expires_ms=parameters.valid_to_ms, now_ms=call.now_ms,
                    consent_id=consent_id,
                )  # fmt: skip
        return await self._mandate_answer(201, made, now_ms=call.now_ms)

    async def get_mandate(self, call: Call) -> Answer:
        async with self.database.connection() as conn:
            found = await _own_mandate(conn, call)
        return await self._mandate_answer(200, found, now_ms=call.now_ms)

    async def delete_mandate(self, call: Call) -> Answer:
        """Ends the mandate and every token under it; afterwards it is no more (GET: 400)."""
        async with self.database.transaction() as conn:
            found = await _own_mandate(conn, call)
            found.check_can_be_asked(call.now_ms)
            await consents.revoke(
                conn, found.consent_id, partner_id=call.partner.partner_id, actor=call.app.client_id,
                now_ms=call.now_ms,
            )  # fmt: skip
        return Answer(204)

    # --- under the customer's mandate ---------------------------------------------------------------------------
    async def confirm_funds(self, call: Call) -> Answer:
        """Whether the account has that much now; nothing is reserved. Asked for no more than could be paid now: beyond
        what the customer allowed, and beyond the partner's policy, the balance is nobody's business."""
        question: FundsQuestion = call.body.data
        if call.path["ConsentId"] != call.consent_id:
            raise ForeignResource("The customer's token is for another consent")
        if question.consent_id != call.consent_id:
            raise PaymentDiffersFromConsent("The body names another consent", path="$.Data.ConsentId")
        consent = await self._given(call)
        consent.check_in_force(call.now_ms)
        amount = _money(question.instructed_amount, "$.Data.InstructedAmount")
        call.policy.check_amount(amount, path="$.Data.InstructedAmount")
        await self._check_within(consent, amount, now_ms=call.now_ms)
        available = await self.bank.funds_available(consent.account_ids[0], amount)
        result = {
            "FundsAvailableDateTime": rfc3339(call.now_ms),
            "FundsAvailable": "Available" if available else "NotAvailable",
        }
        data = {
            "FundsConfirmationId": new_id("fnd"),
            "CreationDateTime": rfc3339(call.now_ms),
            "FundsAvailableResult": result,
            **members(question),
        }
        return Answer(201, {"Data": data})

    async def pay(self, call: Call) -> Answer:
        """201 with the payment as it stands: settled, rejected, or pending while the bank is silent."""
        request: PaymentRequest = call.body
        sent = {"Data": members(request.data), "Risk": members(request.risk)}
        if request.data.consent_id != call.consent_id:
            raise PaymentDiffersFromConsent("The token is for another consent", path="$.Data.ConsentId")
        instruction = request.data.instruction
        amount = _money(instruction.instructed_amount, "$.Data.Instruction.InstructedAmount")
        call.policy.check_amount(amount, path="$.Data.Instruction.InstructedAmount")
        check_same(await self._given(call), sent["Data"], risk=sent["Risk"])
        account = sent["Data"]["Instruction"]["CreditorAccount"]
        check_agreed(account, call.partner.settlement_account, path="$.Data.Instruction.CreditorAccount")
        order = Order(
            new_id("pay"), call.partner.partner_id, call.consent_id, amount, account["Identification"],
            _reference(request), request.risk.merchant_category_code or "", sent, call.keyed,
        )  # fmt: skip
        return await self._payment_answer(201, await self.till.pay(order, now_ms=call.now_ms), call)

    # --- payments, by the partner -------------------------------------------------------------------------------
    async def get_payment(self, call: Call) -> Answer:
        return await self._payment_answer(200, await self._own_payment(call), call)

    async def get_payment_details(self, call: Call) -> Answer:
        payment = await self._own_payment(call)
        links = {"Self": f"{self.issuer}{BASE}/domestic-vrps/{payment.payment_id}/payment-details"}
        return Answer(200, {"Data": details_json(payment), "Links": links, "Meta": {}})

    async def _own_payment(self, call: Call) -> Payment:
        return await self.till.find(call.path["DomesticVRPId"], partner_id=call.partner.partner_id)

    async def _given(self, call: Call) -> Consent:
        """The mandate behind the customer's token."""
        consent = await self.book.get(call.consent_id)
        consent.check_owner(call.partner.partner_id)
        if consent.kind is not ConsentKind.DOMESTIC_VRP:
            raise UnknownResource(f"There is no domestic VRP consent {consent.consent_id}")
        return consent

    async def _check_within(self, consent: Consent, amount: Money, *, now_ms: int) -> None:
        """The mandate's limits, with what its periods have used. Raises ControlParameterBreached."""
        parameters = read_parameters(consent.body)
        check_payment(parameters, amount, consent_made_ms=consent.created_ms, at_ms=now_ms)
        wanted = uses(parameters, consent_made_ms=consent.created_ms, at_ms=now_ms)
        async with self.database.connection() as conn:
            short = await store.short_usage(conn, consent.consent_id, wanted, amount_minor=amount.minor)
        if short is not None:
            raise period_breached(parameters, wanted[short])

    # --- answers ------------------------------------------------------------------------------------------------
    async def _mandate_answer(self, status: int, consent: Consent, *, now_ms: int) -> Answer:
        links = {"Self": f"{self.issuer}{BASE}/domestic-vrp-consents/{consent.consent_id}"}
        data = mandate_json(consent, debtor=await self._debtor(consent), now_ms=now_ms)
        return Answer(status, {"Data": data, "Risk": consent.body["Risk"], "Links": links, "Meta": {}})

    async def _debtor(self, consent: Consent) -> Account | None:
        """The account that the customer has chosen; None while nobody has."""
        if consent.customer_id is None or not consent.account_ids:
            return None
        accounts = await self.bank.accounts(consent.customer_id)
        return next((account for account in accounts if account.account_id == consent.account_ids[0]), None)

    async def _payment_answer(self, status: int, payment: Payment, call: Call) -> Answer:
        sent = payment.request
        if sent is None:  # collected by another capability: its consent says the rest
            consent = await self.book.get(payment.consent_id)
            data = instruction_of(payment, consent, creditor=call.partner.name)
            sent = {"Data": data, "Risk": consent.body["Risk"]}
        links = {"Self": f"{self.issuer}{BASE}/domestic-vrps/{payment.payment_id}"}
        data = payment_json(payment, sent["Data"])
        return Answer(status, {"Data": data, "Risk": sent["Risk"], "Links": links, "Meta": {}})


async def _own_mandate(conn: Connection, call: Call) -> Consent:
    found = await mandate(conn, call.path["ConsentId"], partner_id=call.partner.partner_id)
    if found.status is ConsentStatus.CANCELLED:
        raise UnknownResource(f"There is no domestic VRP consent {found.consent_id}")
    return found


def _money(amount: Amount, path: str) -> Money:
    money = parse_amount(amount.amount, amount.currency, path=f"{path}.Amount")
    if money.minor == 0:
        raise PaymentNotPositive(path=f"{path}.Amount")
    return money


def _reference(request: PaymentRequest) -> str:
    """What the customer reads on the statement."""
    instruction = request.data.instruction
    remittance = instruction.remittance_information
    lines = (remittance.unstructured if remittance else None) or [instruction.end_to_end_identification]
    return lines[0]
