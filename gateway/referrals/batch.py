"""The rules of a referral batch: what may be declared, and when a file is the one that was declared."""

import csv
import hmac
import re

from gateway.referrals.model import Batch, Evidence, ReferralTerms
from gateway.refusal import Refusal

HEADER = ("customer_token", "consent_ref", "touched_at", "site")
ROW_LIMIT = 1_000_000  # rows of a file: what is applied within half a minute
FILE_LIMIT = 160 * 1024 * 1024  # bytes: a million rows of 160; a row of full width has about 130
FILE_DEADLINE_S = 1_320.0  # a full file over 1 Mbit/s takes 1,280 s; then the database copies it
HEADER_LIMIT = 1024  # bytes in which the header line must end
WAITING_LIMIT = 20  # batches of a partner that are declared or not applied yet: a queue, not a store
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_OUT_NUMBER = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class DeclarationMalformed(Refusal):
    """A member of the declaration that no file could fit."""

    code, ob_code, outcome = "declaration_malformed", "U002", "schema"
    title = "The declaration cannot be right"


class ReferralsNotAgreed(Refusal):
    """No contract in force, or one that knows no such evidence."""

    status, code, ob_code, outcome = 403, "referrals_not_agreed", "U030", "contract"
    title = "Your contract in force does not open this kind of referral"


class OutNumberReused(Refusal):
    """The number stands for another declaration already."""

    status, code, ob_code, outcome = 409, "out_number_reused", "U029", "conflict"
    title = "This OutNumber was declared with other contents"


class FileReceivedBefore(Refusal):
    """The same bytes came in under another OutNumber: applying them again would count customers twice."""

    status, code, ob_code, outcome = 409, "file_received_before", "U029", "conflict"
    title = "The same file has been received in another batch"


class TooManyBatches(Refusal):
    """The queue is full."""

    status, code, ob_code, outcome = 429, "too_many_batches", "U031", "quota"
    retry_after_s = 60
    title = "Too many of your batches wait"


class FileArriving(Refusal):
    """Another upload of the same batch is being read."""

    status, code, ob_code, outcome = 409, "file_arriving", "U029", "conflict"
    retry_after_s = 5
    title = "The file of this batch is being received already"


class FileNotAsDeclared(Refusal):
    """Hash, rows or control total differ from the declaration; nothing of the file was kept."""

    status, code, ob_code, outcome = 422, "file_not_as_declared", "U002", "schema"
    title = "The file is not the one that was declared"


class FileMalformed(Refusal):
    """Not CSV in UTF-8 with the agreed header."""

    status, code, ob_code, outcome = 422, "file_malformed", "U002", "schema"
    title = "The file cannot be read"


def check_declaration(*, out_number: str, row_count: int, file_sha256: str, control_total: int) -> bytes:
    """The hash's bytes. Raises DeclarationMalformed."""
    if not _OUT_NUMBER.fullmatch(out_number):
        raise DeclarationMalformed("OutNumber has 1 to 64 letters, digits, dots, dashes", path="$.Data.OutNumber")
    if not 1 <= row_count <= ROW_LIMIT:
        raise DeclarationMalformed(f"RowCount is 1 to {ROW_LIMIT}", path="$.Data.RowCount")
    if not _SHA256.fullmatch(file_sha256):
        raise DeclarationMalformed("FileSha256 is 64 lower-case hexadecimal digits", path="$.Data.FileSha256")
    if not 1 <= control_total <= row_count:
        raise DeclarationMalformed(
            "ControlTotal is the number of distinct customer tokens in the file: 1 to RowCount",
            path="$.Data.ControlTotal",
        )
    return bytes.fromhex(file_sha256)


def check_agreed(terms: ReferralTerms | None, evidence: Evidence) -> ReferralTerms:
    """Raises ReferralsNotAgreed: a file that could never count is refused before it is sent."""
    if terms is None:
        raise ReferralsNotAgreed("No contract is in force today")
    if evidence not in terms.order:
        raise ReferralsNotAgreed(f"Contract {terms.contract_id} does not name the evidence {evidence.value}")
    return terms


def check_same_declaration(batch: Batch, *, row_count: int, file_sha256: bytes, control_total: int) -> None:
    """The same OutNumber again is the same batch, if it says the same. Raises OutNumberReused."""
    if (batch.row_count, batch.file_sha256, batch.control_total) != (row_count, file_sha256, control_total):
        raise OutNumberReused(
            f"OutNumber {batch.out_number} stands for batch {batch.batch_id}", path="$.Data.OutNumber"
        )


def check_is_declared(batch: Batch, file_sha256: bytes) -> None:
    """Raises FileNotAsDeclared."""
    if not hmac.compare_digest(file_sha256, batch.file_sha256):
        raise FileNotAsDeclared("The file's SHA-256 is not the declared FileSha256")


def check_header(file: bytes) -> None:
    """Raises FileMalformed."""
    line, ended, _ = file[:HEADER_LIMIT].partition(b"\n")
    try:
        names = next(csv.reader([line.decode("utf-8-sig").rstrip("\r")]), []) if ended else []
    except UnicodeDecodeError:
        names = []
    if tuple(names) != HEADER:
        raise FileMalformed(f"The first line must be the header {','.join(HEADER)}")


def check_totals(batch: Batch, *, rows: int, distinct_tokens: int) -> None:
    """What was counted against what was declared. Raises FileNotAsDeclared."""
    if rows != batch.row_count:
        raise FileNotAsDeclared(f"The file has {rows} rows, RowCount says {batch.row_count}")
    if distinct_tokens != batch.control_total:
        raise FileNotAsDeclared(
            f"The file has {distinct_tokens} distinct customer tokens, ControlTotal says {batch.control_total}"
        )
