"""People of bank operations: their keys (hashed at rest, shown once) and who a key belongs to.

A key is `pop_`, 43 characters for 256 random bits, and 8 of a checksum, so that a scanner of leaked secrets knows one
and a mistyped one is refused without a look-up.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from zlib import crc32

from gateway import audit
from gateway.admission.refusals import OperatorNotAccepted
from gateway.call import Operator
from gateway.database import Connection, Database
from gateway.database.changes import Change, announce

PREFIX = "pop_"
_KEY_BYTES = 32  # 256 bits: nothing to guess, so a plain SHA-256 keeps it
_CHECK_CHARACTERS = 8


@dataclass(frozen=True, slots=True)
class _Enrolled:
    operator: Operator
    key_sha256: bytes


class OperatorBook:
    """Active operators of this worker. Call `load` once, and subscribe `refresh` to the change feed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_digest: dict[bytes, _Enrolled] = {}

    async def load(self) -> None:
        async with self._database.connection() as conn:
            rows = await conn.fetch("SELECT id, name, role, key_sha256 FROM operator WHERE state = 'active'")
        self._by_digest = {
            row["key_sha256"]: _Enrolled(Operator(row["id"], row["name"], row["role"]), row["key_sha256"])
            for row in rows
        }

    async def refresh(self, changes: Sequence[Change]) -> None:
        if any(change.kind == "operator" for change in changes):
            await self.load()

    def recognise(self, header: str | None) -> Operator:
        """Whose key `Authorization: Bearer pop_…` shows. Raises OperatorNotAccepted, the same for every reason."""
        scheme, _, key = (header or "").partition(" ")
        key = key.strip(" ")
        if scheme.lower() != "bearer" or not is_whole(key):
            raise OperatorNotAccepted()
        return self.of_digest(key_hash(key))

    def of_digest(self, digest: bytes) -> Operator:
        """Whose key has that hash, while the key opens anything. Raises OperatorNotAccepted."""
        enrolled = self._by_digest.get(digest)
        if enrolled is None or not compare_digest(enrolled.key_sha256, digest):
            raise OperatorNotAccepted()
        return enrolled.operator


def new_operator_key() -> str:
    """Shown once, to be handed to the operator."""
    body = PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    return body + _checksum(body)


def is_whole(key: str) -> bool:
    """The prefix and the checksum fit: worth a look-up."""
    return key.isascii() and key.startswith(PREFIX) and _checksum(key[:-_CHECK_CHARACTERS]) == key[-_CHECK_CHARACTERS:]


def key_hash(key: str) -> bytes:
    return sha256(key.encode()).digest()


async def enrol(conn: Connection, operator: Operator, key: str, *, actor: str, reason: str, now_ms: int) -> bool:
    """Let the operator in with this key from now on; False: that very key is theirs already, in whatever state."""
    digest = key_hash(key)
    fresh = await conn.fetchval(
        """INSERT INTO operator (id, name, role, key_sha256, state, changed_at_ms)
           VALUES ($1, $2, $3, $4, 'active', $5)
           ON CONFLICT (id) DO UPDATE SET name = excluded.name, role = excluded.role, state = 'active',
               key_sha256 = excluded.key_sha256, changed_at_ms = excluded.changed_at_ms
           WHERE operator.key_sha256 <> excluded.key_sha256 RETURNING true""",
        operator.operator_id, operator.name, operator.role, digest, now_ms,
    )  # fmt: skip
    if fresh:
        detail = {"role": operator.role, "reason": reason}
        await _tell(conn, "operator.enrol", operator.operator_id, detail=detail, actor=actor, now_ms=now_ms)
    return bool(fresh)


async def has_operators(conn: Connection) -> bool:
    return bool(await conn.fetchval("SELECT EXISTS (SELECT FROM operator WHERE state = 'active')"))


async def revoke(conn: Connection, operator_id: str, *, actor: str, reason: str, now_ms: int) -> bool:
    """The operator's key opens nothing any more, on every worker within a second; False: it did not before."""
    changed = await conn.fetchval(
        """UPDATE operator SET state = 'revoked', changed_at_ms = $2 WHERE id = $1 AND state = 'active'
           RETURNING true""",
        operator_id, now_ms,
    )  # fmt: skip
    if changed:
        await _tell(conn, "operator.revoke", operator_id, detail={"reason": reason}, actor=actor, now_ms=now_ms)
    return bool(changed)


async def _tell(
    conn: Connection, action: str, operator_id: str, *, detail: Mapping[str, str], actor: str, now_ms: int
) -> None:
    await audit.record(conn, actor=actor, action=action, subject=operator_id, detail=detail, now_ms=now_ms)
    await announce(conn, "operator", operator_id, now_ms=now_ms)


def _checksum(text: str) -> str:
    return f"{crc32(text.encode()):08x}"
