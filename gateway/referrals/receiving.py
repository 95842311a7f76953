"""A batch on its way in: declared, then its file received whole or not at all, then applied by chunks.

Each chunk is one transaction: rows, touches, claims, counts and the cursor move together. A process that dies in the
middle leaves a batch whose cursor says where to go on; no row is applied twice, as the database says too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import asyncpg

from gateway import metrics
from gateway.call import File
from gateway.database import Connection, Database
from gateway.events import outbox
from gateway.ids import new_id
from gateway.partners.identity import IdentityKeys
from gateway.partners.partner import Partner
from gateway.referrals import batch as rules
from gateway.referrals.model import ROW_CODES, Batch, BatchState, Evidence, ReferralTerms, RowOutcome, TermsBook
from gateway.referrals.store import batches, goals
from gateway.referrals.store.batches import RowTerms
from gateway.referrals.terms import is_readable, terms_or_wait
from gateway.refusal import UnknownResource

CHUNK_ROWS = 2_000  # rows a transaction: some 60 ms, as goals of this partner's customers wait for its lock
CHUNKS_A_RUN = 25  # chunks until the chore lets others run
DECLARATION_WAITS_MS = 86_400_000  # a declaration whose file has not come for a day no longer fills the queue


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a partner says about the file that it will send."""

    out_number: str
    row_count: int
    file_sha256: str
    control_total: int


@dataclass(slots=True)
class BatchDesk:
    """Declares, receives and applies referral batches."""

    database: Database
    keys: IdentityKeys
    terms: TermsBook
    partner: Callable[[str], Partner | None]
    _turns: dict[str, int] = field(default_factory=dict)  # by partner, when a file of it was last applied from
    _turn: int = 0

    async def declare(self, partner_id: str, declaration: Declaration, *, now_ms: int) -> Batch:
        """The batch of this OutNumber, new or as it stands. Raises a refusal of batch.py."""
        digest = rules.check_declaration(
            out_number=declaration.out_number,
            row_count=declaration.row_count,
            file_sha256=declaration.file_sha256,
            control_total=declaration.control_total,
        )
        rules.check_agreed(self.terms(partner_id, now_ms), Evidence.BATCH)
        draft = Batch(
            new_id("rbt"), partner_id, declaration.out_number, declaration.row_count, digest,
            declaration.control_total, BatchState.DECLARED, now_ms, None, None, 0, 0, 0, 0,
        )  # fmt: skip
        async with self.database.transaction() as conn:
            batch = await batches.declare(conn, draft)
            if batch.batch_id == draft.batch_id:
                await self._check_queue(conn, draft, now_ms=now_ms)
        rules.check_same_declaration(
            batch, row_count=draft.row_count, file_sha256=digest, control_total=draft.control_total
        )
        return batch

    async def expect(self, partner_id: str, batch_id: str, *, now_ms: int) -> bool:
        """Before the file is read: does the batch wait for it? Another one than the declared could not come into it, so
        what stands against that one is said now. Raises UnknownResource, FileReceivedBefore."""
        batch = await self.find(partner_id, batch_id)
        if batch.state is not BatchState.DECLARED:
            return False
        self.terms(partner_id, now_ms)  # unreadable ones refuse the file: nobody could apply it
        async with self.database.connection() as conn:
            await self._check_unseen(conn, batch)
        return True

    async def receive(self, partner_id: str, batch_id: str, *, file: File, now_ms: int) -> Batch:
        """Keep the file of a declared batch; the same file again changes nothing. Raises a refusal of batch.py."""
        batch = await self.find(partner_id, batch_id)
        rules.check_is_declared(batch, file.sha256)
        if batch.state is not BatchState.DECLARED:
            return batch
        rules.check_header(file.content)
        try:
            async with self.database.transaction() as conn:
                locked = await batches.lock(conn, partner_id, batch_id)
                assert locked is not None, "batches are never deleted"
                if locked.state is BatchState.DECLARED:
                    await self._check_unseen(conn, locked)
                    self.terms(partner_id, now_ms)  # unreadable ones refuse the file: nobody could apply it
                    rows, tokens = await batches.copy_in(conn, file.content)
                    rules.check_totals(locked, rows=rows, distinct_tokens=tokens)
                    await batches.keep_rows(conn, locked)
                    await batches.keep_receipt(conn, locked, now_ms=now_ms)
                    # Goals were judged meanwhile that did not wait for this file: it came after whom they tell of. Who
                    # judges waits from here to the commit only.
                    await batches.correct_receipt(conn, locked, received_at_ms=await goals.hold_receipts(conn))
        except (asyncpg.BadCopyFileFormatError, asyncpg.CharacterNotInRepertoireError) as error:
            raise rules.FileMalformed(_where(error)) from None
        except asyncpg.LockNotAvailableError:
            raise rules.FileArriving from None
        except asyncpg.UniqueViolationError:  # the same file under another number, at the same moment
            raise rules.FileReceivedBefore() from None
        return await self.find(partner_id, batch_id)

    async def find(self, partner_id: str, batch_id: str) -> Batch:
        """Raises UnknownResource, for another partner's batch too."""
        async with self.database.connection() as conn:
            batch = await batches.find(conn, partner_id, batch_id)
        if batch is None:
            raise UnknownResource(f"There is no batch {batch_id}")
        return batch

    async def apply_batches_due(self, now_ms: int) -> int:
        """Chore: apply what has been received, a chunk of each partner in turn; returns the number of rows applied."""
        rows = 0
        for _ in range(CHUNKS_A_RUN):
            applied = await self._apply_chunk(now_ms)
            if not applied:
                break
            rows += applied
        return rows

    async def _apply_chunk(self, now_ms: int) -> int:
        async with self.database.transaction() as conn:
            batch = await self._next_readable(conn)
            if batch is None:
                return 0
            to_row = min(batch.cursor_row + CHUNK_ROWS, batch.row_count)
            terms = await self._row_terms(conn, batch)
            codes = await batches.apply_rows(conn, batch, terms, to_row=to_row, now_ms=now_ms)
            counts = _by_outcome(codes)
            after = await batches.advance(
                conn, batch, to_row=to_row, ok=counts[RowOutcome.OK], error=counts[RowOutcome.ERROR],
                excluded=counts[RowOutcome.EXCLUDED], now_ms=now_ms,
            )  # fmt: skip
            if after.state is BatchState.APPLIED:
                await outbox.append(conn, [_recorded(after, self.terms(batch.partner_id, _receipt(after)))],
                                    now_ms=now_ms)  # fmt: skip
        for outcome, count in counts.items():
            metrics.count("parasol_claims_total", count, outcome=_LABELS[outcome])
        return to_row - batch.cursor_row

    async def _next_readable(self, conn: Connection) -> Batch | None:
        """Partners take turns, each with its oldest file. Terms that cannot be read hold up their partner's files, and
        nobody else's; a file that another process works on is passed over."""
        files = await batches.oldest_files(conn)
        self._turns = {file.partner_id: self._turns.get(file.partner_id, 0) for file in files}
        for file in sorted(files, key=lambda file: (self._turns[file.partner_id], file.received_at_ms, file.batch_id)):
            if not is_readable(terms_or_wait(self.terms, file.partner_id, at_ms=file.received_at_ms)):
                continue
            if batch := await batches.lock_waiting(conn, file.batch_id):
                self._turn += 1
                self._turns[batch.partner_id] = self._turn
                return batch
        return None

    async def _row_terms(self, conn: Connection, batch: Batch) -> RowTerms:
        """As of the file's receipt: a batch that waits is judged as one that does not."""
        terms = self.terms(batch.partner_id, _receipt(batch))
        keys = await self.keys.keys_of_partners(conn, [batch.partner_id])
        partner = self.partner(batch.partner_id)
        agreed = terms is not None and Evidence.BATCH in terms.order
        return RowTerms(
            epochs=tuple(key.epoch for key in keys.get(batch.partner_id, ())),
            sites=tuple(site.site_id for site in partner.sites) if partner else (),
            lookback_ms=terms.lookback_ms if terms is not None and agreed else None,
            late_ms=terms.late_ms if terms is not None else 0,
            min_gap_ms=terms.min_gap_ms if terms is not None else 0,
        )

    async def _check_queue(self, conn: Connection, draft: Batch, *, now_ms: int) -> None:
        seen = await batches.received_with_hash(conn, draft.partner_id, draft.file_sha256)
        if seen is not None:
            raise rules.FileReceivedBefore(f"Batch {seen} has this file", path="$.Data.FileSha256")
        waiting = await batches.count_waiting(conn, draft.partner_id, since_ms=now_ms - DECLARATION_WAITS_MS)
        if waiting > rules.WAITING_LIMIT:
            raise rules.TooManyBatches(f"At most {rules.WAITING_LIMIT} batches wait at a time")

    async def _check_unseen(self, conn: Connection, batch: Batch) -> None:
        seen = await batches.received_with_hash(conn, batch.partner_id, batch.file_sha256)
        if seen is not None:
            raise rules.FileReceivedBefore(f"Batch {seen} has this file")


_LABELS = {RowOutcome.OK: "recorded", RowOutcome.ERROR: "error", RowOutcome.EXCLUDED: "excluded"}


def _by_outcome(codes: dict[str, int]) -> dict[RowOutcome, int]:
    counts = dict.fromkeys(RowOutcome, 0)
    for code, rows in codes.items():
        counts[ROW_CODES[code]] += rows
    return counts


def _receipt(batch: Batch) -> int:
    assert batch.received_at_ms is not None, "only a received batch is applied"
    return batch.received_at_ms


def _recorded(batch: Batch, terms: ReferralTerms | None) -> outbox.Event:
    """One fact a batch: counts, no customers."""
    return outbox.Event(
        type="claim.recorded",
        occurred_at_ms=_receipt(batch),
        partner=batch.partner_id,
        contract=terms.contract_id if terms else None,
        contract_version=terms.version if terms else None,
        data={
            "batch_id": batch.batch_id,
            "out_number": batch.out_number,
            "file_sha256": batch.file_sha256.hex(),
            "rows": batch.row_count,
            "ok": batch.ok_count,
            "error": batch.error_count,
            "excluded": batch.excluded_count,
        },
    )


def _where(error: asyncpg.PostgresError) -> str:
    """PostgreSQL's words without the line's contents: a row may hold anything."""
    context = (getattr(error, "context", None) or "").partition(",")
    line = context[2].partition(":")[0].strip() or "some line"
    return f"{line} is not CSV in UTF-8 with the four columns of the header"
