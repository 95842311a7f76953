"""The audit log: who did what to whom, from where; a hash chain, so that a missing or changed row shows."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.database import Connection
from gateway.jsonio import canonical

_GENESIS = bytes(32)
_CHAIN = 0x61756474  # advisory lock: "audt"; the chain has one tail


class AuditChainBroken(Exception):
    """A row does not commit to the one before it; the text names the row."""


async def record(
    conn: Connection, *, actor: str, action: str, subject: str, detail: Mapping[str, Any], now_ms: int
) -> None:
    """Append one row in the transaction of the change. `detail` holds before and after, never a secret or C2 data."""
    await conn.execute("SELECT pg_advisory_xact_lock($1)", _CHAIN)
    tail = await conn.fetchrow("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
    seq, previous = (tail["seq"] + 1, tail["hash"]) if tail else (1, _GENESIS)
    digest = _digest(seq, now_ms, (actor, action, subject), detail=detail, previous=previous)
    await conn.execute(
        """INSERT INTO audit (seq, at_ms, actor, action, subject, detail, previous, hash)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8)""",
        seq, now_ms, actor, action, subject, dict(detail), previous, digest,
    )  # fmt: skip


async def record_all(
    conn: Connection, entries: Sequence[tuple[str, Mapping[str, Any]]], *, actor: str, action: str, now_ms: int
) -> None:
    """Append a row for each (subject, detail), in order, as `record` does one: the tail is read and held once."""
    if not entries:
        return
    await conn.execute("SELECT pg_advisory_xact_lock($1)", _CHAIN)
    tail = await conn.fetchrow("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
    seq, previous = (tail["seq"], tail["hash"]) if tail else (0, _GENESIS)
    rows = []
    for subject, detail in entries:
        seq += 1
        digest = _digest(seq, now_ms, (actor, action, subject), detail=detail, previous=previous)
        rows.append((seq, now_ms, actor, action, subject, dict(detail), previous, digest))
        previous = digest
    await conn.executemany(
        """INSERT INTO audit (seq, at_ms, actor, action, subject, detail, previous, hash)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8)""",
        rows,
    )


async def verify_chain(conn: Connection) -> int:
    """Recompute every link; returns the number of rows. Raises AuditChainBroken."""
    previous, count = _GENESIS, 0
    async with conn.transaction():
        async for row in conn.cursor(
            "SELECT seq, at_ms, actor, action, subject, detail, previous, hash FROM audit ORDER BY seq"
        ):
            count += 1
            who = (row["actor"], row["action"], row["subject"])
            digest = _digest(count, row["at_ms"], who, detail=row["detail"], previous=previous)
            if row["seq"] != count or row["previous"] != previous or row["hash"] != digest:
                raise AuditChainBroken(f"audit row {row['seq']} does not follow from the row before it")
            previous = digest
    return count


async def latest(conn: Connection, *, limit: int, before_seq: int | None) -> list[Mapping[str, Any]]:
    """Newest first, for the operators' page and export."""
    return [
        dict(row)
        for row in await conn.fetch(
            """SELECT seq, at_ms, actor, action, subject, detail, hash FROM audit
               WHERE $2::bigint IS NULL OR seq < $2 ORDER BY seq DESC LIMIT $1""",
            limit, before_seq,
        )
    ]  # fmt: skip


def _digest(seq: int, at_ms: int, who: tuple[str, str, str], *, detail: Mapping[str, Any], previous: bytes) -> bytes:
    return hashlib.sha256(previous + canonical([seq, at_ms, *who, dict(detail)])).digest()
