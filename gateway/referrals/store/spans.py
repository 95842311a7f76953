"""SQL of who can have brought a customer: the span of each partner's touches, and what files still name."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.database import Connection

Pair = tuple[str, str]  # partner and customer token


@dataclass(frozen=True, slots=True)
class Span:
    """All touches of a partner: the first receipt and the latest contact."""

    partner_id: str
    first_recorded_ms: int
    last_occurred_ms: int


async def spans(conn: Connection) -> list[Span]:
    """Of every partner that has ever told a touch."""
    rows = await conn.fetch("SELECT partner_id, first_recorded_ms, last_occurred_ms FROM referral_span")
    return [Span(**row) for row in rows]


async def partners_with_files(conn: Connection) -> set[str]:
    """Whose files are here and not wholly applied."""
    rows = await conn.fetch("SELECT DISTINCT partner_id FROM referral_batch WHERE state IN ('RECEIVED', 'APPLYING')")
    return {row["partner_id"] for row in rows}


async def named_in_files(conn: Connection, pairs: Sequence[Pair]) -> dict[Pair, int]:
    """Those named in a file of their partner that is not wholly applied, with the receipt of the first such file."""
    if not pairs:
        return {}
    rows = await conn.fetch(
        """SELECT w.partner_id, w.token, min(b.received_at_ms) AS received_at_ms
           FROM unnest($1::text[], $2::text[]) AS w (partner_id, token)
           JOIN referral_batch b ON b.partner_id = w.partner_id AND b.state IN ('RECEIVED', 'APPLYING')
           CROSS JOIN LATERAL (SELECT hashes FROM referral_file_tokens t
                               WHERE t.batch_id = b.batch_id AND t.first_hash <= hashtextextended(w.token, 0)
                               ORDER BY t.first_hash DESC LIMIT 1) AS piece
           WHERE hashtextextended(w.token, 0) = ANY (piece.hashes) GROUP BY 1, 2""",
        *map(list, zip(*pairs, strict=True)),
    )  # fmt: skip
    return {(row["partner_id"], row["token"]): row["received_at_ms"] for row in rows}
