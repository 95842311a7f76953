"""Statements for partners: what was issued to them, and the file that proves itself."""

from dataclasses import dataclass
from typing import Any

from gateway.call import Answer, Call
from gateway.clock import rfc3339
from gateway.database import Database
from gateway.money import Money
from gateway.refusal import UnknownResource
from gateway.settlement import store
from gateway.settlement.model import StatementRow

LIST_LIMIT = 200  # statements in one list: sixteen years of months
_V1 = "/partner/v1/statements"


@dataclass(frozen=True, slots=True)
class SettlementApi:
    """A partner sees its own statements, once they are issued; before that they don't exist for it."""

    database: Database
    issuer: str

    async def list_statements(self, call: Call) -> Answer:
        async with self.database.connection() as conn:
            rows = await store.statements(conn, partner_id=call.partner.partner_id, states=["ISSUED"], limit=LIST_LIMIT)
        return Answer(200, self._envelope({"Statement": [statement_members(row) for row in rows]}, _V1))

    async def get_statement(self, call: Call) -> Answer:
        row = await self._issued(call)
        return Answer(200, self._envelope(statement_members(row), f"{_V1}/{row.statement_id}"))

    async def download_statement(self, call: Call) -> Answer:
        row = await self._issued(call)
        async with self.database.connection() as conn:
            pieces = [chunk async for chunk in store.chunks(conn, row.statement_id)]
        assert row.sha256 is not None, "an issued statement has its file"
        name = f"statement-{row.partner_id}-{row.number}.json"
        headers = (
            ("content-disposition", f'attachment; filename="{name}"'),
            ("etag", f'"{row.sha256.hex()}"'),
        )
        return Answer(200, b"".join(pieces), headers)

    async def _issued(self, call: Call) -> StatementRow:
        """Raises UnknownResource, for another partner's statement too: ids of others tell nothing."""
        async with self.database.connection() as conn:
            row = await store.find_statement(conn, call.path["StatementId"], lock=False)
        if row is None or row.partner_id != call.partner.partner_id or row.state != "ISSUED":
            raise UnknownResource("There is no such statement of yours; see GET /partner/v1/statements")
        return row

    def _envelope(self, data: dict[str, Any], path: str) -> dict[str, Any]:
        return {"Data": data, "Links": {"Self": self.issuer + path}, "Meta": {}}


def statement_members(row: StatementRow) -> dict[str, Any]:
    """A statement as the APIs show it; amounts as decimal strings, positive Net = the bank owes the partner."""
    members: dict[str, Any] = {
        "StatementId": row.statement_id,
        "PartnerId": row.partner_id,
        "Number": row.number,
        "FromDay": row.from_day.isoformat(),
        "ToDay": row.to_day.isoformat(),
        "Status": row.state,
    }
    if row.totals is not None:
        names = {
            "BankOwes": "bank_owes_minor", "PartnerOwes": "partner_owes_minor", "Net": "net_minor",
            "CarriedIn": "carried_in_minor", "Payable": "payable_minor", "CarriedOut": "carried_out_minor",
        }  # fmt: skip
        for name, member in names.items():
            members[name] = {"Amount": Money(row.totals[member], row.currency).text, "Currency": row.currency}
    if row.sha256 is not None:
        members |= {"LineCount": row.line_count, "Sha256": row.sha256.hex(), "SizeBytes": row.size_bytes}
    if row.issued_at_ms is not None:
        members["IssuedDateTime"] = rfc3339(row.issued_at_ms)
    if row.failure is not None:
        members["Failure"] = row.failure
    return members
