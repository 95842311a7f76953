"""Spent tokens of proof: the jti of a DPoP proof or a client assertion counts once, for all workers, across crashes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from gateway.database import Connection, Database
from gateway.database.gather import Gatherer
from gateway.refusal import Refusal

_DIGEST_BYTES = 16  # a collision needs 2^64 proofs within their two minutes of life


def spent_digest(kind: str, owner: str, jti: str) -> bytes:
    """What is remembered of a jti: `kind` is "dpop" or "assertion", `owner` the key or client that owes it once."""
    return hashlib.sha256(f"{kind}\n{owner}\n{jti}".encode()).digest()[:_DIGEST_BYTES]


@dataclass(frozen=True, slots=True)
class Spending:
    """One jti, by its digest, and until when any check would accept it."""

    digest: bytes
    expires_ms: int


class SpentTokens:
    """What the requests of this worker show is spent together: one statement a batch, each with its own answer.

    The answer leaves only after the commit, on its own and before whatever the request does: a process that dies in
    between has spent for nothing, and the client makes a new proof.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._gatherer: Gatherer[Sequence[Spending], list[bool]] = Gatherer(self._spend_batch)

    async def spend(self, shown: Sequence[Spending]) -> list[bool]:
        """True for each first use. All of one request's are spent, whatever the others' answers are."""
        return await self._gatherer.submit(shown)

    async def _spend_batch(self, batch: Sequence[Sequence[Spending]]) -> Sequence[list[bool] | Refusal]:
        spendings = [spending for shown in batch for spending in shown]
        async with self._database.connection() as conn:
            outcomes = iter(await spend_many(conn, [s.digest for s in spendings], [s.expires_ms for s in spendings]))
        return [list(islice(outcomes, len(shown))) for shown in batch]


async def spend_many(conn: Connection, digests: Sequence[bytes], expiries_ms: Sequence[int]) -> list[bool]:
    """True where this was the first use. One statement; of equals within the batch the first one wins.

    Inserted in order of the digests: two batches that share some meet in the same order and never wait for each other.
    """
    rows = await conn.fetch(
        """INSERT INTO spent_proof (digest, expires_ms) SELECT * FROM unnest($1::bytea[], $2::bigint[]) ORDER BY 1
           ON CONFLICT DO NOTHING RETURNING digest""",
        digests, expiries_ms,
    )  # fmt: skip
    fresh = {row["digest"] for row in rows}
    outcomes = []
    for digest in digests:
        outcomes.append(digest in fresh)
        fresh.discard(digest)
    return outcomes
