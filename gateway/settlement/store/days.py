"""Business days: shut, sealed, their files, and the leaves of a day by cursor."""

from collections.abc import AsyncIterator, Sequence
from datetime import date
from typing import Any

from gateway.database import Connection
from gateway.settlement.model import PartnerTree, SealedDay, SealedFile

LEAVES_A_STEP = 500  # rows of a step of a cursor: few enough that the event loop is free again within milliseconds
_LINED = ("redemption.confirmed", "redemption.reversed", "goal.reached")  # types that have lines: settlement-rules §2

LEAVES = """SELECT partner, leaf, CASE WHEN type = ANY($4) THEN currency END FROM event
    WHERE seq BETWEEN $2 AND $3 AND business_day = $1 ORDER BY seq"""


async def shut_day(conn: Connection, day: date, *, now_ms: int) -> None:
    """From the commit on no event joins a day up to this one (their writers have been waited for by the caller)."""
    await conn.execute(
        "INSERT INTO business_day (day, state, changed_at_ms) VALUES ($1, 'SEALING', $2) ON CONFLICT DO NOTHING",
        day, now_ms,
    )  # fmt: skip


async def last_shut(conn: Connection) -> date | None:
    day: date | None = await conn.fetchval("SELECT max(day) FROM business_day")
    return day


async def unsealed_days_with_events(conn: Connection, through: date) -> list[date]:
    """Days through `through` that hold events and are not sealed, ascending; they are after the last head, as closing
    a day seals all up to it. One look at the index a day, whatever a day holds."""
    rows = await conn.fetch(
        """WITH RECURSIVE busy (day) AS (
             SELECT min(business_day) FROM event WHERE business_day > coalesce((SELECT max(day) FROM sealed_day),
               '-infinity')
             UNION ALL
             SELECT (SELECT min(business_day) FROM event WHERE business_day > busy.day) FROM busy
             WHERE busy.day IS NOT NULL)
           SELECT day FROM busy WHERE day <= $1 ORDER BY day""",
        through,
    )
    return [row["day"] for row in rows]


async def has_more_events(conn: Connection, day: date, *, than: int) -> bool:
    """Counted no further than it takes to know."""
    more: bool = await conn.fetchval(
        "SELECT count(*) > $2 FROM (SELECT FROM event WHERE business_day = $1 LIMIT $2 + 1) AS first", day, than
    )
    return more


async def leaves_of(
    conn: Connection, day: date, *, lined: set[tuple[str, str]]
) -> AsyncIterator[list[tuple[str | None, bytes]]]:
    """(partner, leaf) of every event of the day in the order of recording, in steps; inside a transaction. The
    (partner, currency) of those that have lines go into `lined`.

    The day's first and last places keep it to the day's own stretch of the table, in order and without sorting."""
    first, last = await places_of(conn, day)
    cursor: Any = await conn.cursor(LEAVES, day, first, last, list(_LINED))
    while rows := await cursor.fetch(LEAVES_A_STEP):
        lined.update({(partner, currency) for partner, _, currency in rows if currency and partner})
        yield [(partner, leaf) for partner, leaf, _ in rows]


async def places_of(conn: Connection, day: date) -> tuple[int, int]:
    """The first and the last `seq` of a day: two looks at the index a partner, whatever a day holds."""
    row = await conn.fetchrow(
        """WITH RECURSIVE busy (partner) AS (
             SELECT min(partner) FROM event WHERE business_day = $1
             UNION ALL
             SELECT (SELECT min(partner) FROM event WHERE business_day = $1 AND partner > busy.partner) FROM busy
             WHERE busy.partner IS NOT NULL)
           SELECT coalesce(min(first), 1) AS first, coalesce(max(last), 0) AS last FROM (
             SELECT (SELECT min(seq) FROM event e WHERE business_day = $1 AND e.partner = busy.partner) AS first,
                    (SELECT max(seq) FROM event e WHERE business_day = $1 AND e.partner = busy.partner) AS last
             FROM busy WHERE partner IS NOT NULL
             UNION ALL
             SELECT (SELECT min(seq) FROM event WHERE business_day = $1 AND partner IS NULL),
                    (SELECT max(seq) FROM event WHERE business_day = $1 AND partner IS NULL)) AS ends""",
        day,
    )
    assert row is not None, "an aggregate has a row"
    return row["first"], row["last"]


async def save_sealed_day(
    conn: Connection, sealed: SealedDay, *, lined: Sequence[tuple[str, str]], now_ms: int, operator_id: str
) -> None:
    """`lined`: (partner, currency) of what has lines in statements."""
    await conn.execute(
        """INSERT INTO sealed_day (day, head, head_jws, head_hash, root_hash, event_count, sealed_at_ms, sealed_by)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8)""",
        sealed.day, dict(sealed.head), sealed.head_jws, sealed.head_hash, sealed.root_hash, sealed.event_count, now_ms,
        operator_id,
    )  # fmt: skip
    await conn.executemany(
        "INSERT INTO sealed_partner (day, partner_id, size, root_hash) VALUES ($1, $2, $3, $4)",
        [(sealed.day, tree.partner_id, tree.size, tree.root_hash) for tree in sealed.trees],
    )
    await conn.executemany(
        "INSERT INTO sealed_currency (day, partner_id, currency) VALUES ($1, $2, $3)",
        [(sealed.day, partner_id, currency) for partner_id, currency in lined],
    )
    await conn.execute(
        "UPDATE business_day SET state = 'SEALED', changed_at_ms = $2 WHERE day = $1", sealed.day, now_ms
    )


async def sealed_day(conn: Connection, day: date) -> SealedDay | None:
    row = await conn.fetchrow(
        "SELECT day, head, head_jws, head_hash, root_hash, event_count FROM sealed_day WHERE day = $1", day
    )
    if row is None:
        return None
    trees = await conn.fetch(
        'SELECT partner_id, size, root_hash FROM sealed_partner WHERE day = $1 ORDER BY partner_id COLLATE "C"', day
    )
    return SealedDay(
        row["day"], row["head"], row["head_jws"], row["head_hash"], row["root_hash"], row["event_count"],
        tuple(PartnerTree(tree["partner_id"], tree["size"], tree["root_hash"]) for tree in trees),
    )  # fmt: skip


async def sealed_days(conn: Connection, from_day: date, to_day: date) -> list[date]:
    rows = await conn.fetch("SELECT day FROM sealed_day WHERE day BETWEEN $1 AND $2 ORDER BY day", from_day, to_day)
    return [row["day"] for row in rows]


async def last_head(conn: Connection) -> tuple[date, bytes] | None:
    row = await conn.fetchrow("SELECT day, head_hash FROM sealed_day ORDER BY day DESC LIMIT 1")
    return (row["day"], row["head_hash"]) if row else None


async def sealing_bank(conn: Connection) -> str | None:
    """The bank's name in the heads: that of the first one, as each has that of the one before."""
    name: str | None = await conn.fetchval("SELECT head ->> 'bank' FROM sealed_day ORDER BY day DESC LIMIT 1")
    return name


async def signed_heads(conn: Connection) -> list[tuple[date, str]]:
    """Every day's signed head, in order."""
    return [
        (row["day"], row["head_jws"]) for row in await conn.fetch("SELECT day, head_jws FROM sealed_day ORDER BY day")
    ]


async def first_sealed_day_of(conn: Connection, partner_id: str) -> date | None:
    """The first sealed day with an event of this partner."""
    day: date | None = await conn.fetchval("SELECT min(day) FROM sealed_partner WHERE partner_id = $1", partner_id)
    return day


async def currencies_of(conn: Connection, partner_id: str, *, through: date) -> list[str]:
    """Of the partner's sealed facts."""
    rows = await conn.fetch(
        """SELECT DISTINCT currency FROM sealed_currency WHERE partner_id = $1 AND day <= $2 ORDER BY currency""",
        partner_id, through,
    )  # fmt: skip
    return [row["currency"] for row in rows]


# --- files -----------------------------------------------------------------------------------------------------------
async def sealed_file(conn: Connection, day: date) -> SealedFile | None:
    row = await conn.fetchrow("SELECT sha256, rows, writer_version FROM sealed_file WHERE day = $1", day)
    return SealedFile(**row) if row else None


async def save_sealed_file(conn: Connection, day: date, file: SealedFile, *, now_ms: int) -> None:
    """Only after its leaves have been found to be the sealed ones."""
    await conn.execute(
        """INSERT INTO sealed_file (day, sha256, rows, writer_version, written_at_ms) VALUES ($1, $2, $3, $4, $5)
           ON CONFLICT (day) DO UPDATE SET sha256 = excluded.sha256, rows = excluded.rows,
               writer_version = excluded.writer_version, written_at_ms = excluded.written_at_ms""",
        day, file.sha256, file.rows, file.writer_version, now_ms,
    )  # fmt: skip
