"""SQL of batches: declared, received by COPY as text, applied chunk by chunk in one set-based statement."""

from collections.abc import Collection
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from gateway.clock import CLOCK_SKEW_MS
from gateway.database import Connection
from gateway.referrals.batch import HEADER
from gateway.referrals.model import Batch, BatchState, RowResult

_COLUMNS = """batch_id, partner_id, out_number, row_count, file_sha256, control_total, state, declared_at_ms,
    received_at_ms, applied_at_ms, cursor_row, ok_count, error_count, excluded_count"""
_CLAIM_WRITERS = 0x636C6D  # advisory lock space: "clm"
# PostgreSQL expands counted repetitions: lengths are compared apart, which makes a row three times cheaper.
_TOKEN = "^idt_[1-9][0-9]*_[A-Za-z0-9_-]*$"  # noqa: S105 - a shape, not a secret
_CONSENT = "^[A-Za-z0-9._:/-]*$"
_RFC3339 = (
    "^[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][Tt][0-9][0-9]:[0-9][0-9]:[0-9][0-9]([.][0-9]+)?"
    "([Zz]|[+-][0-9][0-9]:[0-9][0-9])$"
)


@dataclass(frozen=True, slots=True)
class RowTerms:
    """What the rows of a chunk are judged by; `lookback_ms` None: the contract does not take batches."""

    epochs: tuple[int, ...]
    sites: tuple[str, ...]
    lookback_ms: int | None
    late_ms: int
    min_gap_ms: int


@dataclass(frozen=True, slots=True)
class WaitingFile:
    """A file that is here and not wholly applied."""

    batch_id: str
    partner_id: str
    received_at_ms: int


async def declare(conn: Connection, batch: Batch) -> Batch:
    """The batch of this OutNumber: the given one, or the one that was there first."""
    await conn.execute(
        """INSERT INTO referral_batch (batch_id, partner_id, out_number, row_count, file_sha256, control_total, state,
               declared_at_ms)
           VALUES ($1, $2, $3, $4, $5, $6, 'DECLARED', $7) ON CONFLICT (partner_id, out_number) DO NOTHING""",
        batch.batch_id, batch.partner_id, batch.out_number, batch.row_count, batch.file_sha256, batch.control_total,
        batch.declared_at_ms,
    )  # fmt: skip
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM referral_batch WHERE partner_id = $1 AND out_number = $2",  # noqa: S608
        batch.partner_id, batch.out_number,
    )  # fmt: skip
    assert row is not None, "inserted, or in the way"
    return _batch(row)


async def find(conn: Connection, partner_id: str, batch_id: str) -> Batch | None:
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM referral_batch WHERE partner_id = $1 AND batch_id = $2",  # noqa: S608
        partner_id, batch_id,
    )  # fmt: skip
    return _batch(row) if row else None


async def lock(conn: Connection, partner_id: str, batch_id: str) -> Batch | None:
    """Only one request at a time receives a batch's file; the other is told at once."""
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM referral_batch WHERE partner_id = $1 AND batch_id = $2 FOR UPDATE NOWAIT",  # noqa: S608
        partner_id, batch_id,
    )  # fmt: skip
    return _batch(row) if row else None


async def count_waiting(conn: Connection, partner_id: str, *, since_ms: int) -> int:
    """Batches that wait to be applied, and declarations of late whose file has not come."""
    return int(
        await conn.fetchval(
            """SELECT count(*) FROM referral_batch
               WHERE partner_id = $1 AND (state IN ('RECEIVED', 'APPLYING')
                                          OR (state = 'DECLARED' AND declared_at_ms > $2))""",
            partner_id, since_ms,
        )
    )  # fmt: skip


async def received_with_hash(conn: Connection, partner_id: str, file_sha256: bytes) -> str | None:
    """The batch in which the partner sent these bytes before."""
    found: str | None = await conn.fetchval(
        "SELECT batch_id FROM referral_batch WHERE partner_id = $1 AND file_sha256 = $2 AND state <> 'DECLARED'",
        partner_id, file_sha256,
    )  # fmt: skip
    return found


async def copy_in(conn: Connection, file: bytes) -> tuple[int, int]:
    """The file into a table of this transaction, as text; returns its rows and distinct tokens.

    PostgreSQL reads the CSV: a line with too few or too many columns is an asyncpg.BadCopyFileFormatError.
    """
    await conn.execute(
        """CREATE TEMPORARY TABLE referral_file (row_no int GENERATED ALWAYS AS IDENTITY,
               customer_token text COLLATE "C", consent_ref text, touched_at text, site text) ON COMMIT DROP"""
    )
    await conn.copy_to_table(
        "referral_file", source=BytesIO(file), format="csv", header=True, columns=list(HEADER), encoding="utf8",
        force_not_null=list(HEADER),
    )  # fmt: skip
    row = await conn.fetchrow("SELECT count(*) AS rows, count(DISTINCT customer_token) AS tokens FROM referral_file")
    assert row is not None
    return row["rows"], row["tokens"]


async def keep_rows(conn: Connection, batch: Batch) -> None:
    """The rows stay, in file order."""
    await conn.execute(
        """INSERT INTO referral_row (batch_id, row_no, customer_token, consent_ref, touched_at, site)
           SELECT $1, row_no, customer_token, consent_ref, touched_at, site FROM referral_file ORDER BY row_no""",
        batch.batch_id,
    )  # fmt: skip


async def keep_receipt(conn: Connection, batch: Batch, *, now_ms: int) -> None:
    """The batch is RECEIVED; its tokens are kept by the same statement (referral_batch_names_tokens)."""
    await conn.execute(
        """UPDATE referral_batch SET state = 'RECEIVED', received_at_ms = $3
           WHERE partner_id = $1 AND batch_id = $2 AND state = 'DECLARED'""",
        batch.partner_id, batch.batch_id, now_ms,
    )  # fmt: skip


async def correct_receipt(conn: Connection, batch: Batch, *, received_at_ms: int) -> None:
    """In the transaction that has received it."""
    await conn.execute(
        "UPDATE referral_batch SET received_at_ms = $3 WHERE partner_id = $1 AND batch_id = $2 AND received_at_ms < $3",
        batch.partner_id, batch.batch_id, received_at_ms,
    )  # fmt: skip


async def oldest_files(conn: Connection) -> list[WaitingFile]:
    """Of each partner the file received first, of those that are not wholly applied."""
    rows = await conn.fetch(
        """SELECT DISTINCT ON (partner_id) batch_id, partner_id, received_at_ms FROM referral_batch
           WHERE state IN ('RECEIVED', 'APPLYING') ORDER BY partner_id, received_at_ms, batch_id"""
    )
    return [WaitingFile(**row) for row in rows]


async def lock_waiting(conn: Connection, batch_id: str) -> Batch | None:
    """None: another process works on it, or has applied it."""
    row = await conn.fetchrow(
        f"""SELECT {_COLUMNS} FROM referral_batch
            WHERE batch_id = $1 AND state IN ('RECEIVED', 'APPLYING') FOR UPDATE SKIP LOCKED""",  # noqa: S608
        batch_id,
    )
    return _batch(row) if row else None


# One statement a chunk. A row leaves the file and becomes a touch of a claim, or a refusal with its code. The checks go
# from the form of the columns to time, contract, and what the partner has said before; the first one that fails names
# the code. The id of a claim follows from batch and row, so a chunk that is applied again makes the same ids. The LIMIT
# looks each row's claim up: a planner that has seen the table small would read all claims of the partner instead.
_APPLY = """
WITH taken AS MATERIALIZED (
    DELETE FROM referral_row WHERE batch_id = $1 AND row_no > $3 AND row_no <= $4
    RETURNING row_no, customer_token, consent_ref, touched_at, site
), formed AS MATERIALIZED (
    SELECT row_no, customer_token, consent_ref, site,
           CASE WHEN length(touched_at) <= 40 AND touched_at ~ $11 AND pg_input_is_valid(touched_at, 'timestamptz')
                THEN floor(extract(epoch FROM touched_at::timestamptz) * 1000)::bigint END AS told_ms,
           CASE WHEN length(customer_token) <> 48 + length(split_part(customer_token, '_', 2))
                     OR length(customer_token) > 53 OR customer_token !~ $9 THEN 'TOKEN_MALFORMED'
                WHEN split_part(customer_token, '_', 2)::int <> ALL ($5::int[]) THEN 'TOKEN_EPOCH_UNKNOWN'
                WHEN consent_ref = '' THEN 'CONSENT_MISSING'
                WHEN length(consent_ref) > 64 OR consent_ref !~ $10 THEN 'CONSENT_MALFORMED'
                WHEN site <> '' AND site <> ALL ($6::text[]) THEN 'SITE_UNKNOWN' END AS form_code
    FROM taken
), timed AS (
    SELECT row_no, customer_token, consent_ref, site, LEAST(told_ms, $7::bigint) AS at_ms,
           CASE WHEN form_code IS NOT NULL THEN form_code
                WHEN told_ms IS NULL THEN 'TOUCHED_AT_MALFORMED'
                WHEN told_ms > $7::bigint + $12::bigint THEN 'TOUCHED_IN_FUTURE'
                WHEN $8::bigint IS NULL THEN 'NOT_IN_CONTRACT'
                WHEN told_ms < $7::bigint - $13::bigint THEN 'TOO_LATE'
                WHEN told_ms < $7::bigint - $8::bigint THEN 'OUTSIDE_LOOKBACK' END AS time_code
    FROM formed
), numbered AS (
    SELECT *, row_number() OVER (PARTITION BY customer_token, time_code IS NULL ORDER BY row_no) AS nth FROM timed
), judged AS MATERIALIZED (
    SELECT n.row_no, n.customer_token, n.consent_ref, n.site, n.at_ms, c.claim_id IS NOT NULL AS known,
           coalesce(c.claim_id, 'clm_' || substr($1, 5, 10) || substr(md5($1 || ':' || n.row_no), 1, 16)) AS claim_id,
           CASE WHEN n.time_code IS NOT NULL THEN n.time_code
                WHEN n.nth > 1 OR c.last_batch_id = $1 THEN 'DUPLICATE_IN_FILE'
                WHEN n.at_ms < c.last_told_ms + $14::bigint THEN 'ALREADY_CLAIMED_BY_YOU'
                WHEN c.claim_id IS NOT NULL AND EXISTS (
                         SELECT FROM referral_touch t WHERE t.claim_id = c.claim_id AND t.partner_id = $2
                                                        AND t.consent_ref = n.consent_ref)
                     THEN 'ALREADY_CLAIMED_BY_YOU' END AS code
    FROM numbered n LEFT JOIN LATERAL (
             SELECT * FROM referral_claim WHERE partner_id = $2 AND customer_token = n.customer_token
                                            AND witness = 'partner' LIMIT 1) AS c ON true
), claimed AS (
    INSERT INTO referral_claim (partner_id, claim_id, customer_token, witness, state, recorded_at_ms, last_told_ms,
                                last_batch_id, told_until_ms, expires_at_ms)
    SELECT $2, claim_id, customer_token, 'partner', 'ELIGIBLE', $7, at_ms, $1, at_ms + $8, at_ms + $8
    FROM judged WHERE code IS NULL AND NOT known ORDER BY row_no
), refreshed AS (
    UPDATE referral_claim AS c
    SET last_told_ms = j.at_ms, last_batch_id = $1, told_until_ms = GREATEST(c.told_until_ms, j.at_ms + $8),
        expires_at_ms = CASE WHEN c.customer_id IS NULL THEN GREATEST(c.expires_at_ms, j.at_ms + $8)
                             ELSE c.expires_at_ms END,
        state = CASE WHEN c.state = 'EXPIRED' AND c.customer_id IS NULL THEN 'ELIGIBLE' ELSE c.state END
    FROM judged j WHERE j.code IS NULL AND j.known AND c.partner_id = $2 AND c.claim_id = j.claim_id
), touched AS (
    INSERT INTO referral_touch (partner_id, claim_id, evidence, occurred_at_ms, recorded_at_ms, consent_ref, site,
                                campaign, batch_id, row_no)
    SELECT $2, claim_id, 'batch', at_ms, $7, consent_ref, site, '', $1, row_no
    FROM judged WHERE code IS NULL ORDER BY row_no
), vouched AS (
    INSERT INTO known_customer (partner_id, token, epoch, source, known_at_ms)
    SELECT $2, customer_token, split_part(customer_token, '_', 2)::int, 'batch', $15
    FROM judged WHERE code IS NULL AND NOT known ON CONFLICT DO NOTHING
), refused AS (
    INSERT INTO referral_row_refused (batch_id, row_no, code) SELECT $1, row_no, code FROM judged WHERE code IS NOT NULL
)
SELECT coalesce(code, 'OK') AS code, count(*) AS rows FROM judged GROUP BY 1
"""


async def hold_claims(conn: Connection, partner_ids: Collection[str]) -> None:
    """One writer of a partner's claims at a time: the statement after this sees all there are, and nobody deadlocks."""
    await conn.execute(
        """SELECT pg_advisory_xact_lock($1, held.lock)
           FROM (SELECT DISTINCT hashtext(named) AS lock FROM unnest($2::text[]) AS named ORDER BY 1) AS held""",
        _CLAIM_WRITERS, list(partner_ids),
    )  # fmt: skip


async def apply_rows(conn: Connection, batch: Batch, terms: RowTerms, *, to_row: int, now_ms: int) -> dict[str, int]:
    """Apply the rows behind the cursor up to `to_row`; returns how many rows got which code."""
    await hold_claims(conn, [batch.partner_id])
    await conn.execute("SET LOCAL plan_cache_mode = force_custom_plan")  # a small table's plan would stay as it grows
    rows = await conn.fetch(
        _APPLY, batch.batch_id, batch.partner_id, batch.cursor_row, to_row, list(terms.epochs), list(terms.sites),
        batch.received_at_ms, terms.lookback_ms, _TOKEN, _CONSENT, _RFC3339, CLOCK_SKEW_MS,
        terms.late_ms, terms.min_gap_ms, now_ms,
    )  # fmt: skip
    return {row["code"]: row["rows"] for row in rows}


async def advance(
    conn: Connection, batch: Batch, *, to_row: int, ok: int, error: int, excluded: int, now_ms: int
) -> Batch:
    """Move the cursor in the transaction of the rows; the last chunk makes the batch APPLIED."""
    row = await conn.fetchrow(
        f"""UPDATE referral_batch SET cursor_row = $3, ok_count = ok_count + $4, error_count = error_count + $5,
                excluded_count = excluded_count + $6,
                state = CASE WHEN $3 = row_count THEN 'APPLIED' ELSE 'APPLYING' END,
                applied_at_ms = CASE WHEN $3 = row_count THEN $7::bigint END
            WHERE partner_id = $1 AND batch_id = $2 AND cursor_row = $8
            RETURNING {_COLUMNS}""",  # noqa: S608
        batch.partner_id, batch.batch_id, to_row, ok, error, excluded, now_ms, batch.cursor_row,
    )  # fmt: skip
    assert row is not None, "the batch is locked by this transaction"
    return _batch(row)


async def results(
    conn: Connection, batch_id: str, *, codes: Collection[str], after_row: int, limit: int
) -> list[RowResult]:
    """What became of the rows applied so far, in file order. The caller has checked whose batch it is."""
    rows = await conn.fetch(
        """SELECT row_no, code, claim_id FROM (
               (SELECT row_no, 'OK' AS code, claim_id FROM referral_touch
                WHERE $4 AND batch_id = $1 AND row_no > $2 ORDER BY row_no LIMIT $5)
               UNION ALL
               (SELECT row_no, code, NULL FROM referral_row_refused
                WHERE batch_id = $1 AND row_no > $2 AND code = ANY ($3::text[]) ORDER BY row_no LIMIT $5)
           ) AS result ORDER BY row_no LIMIT $5""",
        batch_id, after_row, list(codes), "OK" in codes, limit,
    )  # fmt: skip
    return [RowResult(row["row_no"], row["code"], row["claim_id"]) for row in rows]


def _batch(row: Any) -> Batch:
    return Batch(**{**row, "state": BatchState(row["state"])})
