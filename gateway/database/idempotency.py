"""One meaning of an idempotency key (ADR 28): the same key and request is the same effect and the same resource, the
same key with another request is refused, the key of another partner or operation is another key.

The key is written in the transaction of its effect, so both exist or neither. Two at the same time meet at a unique
index or at a lock, where the second waits for the first to commit, and finds it. Keys behind which money stands are
columns of the row that their request made, for good; a capability's store reads them, and `KeyedRequest.check_same` is
the rule. All others are kept here for KEPT_MS. `draft-ietf-httpapi-idempotency-key-header`; UK Open Banking 4.0.1.
"""

from dataclasses import dataclass

from gateway.database.expiry import Expiry
from gateway.database.pool import Connection
from gateway.refusal import Refusal

KEPT_MS = 2 * 86_400_000  # by the retention clock, so never less than the 24 hours that UK Open Banking promises
KEYS = Expiry("idempotency", "counted_from_ms <= $1", kept_ms=KEPT_MS)


class IdempotencyKeyReused(Refusal):
    """The key has been used with another request."""

    status, code, ob_code, outcome = 409, "idempotency_key_reused", "U029", "conflict"
    title = "This idempotency key was used with another request"


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request and the key that it came with. `request_hash` is made of method, path and body (admission/door.py)."""

    partner_id: str
    operation: str
    key: str
    request_hash: bytes

    def check_same(self, known_hash: bytes) -> None:
        """Raises IdempotencyKeyReused where the key stands for the request of another hash."""
        if known_hash != self.request_hash:
            raise IdempotencyKeyReused("Send a new idempotency key, or the very same body", path="$")


async def wait_for_key(conn: Connection, request: KeyedRequest) -> None:
    """Until nobody else is about to use the same key; it is ours until the transaction ends. Look for its row then."""
    name = f"{request.partner_id}\n{request.operation}\n{request.key}"
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", name)


async def claim(conn: Connection, request: KeyedRequest, *, resource_id: str) -> str | None:
    """None: the key is ours now, for `resource_id`. Otherwise the id of the resource that the first request made.

    Raises IdempotencyKeyReused.
    """
    fresh = await conn.fetchval(
        """INSERT INTO idempotency (partner_id, operation, key, request_hash, resource_id, counted_from_ms)
           SELECT $1, $2, $3, $4, $5, at_ms FROM retention_clock ON CONFLICT DO NOTHING RETURNING true""",
        request.partner_id, request.operation, request.key, request.request_hash, resource_id,
    )  # fmt: skip
    if fresh:
        return None
    first = await lookup(conn, request)
    return first if first is not None else await claim(conn, request, resource_id=resource_id)  # it expired meanwhile


async def made_by_key(conn: Connection, request: KeyedRequest, *, table: str, column: str) -> str | None:
    """The id in `column` of the row of `table` that this key has made; its operation makes all rows there.

    Raises IdempotencyKeyReused.
    """
    row = await conn.fetchrow(
        f"SELECT {column} AS made, request_hash FROM {table} WHERE partner_id = $1 AND idempotency_key = $2",  # noqa: S608
        request.partner_id, request.key,
    )  # fmt: skip
    if row is None:
        return None
    request.check_same(row["request_hash"])
    return str(row["made"])


async def lookup(conn: Connection, request: KeyedRequest) -> str | None:
    """The resource that the key stands for already; None when it is new. Raises IdempotencyKeyReused."""
    first = await conn.fetchrow(
        "SELECT request_hash, resource_id FROM idempotency WHERE partner_id = $1 AND operation = $2 AND key = $3",
        request.partner_id, request.operation, request.key,
    )  # fmt: skip
    if first is None:
        return None
    request.check_same(first["request_hash"])
    return str(first["resource_id"])
