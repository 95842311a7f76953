"""What a redemption costs in bytes, and how fast pairs are where a million are already: `python -m bench.rows [ROWS]`.

The rows are made by SQL, with keys, orders and customers in no order, as partners send them. Then a checkpoint, so that
every page that is touched next is written whole into the log, and the desk of one process holds and confirms.
"""

import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from bench.holds import CALLERS, NOW_MS, pair, pairs_per_second, terms
from bench.scratch import scratch_database
from gateway.database import Database
from gateway.discounts.desk import RedemptionDesk
from gateway.partners.snapshot import Snapshot
from gateway.partners.store import know_customers

ROWS = 1_000_000
RUN_S, WARM_UP_S = 10.0, 1.0
CUSTOMERS = 60_000  # more than a run has pairs
FILL = (
    "CREATE TEMPORARY TABLE made AS SELECT n, md5(n::text) AS own, 'rdm_' || lpad(n::text, 26, '0') AS id "
    "FROM generate_series(1, $1::bigint) AS n",
    """INSERT INTO redemption (redemption_id, partner_id, contract_id, contract_version, discount_id, state, currency,
           order_minor, held_minor, discount_minor, subject_token, site_id, mcc, order_reference, hold_operation,
           hold_key, hold_request, occurred_at_ms, held_at_ms, expires_ms, changed_at_ms, counter_names, counter_takes,
           funding)
       SELECT id, 'parkco', 'parkco-2026', 1, 'first-park', 'CONFIRMED', 'CNY', 1200, 1199, 1199, 'idt_1_' || own,
           'lot-1', '7523', own, '', own, substring(sha256(own::bytea) FOR 16), 1, 1, n, 1,
           ARRAY['budget', 'day|2026-09-21', 'customer'], ARRAY[1199, 1199, 1],
           '{"event_id": "evt_00000000000000000000000000", "legs": {"bank": 720, "partner": 479},
             "reversed_legs": {"bank": 0, "partner": 0}, "cap_left": {"partner": 1000000000000}}' FROM made""",
    """INSERT INTO redemption_step
       SELECT own, 'parkco', 'ConfirmRedemption', id, substring(sha256(own::bytea) FOR 16) FROM made""",
    "INSERT INTO counter (name, cap, taken) SELECT 'customer|parkco-2026|first-park|idt_1_' || own, 1, 1 FROM made",
    "INSERT INTO known_customer SELECT 'parkco', 'idt_1_' || own, 1, 'batch', 1 FROM made",
    """INSERT INTO event (event_id, type, partner, occurred_at_ms, recorded_at_ms, business_day, amount_minor, leaf)
       SELECT 'evt_' || lpad(n::text, 26, '0'), 'redemption.confirmed', 'parkco', 1790000000000,
           1790000000000, '2026-09-21', 1199, sha256(own::bytea) FROM made""",
    """INSERT INTO ledger_entry (cause, partner_id, business_day, recorded_at_ms)
       SELECT 'redemption.confirmed:' || id, 'parkco', '2026-09-21', 1 FROM made""",
    """INSERT INTO ledger_posting (entry_seq, line, account, amount_minor)
       SELECT n, line, 'discount_expense:bank:CNY', 1 FROM made, generate_series(1, 3) AS line""",
)


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes of all tables with their indexes, bytes of the log and whole pages in it, updates, those within a page."""

    stored: int
    logged: int
    whole_pages: int
    updates: int
    within_page: int

    def __sub__(self, before: "Written") -> "Written":
        return Written(
            self.stored - before.stored, self.logged - before.logged, self.whole_pages - before.whole_pages,
            self.updates - before.updates, self.within_page - before.within_page,
        )  # fmt: skip


async def fill(database: Database, rows: int) -> None:
    async with database.session() as conn:
        await conn.execute("SET session_replication_role = replica")  # nobody judges the copies
        await conn.execute(FILL[0].replace("$1", str(rows)))
        for statement in FILL[1:]:
            await conn.execute(statement)
        await conn.execute("VACUUM ANALYZE")
        await conn.execute("CHECKPOINT")


async def know(database: Database) -> Iterator[str]:
    tokens = [f"idt_1_{secrets.token_hex(16)}" for _ in range(CUSTOMERS)]
    async with database.transaction() as conn:
        await know_customers(conn, [("parkco", token) for token in tokens], source="batch", now_ms=NOW_MS)
    return iter(tokens)


async def written(database: Database) -> Written:
    async with database.session() as conn:
        row = await conn.fetchrow(
            """SELECT (SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
                       WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace) AS stored,
                      wal_bytes::bigint AS logged, wal_fpi AS whole_pages,
                      coalesce(n_tup_upd, 0) AS updates, coalesce(n_tup_hot_upd, 0) AS within_page
               FROM pg_stat_wal, pg_stat_user_tables WHERE relname = 'redemption'"""
        )
    assert row is not None, "the schema is there"
    return Written(*row)


async def main(rows: int) -> None:
    async with scratch_database(pool_size=8) as database:
        tokens = await know(database)
        if rows:
            await fill(database, rows)
        snapshot = Snapshot(1, {}, {}, {}, {"parkco": (terms(),)}, frozenset())
        desk = RedemptionDesk(database, snapshot=lambda: snapshot, secret=bytes(32))
        await pairs_per_second(lambda: pair(desk, next(tokens)), callers=CALLERS, seconds=WARM_UP_S)
        before = await written(database)
        rate, busy = await pairs_per_second(lambda: pair(desk, next(tokens)), callers=CALLERS, seconds=RUN_S)
        did, pairs = await written(database) - before, rate * RUN_S
        print(f"{rows:9,} rows: {rate:6.0f} pairs/s, {busy * 1e6 / rate:4.0f} µs a pair in this process; "
              f"{did.stored / pairs:5.0f} bytes a pair stored, {did.logged / pairs:6.0f} logged with "
              f"{did.whole_pages / pairs:.2f} whole pages; {did.within_page / max(did.updates, 1):.0%} of updates "
              "within their page")  # fmt: skip


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS))
