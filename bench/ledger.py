"""What the zero-sum rule costs where the database checks it: `python -m bench.ledger` (ADR 0007)."""

import asyncio
import statistics
import time
from datetime import date

from bench.scratch import scratch_database
from gateway.database import Database
from gateway.ids import new_id
from gateway.ledger.book import redemption_confirmed
from gateway.ledger.store import post

BATCH, BATCHES, ROUNDS = 64, 40, 3
NO_CHECK = "ALTER TABLE ledger_posting DISABLE TRIGGER ledger_posting_balances"
STATEMENT = "ALTER TABLE ledger_posting ENABLE TRIGGER ledger_posting_balances"
DEFERRED = """
CREATE OR REPLACE FUNCTION bench_entry_balances() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT sum(amount_minor) FROM ledger_posting
        WHERE entry_seq = NEW.entry_seq AND currency = NEW.currency) <> 0 THEN
        RAISE EXCEPTION 'ledger entry % does not sum to zero', NEW.entry_seq;
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER bench_deferred AFTER INSERT ON ledger_posting DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION bench_entry_balances();"""
NO_DEFERRED = "DROP TRIGGER bench_deferred ON ledger_posting"
FOREIGN_KEY = "ALTER TABLE ledger_posting ADD CONSTRAINT bench_fk FOREIGN KEY (entry_seq) REFERENCES ledger_entry"
NO_FOREIGN_KEY = "ALTER TABLE ledger_posting DROP CONSTRAINT bench_fk"


async def entry_us(database: Database) -> float:
    """Median microseconds an entry of three lines, in batches, each its own durable transaction."""
    times = []
    for _ in range(BATCHES):
        legs = {"bank": 1199, "partner": 800}
        entries = [redemption_confirmed(new_id("rdm"), partner_id="parkco", currency="CNY", legs=legs)
                   for _ in range(BATCH)]  # fmt: skip
        started = time.perf_counter()
        async with database.transaction() as conn:
            await post(conn, entries, day=date(2026, 11, 23), now_ms=0)
        times.append((time.perf_counter() - started) / BATCH * 1e6)
    return statistics.median(times)


async def main() -> None:
    async with scratch_database(pool_size=1) as database:
        async with database.connection() as conn:
            await conn.execute("SET statement_timeout = 0")
        for name, on, off in (
            ("no check at all", NO_CHECK, STATEMENT),
            ("statement trigger over its new lines", STATEMENT, STATEMENT),
            ("deferred constraint trigger, each line", NO_CHECK + ";" + DEFERRED, NO_DEFERRED + ";" + STATEMENT),
            ("no check, foreign key to the entry", NO_CHECK + ";" + FOREIGN_KEY, NO_FOREIGN_KEY + ";" + STATEMENT),
        ):
            async with database.connection() as conn:
                await conn.execute(on)
            rounds = [await entry_us(database) for _ in range(ROUNDS)]
            print(f"{name:40} {min(rounds):6.1f} µs an entry   (rounds: {', '.join(f'{r:.1f}' for r in rounds)})")
            async with database.connection() as conn:
                await conn.execute(off)


if __name__ == "__main__":
    asyncio.run(main())
