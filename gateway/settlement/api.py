"""Statements for partners: what was issued to them, and the file that proves itself."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import structlog

from gateway import metrics
from gateway.call import Answer, Call, Streamed
from gateway.clock import rfc3339
from gateway.database import Database
from gateway.jobs.store import wish
from gateway.money import Money
from gateway.refusal import Refusal, UnknownResource
from gateway.settlement.model import StatementRow
from gateway.settlement.statement_files import Opened, StatementFileDiffers, StatementFiles
from gateway.settlement.statement_work import remaking_of
from gateway.settlement.store import statements

LIST_LIMIT = 200  # statements in one list: sixteen years of months
RETRY_S = 10  # a statement of an ordinary month is made again in less
_V1 = "/partner/v1/statements"
log = structlog.get_logger(__name__)


class StatementFileAway(Refusal):
    """It is made again, byte for byte, from the sealed leaves and the signature that was given."""

    status, code, outcome = 503, "statement_file_away", "gateway_error"
    retry_after_s = RETRY_S
    title = "The file is being fetched; ask again in a moment"


@dataclass(frozen=True, slots=True)
class SettlementApi:
    """A partner sees its own statements, once they are issued; before that they don't exist for it."""

    database: Database
    files: StatementFiles
    issuer: str

    async def list_statements(self, call: Call) -> Answer:
        async with self.database.connection() as conn:
            rows = await statements.statements(
                conn, partner_id=call.partner.partner_id, states=["ISSUED"], limit=LIST_LIMIT
            )
        return Answer(200, self._envelope({"Statement": [statement_members(row) for row in rows]}, _V1))

    async def get_statement(self, call: Call) -> Answer:
        row = await self._issued(call)
        return Answer(200, self._envelope(statement_members(row), f"{_V1}/{row.statement_id}"))

    async def download_statement(self, call: Call) -> Answer:
        """The file, in steps; one that is not on this disk as it was written is made again by a job meanwhile."""
        row = await self._issued(call)
        assert row.sha256 is not None, "an issued statement has its file"
        assert row.size_bytes is not None
        opened = await self.files.open(row.statement_id, digest=row.sha256, size=row.size_bytes)
        if opened is None:
            await self._wish_for(row, now_ms=call.now_ms)
            raise StatementFileAway()
        name = f"statement-{row.partner_id}-{row.number}.{opened.suffix}"
        headers = (
            ("content-disposition", f'attachment; filename="{name}"'),
            ("etag", f'"{row.sha256.hex()}"'),
        )
        return Answer(
            200, Streamed(opened.size, self._sent(row, opened, now_ms=call.now_ms)), headers, opened.content_type
        )

    async def _sent(self, row: StatementRow, opened: Opened, *, now_ms: int) -> AsyncGenerator[bytes, None]:
        """The file's steps. Where it turns out to be another one, the answer breaks off before its last step, and the
        file is made again; the partner's own check of the ETag or of Content-Length refuses what it has by then."""
        try:
            async with aclosing(opened.chunks()) as chunks:
                async for chunk in chunks:
                    yield chunk
        except StatementFileDiffers:
            metrics.count("parasol_statement_files_differing_total")
            log.error("statement_file_differs", statement_id=row.statement_id, partner_id=row.partner_id)
            self.files.remove(row.statement_id, opened)
            await self._wish_for(row, now_ms=now_ms)
            raise

    async def _wish_for(self, row: StatementRow, *, now_ms: int) -> None:
        async with self.database.transaction() as conn:
            await wish(conn, remaking_of(row), operator_id=row.partner_id, now_ms=now_ms)

    async def _issued(self, call: Call) -> StatementRow:
        """Raises UnknownResource, for another partner's statement too: ids of others tell nothing."""
        async with self.database.connection() as conn:
            row = await statements.find_statement(conn, call.path["StatementId"], lock=False)
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
        "Currency": row.currency,
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
