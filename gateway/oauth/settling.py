"""How an endpoint that a client calls ends: what it spent stays spent, whether the answer is yes or no."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.database import Connection, Database
from gateway.oauth.asking import Asking
from gateway.oauth.refusals import AssertionReplayed, ProofSpent
from gateway.oauth.replay import spend_many, spent_digest
from gateway.refusal import Refusal

T = TypeVar("T")


async def settle(database: Database, asking: Asking, effect: Callable[[Connection], Awaitable[T]]) -> T:
    """Spend the assertion and the proof, then run `effect`, in one transaction that a Refusal commits too.

    So an assertion or proof that was seen once is never good again, and a code that came twice revokes its grant
    though the answer is no. `effect` decides on what it loaded and writes last; after that it does not refuse.
    """
    async with database.transaction() as conn:
        try:
            await _spend(conn, asking)
            return await effect(conn)
        except Refusal as refusal:
            refused = refusal
    raise refused


async def _spend(conn: Connection, asking: Asking) -> None:
    digests = [spent_digest(once.kind, once.owner, once.jti) for once in asking.once]
    fresh = await spend_many(conn, digests, [once.expires_ms for once in asking.once])
    for once, first_use in zip(asking.once, fresh, strict=True):
        if not first_use:
            raise AssertionReplayed() if once.kind == "assertion" else ProofSpent()
