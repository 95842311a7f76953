"""Idempotent replay: the same key and body is the same effect, the same key with another body is refused.

The row is written in the transaction of the effect, so both exist or neither; two requests that race meet at the
primary key, where the second waits for the first to commit. `draft-ietf-httpapi-idempotency-key-header`; UK Open
Banking 4.0.1.
"""

from gateway.database.pool import Connection
from gateway.refusal import Refusal


class IdempotencyKeyReused(Refusal):
    """The key has been used with another body."""

    status, code, ob_code, outcome = 409, "idempotency_key_reused", "U029", "conflict"
    title = "This idempotency key was used with another request"


async def claim(
    conn: Connection, partner_id: str, operation: str, *, key: str, request_hash: bytes, resource_id: str, now_ms: int
) -> str | None:
    """None: the key is ours now, for `resource_id`. Otherwise the id of the resource that the first request made.

    Raises IdempotencyKeyReused when the first request's hash differs.
    """
    fresh = await conn.fetchval(
        """INSERT INTO idempotency (partner_id, operation, key, request_hash, resource_id, created_at_ms)
           VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING true""",
        partner_id, operation, key, request_hash, resource_id, now_ms,
    )  # fmt: skip
    if fresh:
        return None
    first = await lookup(conn, partner_id, operation, key=key, request_hash=request_hash)
    assert first is not None, "the row that we collided with is there"
    return first


async def lookup(conn: Connection, partner_id: str, operation: str, *, key: str, request_hash: bytes) -> str | None:
    """The resource that the key stands for already; None when it is new. Raises IdempotencyKeyReused."""
    first = await conn.fetchrow(
        "SELECT request_hash, resource_id FROM idempotency WHERE partner_id = $1 AND operation = $2 AND key = $3",
        partner_id, operation, key,
    )  # fmt: skip
    if first is None:
        return None
    if first["request_hash"] != request_hash:
        raise IdempotencyKeyReused("Send a new idempotency key, or the very same body", path="$")
    return str(first["resource_id"])
