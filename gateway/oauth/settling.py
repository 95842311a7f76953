"""How an endpoint that a client calls ends: what it spent stays spent, whether the answer is yes or no."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.database import Connection, Database
from gateway.oauth.asking import Asking
from gateway.oauth.refusals import AssertionReplayed, ProofSpent
from gateway.oauth.replay import Spending, SpentTokens, spent_digest
from gateway.refusal import Refusal

T = TypeVar("T")


async def settle(database: Database, asking: Asking, effect: Callable[[Connection], Awaitable[T]]) -> T:
    """Run `effect`, after `spend`, in one transaction that a Refusal commits too.

    So a code that came twice revokes its grant though the answer is no. `effect` decides on what it loaded and writes
    last; after that it does not refuse.
    """
    async with database.transaction() as conn:
        try:
            return await effect(conn)
        except Refusal as refusal:
            refused = refusal
    raise refused


async def spend(spent: SpentTokens, asking: Asking) -> None:
    """The assertion and the proof, committed before anything else is done: seen once, they are never good again."""
    shown = [Spending(spent_digest(once.kind, once.owner, once.jti), once.expires_ms) for once in asking.once]
    for once, first_use in zip(asking.once, await spent.spend(shown), strict=True):
        if not first_use:
            raise AssertionReplayed() if once.kind == "assertion" else ProofSpent()
