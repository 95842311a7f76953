"""SQL of the sandbox bank's goal feed: told in any order, each with what the bank's books say of the person."""

from collections.abc import Sequence

from asyncpg import Record

from gateway.corebank.sandbox.store import FeedEvent
from gateway.database import Connection

_FEED_LOCK = 0x66656564  # advisory lock: "feed"; its writers take turns, so a reader never passes a row by


async def customer_events(conn: Connection, *, after: int, limit: int) -> list[Record]:
    """With the person's tenures (overlapping accounts are one), first goal of the kind in the tenure, and ticket."""
    return await conn.fetch(
        """WITH told AS MATERIALIZED (
             SELECT seq, event_id, kind, customer_id, amount_minor, currency, occurred_ms
             FROM sandbox_bank.customer_event WHERE seq > $1 ORDER BY seq LIMIT $2
           ), tenure AS (
             SELECT a.customer_id, lower(one) AS since_ms, upper(one) AS until_ms
             FROM (SELECT customer_id, range_agg(int8range(opened_ms, closed_ms)) AS every FROM sandbox_bank.account
                   WHERE customer_id IN (SELECT customer_id FROM told) GROUP BY customer_id) AS a,
                  unnest(a.every) AS one
           )
           SELECT e.*, c.phone, t.sinces, t.untils, coalesce(f.first_ms, e.occurred_ms) AS first_ms, o.scan_ticket
           FROM told e JOIN sandbox_bank.customer c USING (customer_id)
           CROSS JOIN LATERAL (
             SELECT coalesce(array_agg(since_ms ORDER BY since_ms), '{}') AS sinces,
                    coalesce(array_agg(until_ms ORDER BY since_ms), '{}') AS untils,
                    max(since_ms) FILTER (WHERE since_ms <= e.occurred_ms) AS joined_ms
             FROM tenure WHERE tenure.customer_id = e.customer_id) AS t
           CROSS JOIN LATERAL (
             SELECT min(occurred_ms) AS first_ms FROM sandbox_bank.customer_event x
             WHERE x.customer_id = e.customer_id AND x.kind = e.kind AND x.occurred_ms >= t.joined_ms) AS f
           LEFT JOIN LATERAL (
             SELECT scan_ticket FROM sandbox_bank.customer_event x
             WHERE x.customer_id = e.customer_id AND x.kind = 'ACCOUNT_OPENED' AND x.scan_ticket IS NOT NULL
               AND x.occurred_ms >= t.joined_ms
             ORDER BY x.occurred_ms LIMIT 1) AS o ON true
           ORDER BY e.seq""",
        after, limit,
    )  # fmt: skip


async def append_events(conn: Connection, events: Sequence[FeedEvent]) -> set[str]:
    """Onto the goal feed, in order; returns the ids that were new."""
    if not events:
        return set()
    await conn.execute("SELECT pg_advisory_xact_lock($1)", _FEED_LOCK)
    rows = await conn.fetch(
        """INSERT INTO sandbox_bank.customer_event
             (event_id, kind, customer_id, amount_minor, currency, occurred_ms, scan_ticket)
           SELECT i, k, c, a, u, o, s
           FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::text[])
             WITH ORDINALITY AS x (i, k, c, a, u, o, s, place)
           ORDER BY place ON CONFLICT DO NOTHING RETURNING event_id""",
        *map(list, zip(*((e.event_id, e.kind, e.customer_id, e.amount_minor, e.currency, e.occurred_ms, e.scan_ticket)
                         for e in events), strict=True)),
    )  # fmt: skip
    return {row["event_id"] for row in rows}
