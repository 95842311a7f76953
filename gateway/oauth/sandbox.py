"""The sandbox's shortcut: a consent approved without a browser. Only a sandbox has this operation."""

from dataclasses import dataclass

import msgspec

from gateway.call import Answer, OpenCall
from gateway.consents import store as consents
from gateway.consents.consent import AccountChoiceInvalid, Consent, ConsentKind
from gateway.corebank.port import CoreBank, CoreBankUnavailable
from gateway.corebank.sandbox.people import DEMO_CUSTOMERS, Counter
from gateway.database import Database
from gateway.jsonio import decode
from gateway.oauth import store
from gateway.oauth.consent_view import choosable
from gateway.oauth.refusals import BankUnreachable
from gateway.oauth.vouching import Vouching, vouch
from gateway.refusal import UnknownResource


class Approval(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """Who approves, and for which accounts; left out: the demo customer, and the accounts that fit."""

    customer_id: str | None = None
    account_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SandboxApi:
    """The first demo customer approves when nobody is named."""

    database: Database
    corebank: CoreBank
    counter: Counter
    vouching: Vouching

    async def approve(self, call: OpenCall) -> Answer:
        """The consent is authorised now, and its next authorization goes through without pages, once."""
        consent_id = call.path["ConsentId"]
        wanted = decode(call.raw_body, Approval) if call.raw_body else Approval()
        async with self.database.connection() as conn:
            asked = await consents.find(conn, consent_id)
        if asked is None:
            raise UnknownResource(f"There is no consent {consent_id}")
        customer_id = wanted.customer_id or asked.customer_id or await self._demo_customer()
        account_ids = await self._accounts(asked, wanted, customer_id=customer_id)
        token = await self.vouching.token(asked, customer_id, now_ms=call.now_ms)
        async with self.database.transaction() as conn:
            given = await consents.authorise(
                conn, asked.consent_id, customer_id=customer_id, account_ids=account_ids, actor="sandbox",
                now_ms=call.now_ms,
            )  # fmt: skip
            await vouch(conn, given, token, now_ms=call.now_ms)
            await store.approve_next(conn, asked.consent_id, now_ms=call.now_ms)
        data = {
            "ConsentId": given.consent_id,
            "Status": given.status.value,
            "CustomerId": given.customer_id,
            "AccountIds": list(given.account_ids),
        }
        return Answer(200, {"Data": data, "Links": {}, "Meta": {}})

    async def _demo_customer(self) -> str:
        _, _, phone = DEMO_CUSTOMERS[0]
        return (await self.counter.customer_ids([phone]))[phone]

    async def _accounts(self, asked: Consent, wanted: Approval, *, customer_id: str) -> list[str]:
        """The named ones, which must be the customer's; or all that fit, one for a mandate."""
        try:
            own = [account.account_id for account in choosable(asked, await self.corebank.accounts(customer_id))]
        except CoreBankUnavailable:
            raise BankUnreachable() from None
        if wanted.account_ids:
            if not set(wanted.account_ids) <= set(own):
                raise AccountChoiceInvalid(path="$.AccountIds")
            return list(wanted.account_ids)
        return own[:1] if asked.kind is ConsentKind.DOMESTIC_VRP else own
