"""What is kept for a time only, and the clock by which that time is measured.

The retention clock is a row. It follows the machine's clock, never goes back, and runs at most at double speed: what is
kept for two days by it is kept for one at the least, whatever the machine's clock does. After a pause it is behind, and
things are kept that much longer until it has caught up.
"""

from dataclasses import dataclass

from gateway.database.pool import Connection

CHUNK_ROWS = 2_000  # rows a step: some milliseconds of locks and log, so that nobody waits for it
TICK_MS = 60_000  # between two looks at the machine's clock; a step of the clock is at most twice as long


@dataclass(frozen=True, slots=True)
class Expiry:
    """Rows of `table` that go. `due` is SQL over `$1`: the epoch ms of now, less `kept_ms`.

    `by_clock`: now is the machine's, for what is judged by that clock elsewhere too (the end of a session, of a proof);
    otherwise it is the retention clock's. `statement` where one condition does not say it; `$2` is the most rows.
    """

    table: str
    due: str
    kept_ms: int = 0
    by_clock: bool = False
    statement: str = ""

    @property
    def sql(self) -> str:
        rows = f"SELECT ctid FROM {self.table} WHERE {self.due} LIMIT $2"  # noqa: S608 our own words
        return self.statement or f"DELETE FROM {self.table} WHERE ctid = ANY (ARRAY({rows}))"  # noqa: S608


async def drop_expired(conn: Connection, expiry: Expiry, *, at_ms: int) -> int:
    """One step; returns how many rows went. `at_ms` is what the expiry's clock says."""
    done = await conn.execute(expiry.sql, at_ms - expiry.kept_ms, CHUNK_ROWS)
    return int(done.rpartition(" ")[2])


async def tick(conn: Connection, *, now_ms: int) -> int:
    """Moves the retention clock, once in TICK_MS; returns what it says."""
    await conn.execute(
        """UPDATE retention_clock SET at_ms = at_ms + least(greatest($1 - at_ms, 0), $2::bigint * 2), seen_ms = $1
           WHERE $1::bigint < seen_ms OR $1 >= seen_ms + $2""",
        now_ms, TICK_MS,
    )  # fmt: skip
    return int(await conn.fetchval("SELECT at_ms FROM retention_clock"))
