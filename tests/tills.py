"""A till over a real database and the sandbox bank: a mandate given by a demo customer, and money that moves."""

import secrets
from dataclasses import dataclass, field
from typing import Any

from gateway.consents import store as consents
from gateway.consents.consent import Consent, ConsentKind
from gateway.corebank.port import CoreBank
from gateway.corebank.sandbox.bank import Clock, SandboxBank
from gateway.corebank.sandbox.people import Counter, Opening
from gateway.database import Database
from gateway.money import Money
from gateway.payments.collect import Collected, MandateCollections, Refunded
from gateway.payments.paying import Till
from gateway.payments.refunding import RefundDesk

NOW_MS = 1_790_000_000_000  # 2026-09-21T14:13:20Z, a Monday; 22:13 in Shanghai
CREDITOR = "parkco-settlement"
OPENING_MINOR = 100_000
DAY_MS = 86_400_000
ASKED_AFTER_S = (2, 4, 8, 16, 32, 64)  # when a silent order is asked for, until it is over


def vrp_body(*limits: tuple[str, str, str], maximum: str = "100.00", **more: Any) -> dict[str, Any]:
    """Data of a VRP consent; a limit is (PeriodType, PeriodAlignment, Amount)."""
    return {
        "ControlParameters": {
            "VRPType": ["UK.OBIE.VRPType.Other"],
            "PSUAuthenticationMethods": ["UK.OBIE.SCANotRequired"],
            "MaximumIndividualAmount": {"Amount": maximum, "Currency": "CNY"},
            "PeriodicLimits": [
                {"PeriodType": kind, "PeriodAlignment": alignment, "Amount": amount, "Currency": "CNY"}
                for kind, alignment, amount in limits or (("Month", "Calendar", "500.00"),)
            ],
            **more,
        },
        "Initiation": {
            "CreditorAccount": {
                "SchemeName": "CN.CNAPS.AccountNumber", "Identification": CREDITOR, "Name": "ParkCo City Parking",
            }
        },
    }  # fmt: skip


@dataclass(slots=True)
class Takings:
    """Collections of parkco from one customer, and what everybody has afterwards."""

    database: Database
    collections: MandateCollections
    customer_id: str
    account_id: str
    moved: list[str] = field(default_factory=list)

    async def mandate(self, body: dict[str, Any] | None = None, *, expires_ms: int | None = None) -> Consent:
        async with self.database.transaction() as conn:
            made = await consents.create(
                conn, partner_id="parkco", client_id="parkco-server", kind=ConsentKind.DOMESTIC_VRP,
                body=body or vrp_body(), expires_ms=expires_ms, now_ms=NOW_MS,
            )  # fmt: skip
            return await consents.authorise(
                conn, made.consent_id, customer_id=self.customer_id, account_ids=[self.account_id], actor="customer",
                now_ms=NOW_MS,
            )  # fmt: skip

    async def collect(self, mandate_id: str, minor: int, **more: Any) -> Collected:
        given = {
            "partner_id": "parkco", "payment_id": f"pay_{secrets.token_hex(8)}", "reference": "ses_1",
            "creditor_account": CREDITOR, "now_ms": NOW_MS,
        }  # fmt: skip
        amount = Money(minor, more.pop("currency", "CNY"))
        return await self.collections.collect(mandate_id=mandate_id, amount=amount, **{**given, **more})

    async def refund(self, payment_id: str, minor: int, **more: Any) -> Refunded:
        given = {"partner_id": "parkco", "refund_id": f"rfd_{secrets.token_hex(8)}", "now_ms": NOW_MS}
        return await self.collections.refund(payment_id=payment_id, amount=Money(minor, "CNY"), **{**given, **more})

    async def fault(self, effect: str, *, times: int = 1) -> None:
        """What the next orders suffer."""
        await self.sql("INSERT INTO sandbox_bank.fault (effect, remaining) VALUES ($1, $2)", effect, times)

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        async with self.database.connection() as conn:
            return list(await conn.fetch(statement, *values))

    async def spent(self) -> int:
        """What has left the customer's account, by the bank's own book."""
        [row] = await self.sql("SELECT balance_minor FROM sandbox_bank.account WHERE account_id = $1", self.account_id)
        return OPENING_MINOR - int(row["balance_minor"])

    async def used(self) -> list[int]:
        rows = await self.sql("SELECT used_minor FROM payment_usage ORDER BY consent_id, limit_no, starts_on")
        return [row["used_minor"] for row in rows]

    async def booked(self) -> int:
        """What the ledger says that the merchant has received."""
        rows = await self.sql(
            "SELECT coalesce(-sum(amount_minor), 0) AS minor FROM ledger_posting WHERE account = $1",
            "merchant_receipts:parkco:CNY",
        )
        return int(rows[0]["minor"])

    async def events(self) -> list[str]:
        return [row["type"] for row in await self.sql("SELECT type FROM event ORDER BY seq")]

    async def settle(self, *, after_ms: int) -> int:
        """Both chores, so much later."""
        due = await self.collections.till.settle_pending_due(NOW_MS + after_ms)
        return due + await self.collections.desk.settle_refunds_due(NOW_MS + after_ms)

    async def settle_for_good(self) -> None:
        """Both chores until an order that never arrived is over."""
        for after_s in ASKED_AFTER_S:
            await self.settle(after_ms=after_s * 1_000)


def collections_over(database: Database, bank: CoreBank, *, moved: list[str]) -> MandateCollections:
    """`moved` collects the accounts whose balance has changed."""
    return MandateCollections(
        Till(database, bank, on_moved=moved.append), RefundDesk(database, bank, on_moved=moved.append)
    )


async def open_takings(database: Database, bank_database: Database) -> Takings:
    """The house accounts, one customer with money, and the collections over them."""
    bank, counter = SandboxBank(bank_database, Clock(lambda: NOW_MS)), Counter(bank_database)
    await counter.seed([(CREDITOR, "ParkCo")], currency="CNY")
    phone = "+8613900000001"
    opened = await counter.open_accounts([Opening(phone, "王五", "CNY", NOW_MS, opening_minor=OPENING_MINOR)])
    [account] = await bank.accounts(opened[phone])
    moved: list[str] = []
    collections = collections_over(database, bank, moved=moved)
    return Takings(database, collections, opened[phone], account.account_id, moved)
