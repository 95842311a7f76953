"""Referral batches over HTTP: declare, send the file, follow the progress, read what became of each row."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.admission.refusals import QueryMalformed
from gateway.call import Answer, Call
from gateway.clock import rfc3339
from gateway.referrals.api import envelope, read_page
from gateway.referrals.model import ROW_CODES, Batch, RowOutcome
from gateway.referrals.receiving import BatchDesk, Declaration
from gateway.referrals.store import batches


class BatchDeclared(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """`ControlTotal` is the number of distinct values in the file's customer_token column."""

    out_number: str
    row_count: int
    file_sha256: str
    control_total: int


class CreateBatchBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """Body of CreateReferralBatch."""

    data: BatchDeclared


@dataclass(frozen=True, slots=True)
class BatchApi:
    """CreateReferralBatch, UploadReferralBatchFile, GetReferralBatch, GetReferralBatchResults."""

    desk: BatchDesk
    public_url: str

    async def create_batch(self, call: Call) -> Answer:
        said: BatchDeclared = call.body.data
        declaration = Declaration(said.out_number, said.row_count, said.file_sha256, said.control_total)
        batch = await self.desk.declare(call.partner.partner_id, declaration, now_ms=call.now_ms)
        return self._answer(201, batch)

    async def check_upload(self, call: Call) -> bool:
        """Before a byte of the file is read: the batch is there, is the partner's, and still waits for its file."""
        return await self.desk.expect(call.partner.partner_id, call.path["BatchId"], now_ms=call.now_ms)

    async def upload_file(self, call: Call) -> Answer:
        """202: the file is here and is as declared; its rows are applied from now on."""
        batch = await self.desk.receive(
            call.partner.partner_id, call.path["BatchId"], file=call.body, now_ms=call.now_ms
        )
        return self._answer(202, batch)

    async def get_batch(self, call: Call) -> Answer:
        return self._answer(200, await self.desk.find(call.partner.partner_id, call.path["BatchId"]))

    async def get_results(self, call: Call) -> Answer:
        """Row 1 is the first line after the header. While the batch is applied: the rows done so far."""
        page = read_page(call.query, own_fields=("Outcome",))
        codes = _codes(call.query.get("Outcome"))
        after = _row(page.cursor)
        batch = await self.desk.find(call.partner.partner_id, call.path["BatchId"])
        async with self.desk.database.connection() as conn:
            found = await batches.results(conn, batch.batch_id, codes=codes, after_row=after, limit=page.limit + 1)
        shown = found[: page.limit]
        base = f"{self._address(batch)}/results"
        wanted = call.query.get("Outcome")
        fields = f"Limit={page.limit}" + (f"&Outcome={wanted}" if wanted else "")
        more = f"{base}?Cursor={shown[-1].row_no}&{fields}" if len(found) > page.limit else ""
        data = {
            "Row": [
                {
                    "RowNumber": row.row_no,
                    "Outcome": row.outcome.value,
                    "Code": row.code,
                    **({"ClaimId": row.claim_id} if row.claim_id else {}),
                }
                for row in shown
            ],
            "RowsApplied": batch.cursor_row,
        }
        return Answer(200, envelope(data, address=base, next_address=more))

    def _answer(self, status: int, batch: Batch) -> Answer:
        return Answer(status, envelope(_batch(batch), address=self._address(batch)))

    def _address(self, batch: Batch) -> str:
        return f"{self.public_url}/partner/v1/referral-batches/{batch.batch_id}"


def _batch(batch: Batch) -> dict[str, Any]:
    data: dict[str, Any] = {
        "BatchId": batch.batch_id,
        "OutNumber": batch.out_number,
        "RowCount": batch.row_count,
        "FileSha256": batch.file_sha256.hex(),
        "ControlTotal": batch.control_total,
        "State": batch.state.value,
        "RowsApplied": batch.cursor_row,
        "Counts": {"OK": batch.ok_count, "ERROR": batch.error_count, "EXCLUDED": batch.excluded_count},
        "CreationDateTime": rfc3339(batch.declared_at_ms),
    }
    if batch.received_at_ms is not None:
        data["ReceivedDateTime"] = rfc3339(batch.received_at_ms)
    if batch.applied_at_ms is not None:
        data["AppliedDateTime"] = rfc3339(batch.applied_at_ms)
    return data


def _codes(outcome: str | None) -> Collection[str]:
    if outcome is None:
        return ROW_CODES.keys()
    if outcome not in RowOutcome.__members__:
        raise QueryMalformed(f"Outcome is one of {', '.join(RowOutcome)}", path="$query.Outcome")
    return [code for code, its in ROW_CODES.items() if its.value == outcome]


def _row(cursor: str) -> int:
    if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 7):
        raise QueryMalformed("Cursor is what Links.Next gave", path="$query.Cursor")
    return int(cursor or 0)
