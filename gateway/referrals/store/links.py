"""SQL of links and scans: a scan is nobody's until the bank's event presents its ticket, once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.database import Connection
from gateway.database.expiry import Expiry
from gateway.referrals.model import Link

_COLUMNS = """link_id, partner_id, landing, campaign, site, created_at_ms, expires_at_ms, jws_header, jws_signature"""

SCANS = Expiry(  # those that led nowhere: they say where an unknown person was
    "referral_scan", "presented_by IS NULL AND expires_at_ms < $1", kept_ms=30 * 86_400_000
)


@dataclass(frozen=True, slots=True)
class PresentedScan:
    """A ticket that the bank's event has just redeemed."""

    bank_event_id: str
    partner_id: str
    link_id: str
    campaign: str
    site: str
    scanned_at_ms: int
    consent_ref: str


async def insert(conn: Connection, link: Link) -> None:
    await conn.execute(
        f"INSERT INTO referral_link ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",  # noqa: S608
        link.link_id, link.partner_id, link.landing, link.campaign, link.site, link.created_at_ms, link.expires_at_ms,
        link.jws_header, link.jws_signature,
    )  # fmt: skip


async def find(conn: Connection, partner_id: str, link_id: str) -> Link | None:
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM referral_link WHERE partner_id = $1 AND link_id = $2",  # noqa: S608
        partner_id, link_id,
    )  # fmt: skip
    return _link(row) if row else None


async def find_any(conn: Connection, link_id: str) -> Link | None:
    """For a customer who follows a link: whose it is comes out of the link."""
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM referral_link WHERE link_id = $1", link_id)  # noqa: S608
    return _link(row) if row else None


async def count_scans(conn: Connection, link_id: str) -> int:
    return int(await conn.fetchval("SELECT count(*) FROM referral_scan WHERE link_id = $1", link_id))


async def insert_scan(conn: Connection, link: Link, digest: bytes, *, now_ms: int, expires_at_ms: int) -> None:
    await conn.execute(
        """INSERT INTO referral_scan (ticket_sha256, link_id, partner_id, scanned_at_ms, expires_at_ms)
           VALUES ($1, $2, $3, $4, $5)""",
        digest, link.link_id, link.partner_id, now_ms, expires_at_ms,
    )  # fmt: skip


async def present(conn: Connection, tickets: Sequence[tuple[bytes, str, int]]) -> list[PresentedScan]:
    """Redeem (digest, bank event, joined_at): each ticket once, by who joined after its scan and within its life.

    Other tickets are left out. A digest comes at most once in `tickets`.
    """
    rows = await conn.fetch(
        """UPDATE referral_scan AS s SET presented_by = t.bank_event_id
           FROM unnest($1::bytea[], $2::text[], $3::bigint[]) AS t (digest, bank_event_id, joined_at_ms),
                referral_link l
           WHERE s.ticket_sha256 = t.digest AND s.presented_by IS NULL AND l.link_id = s.link_id
             AND s.scanned_at_ms < t.joined_at_ms AND t.joined_at_ms <= s.expires_at_ms
           RETURNING t.bank_event_id, s.partner_id, s.link_id, l.campaign, l.site, s.scanned_at_ms, t.digest""",
        *map(list, zip(*tickets, strict=True)),
    )  # fmt: skip
    return [
        PresentedScan(
            row["bank_event_id"], row["partner_id"], row["link_id"], row["campaign"], row["site"],
            row["scanned_at_ms"], f"scan:{row['digest'].hex()[:32]}",
        )
        for row in rows
    ]  # fmt: skip


def _link(row: Any) -> Link:
    return Link(**row)
