"""The chore that drops rows whose time is over; which rows these are, each capability says beside its SQL."""

from collections.abc import Sequence

from gateway import metrics
from gateway.database import Database
from gateway.database.expiry import CHUNK_ROWS, Expiry, drop_expired, tick

STEPS_A_RUN = 10  # of each table, until the others' turn comes; with rows left over the chore is asked again at once


class Retention:
    """One instance a worker; the elected back office runs it."""

    def __init__(self, database: Database, expiries: Sequence[Expiry]) -> None:
        self._database = database
        self._expiries = tuple(expiries)

    async def drop_expired_due(self, now_ms: int) -> int:
        """Chore: returns how many rows went, where there may be more; each step is a transaction of its own."""
        async with self._database.transaction() as conn:
            kept_at_ms = await tick(conn, now_ms=now_ms)
        more = 0
        for expiry in self._expiries:
            gone = await self._drop(expiry, at_ms=now_ms if expiry.by_clock else kept_at_ms)
            more += gone if gone >= STEPS_A_RUN * CHUNK_ROWS else 0
        return more

    async def _drop(self, expiry: Expiry, *, at_ms: int) -> int:
        gone = 0
        for _ in range(STEPS_A_RUN):
            async with self._database.transaction() as conn:
                dropped = await drop_expired(conn, expiry, at_ms=at_ms)
            gone += dropped
            if dropped < CHUNK_ROWS:
                break
        if gone:
            metrics.count("parasol_rows_expired_total", gone, table=expiry.table)
        return gone
