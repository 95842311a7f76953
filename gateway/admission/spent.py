"""Spent proofs: a jti is used once, on all workers and hosts, and stays used after a crash.

The digests of a worker's proofs are gathered and inserted in one statement (see ADR 0004 for the measurement).
"""

from gateway.database import Database
from gateway.oauth.dpop import Proof
from gateway.oauth.replay import Spending, SpentTokens, spent_digest

KEEP_MS = 120_000  # a proof is acceptable for 60 s before and 10 s after its iat; twice that is safely longer


class SpentProofs:
    """`spend` is True for the first use and False for every other one."""

    def __init__(self, database: Database) -> None:
        self._spent = SpentTokens(database)

    async def spend(self, proof: Proof, *, now_ms: int) -> bool:
        spending = Spending(spent_digest("dpop", proof.jkt, proof.jti), now_ms + KEEP_MS)
        return (await self._spent.spend((spending,)))[0]
