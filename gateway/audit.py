"""The audit log: who did what to whom, from where; a hash chain, so that a missing or changed row shows."""

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from gateway.database import Connection
from gateway.jsonio import canonical

_GENESIS = bytes(32)
NOTHING_NOTED: Mapping[int, bytes] = {}
_CHAIN = 0x61756474  # advisory lock: "audt"; the chain has one tail

# Where the request comes from (the edge sets it), or which command runs; otherwise this program itself acts.
came_from: ContextVar[str] = ContextVar("came_from", default="gateway")

# What a person decides. Each of these rows says why, or is not written.
DECISIONS = frozenset((
    "partner.state", "document.apply", "day.closure_requested", "statement.requested", "statement.approved",
    "statement.refused", "statement.issued", "job.retried", "job.withdrawn", "operator.enrol", "operator.revoke",
    "bank_key.revoke", "statement_key.rotated",
))  # fmt: skip


class AuditChainBroken(Exception):
    """A row does not commit to the one before it; the text names the row."""


async def record(
    conn: Connection, *, actor: str, action: str, subject: str, detail: Mapping[str, Any], now_ms: int
) -> None:
    """Append one row in the transaction of the change. `detail` holds before and after, never a secret or C2 data; a
    decision's `reason` too. From where it came is added here, so that no caller can forget it."""
    assert action not in DECISIONS or detail.get("reason"), f"{action} is a person's decision: say why"
    assert "from" not in detail, "that is where the request came from"
    detail = {**detail, "from": came_from.get()}
    await conn.execute("SELECT pg_advisory_xact_lock($1)", _CHAIN)
    seq, previous = await head(conn) or (0, _GENESIS)
    digest = _digest(seq + 1, now_ms, (actor, action, subject), detail=detail, previous=previous)
    await conn.execute(
        """INSERT INTO audit (seq, at_ms, actor, action, subject, detail, previous, hash)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8)""",
        seq + 1, now_ms, actor, action, subject, detail, previous, digest,
    )  # fmt: skip


async def head(conn: Connection) -> tuple[int, bytes] | None:
    """Number and hash of the last row; None while there is none."""
    row = await conn.fetchrow("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
    return (row["seq"], row["hash"]) if row else None


async def record_all(
    conn: Connection, entries: Sequence[tuple[str, Mapping[str, Any]]], *, actor: str, action: str, now_ms: int
) -> None:
    """Append a row for each (subject, detail), in order, as `record` does one: the tail is read and held once."""
    assert action not in DECISIONS or all(detail.get("reason") for _, detail in entries), f"{action}: say why"
    if not entries:
        return
    await conn.execute("SELECT pg_advisory_xact_lock($1)", _CHAIN)
    seq, previous = await head(conn) or (0, _GENESIS)
    rows = []
    for subject, detail in entries:
        seq += 1
        told = {**detail, "from": came_from.get()}
        digest = _digest(seq, now_ms, (actor, action, subject), detail=told, previous=previous)
        rows.append((seq, now_ms, actor, action, subject, told, previous, digest))
        previous = digest
    columns = ("seq", "at_ms", "actor", "action", "subject", "detail", "previous", "hash")
    await conn.copy_records_to_table("audit", columns=columns, records=rows)


@dataclass(frozen=True, slots=True)
class Anchor:
    """A hash of this chain that was written down elsewhere, with the row that tells of it: both must be there."""

    name: str
    hash: bytes
    told_by: tuple[str, str]  # action and subject of a row after it


async def verify_chain(
    conn: Connection, anchors: Sequence[Anchor] = (), *, noted: Mapping[int, bytes] = NOTHING_NOTED
) -> int:
    """Recompute every link and pass every anchor, in their order; the number of rows. Raises AuditChainBroken.

    `noted`: hashes of rows by number, as somebody outside wrote them down.
    """
    previous, count, passed = _GENESIS, 0, 0
    awaited = deque(anchors)
    untold: dict[tuple[str, str], Anchor] = {}
    async with conn.transaction():
        async for row in conn.cursor(
            "SELECT seq, at_ms, actor, action, subject, detail, previous, hash FROM audit ORDER BY seq"
        ):
            count += 1
            who = (row["actor"], row["action"], row["subject"])
            digest = _digest(count, row["at_ms"], who, detail=row["detail"], previous=previous)
            if row["seq"] != count or row["previous"] != previous or row["hash"] != digest:
                raise AuditChainBroken(f"audit row {row['seq']} does not follow from the row before it")
            if noted.get(count, digest) != digest:
                raise AuditChainBroken(f"audit row {count} is not the one that was noted: the trail is another one")
            untold.pop((row["action"], row["subject"]), None)
            while awaited and awaited[0].hash == digest:
                anchor = awaited.popleft()
                untold[anchor.told_by] = anchor
                passed = count
            previous = digest
    if awaited:
        found = f"no row after row {passed} has the hash that {awaited[0].name} names"
        raise AuditChainBroken(f"{found}: rows were cut off, or the trail is another one")
    if (last := max(noted, default=0)) > count:
        raise AuditChainBroken(f"row {last} was noted and the trail ends with row {count}: rows were cut off")
    for anchor in untold.values():
        raise AuditChainBroken(f"the row that tells of {anchor.name} is missing at the end: rows were cut off")
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
