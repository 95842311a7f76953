"""Spent proofs: a jti is used once, on all workers and hosts, and stays used after a crash.

The digests of a worker's proofs are gathered and inserted in one statement (see ADR 0004 for the measurement): the row
that comes back is fresh, the row that doesn't was spent before. The answer leaves only after the commit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.database import Database
from gateway.database.gather import Gatherer
from gateway.oauth.dpop import Proof
from gateway.oauth.replay import spend_many, spent_digest
from gateway.refusal import Refusal

KEEP_MS = 120_000  # a proof is acceptable for 60 s before and 10 s after its iat; twice that is safely longer


@dataclass(frozen=True, slots=True)
class _Spending:
    digest: bytes
    expires_ms: int


class SpentProofs:
    """`spend` is True for the first use and False for every other one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._gatherer: Gatherer[_Spending, bool] = Gatherer(self._spend_batch)

    async def spend(self, proof: Proof, *, now_ms: int) -> bool:
        return await self._gatherer.submit(_Spending(spent_digest("dpop", proof.jkt, proof.jti), now_ms + KEEP_MS))

    async def _spend_batch(self, batch: Sequence[_Spending]) -> Sequence[bool | Refusal]:
        async with self._database.connection() as conn:
            return await spend_many(conn, [s.digest for s in batch], [s.expires_ms for s in batch])
