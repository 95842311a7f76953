"""A settlement of 1,000,000 sealed events beside bare DuckDB: a query written by hand for exactly these terms.

Both read the same Parquet file of typed facts, make the text of every line in order and hand it over in batches; the
totals must be equal. The bare query knows its two discounts and two commissions by heart and checks nothing; the
engine compiles any contract, holds its memory flat, and refuses a fact that the terms don't lead to.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median

import duckdb

from bench import leaves
from gateway.settlement.engine import Engine, Opening
from gateway.settlement.facts import FactsWriter
from gateway.settlement.stretch import stretches
from gateway.settlement.typed_facts import type_facts

EVENTS = 1_000_000
ROUNDS = 5
BATCH = 16_384

BARE = """
CREATE OR REPLACE TEMP TABLE lines AS
WITH r AS (
    SELECT seq, event_id, discount AS term, discount_minor AS off, discount_minor - (discount_minor * bank // 10000
            + (discount_minor * bank % 10000 * 4294967296 + chance * 10000 >= 42949672960000)::INT) AS leg
    FROM (SELECT seq, event_id, discount, discount_minor, CASE discount WHEN 'fen' THEN 6000 ELSE 5000 END AS bank,
              ('0x' || substr(sha256(seed), 1, 8))::BIGINT AS chance
          FROM facts WHERE type = 'redemption.confirmed')),
a AS (
    SELECT seq, event_id, goal AS term,
        CASE WHEN rank < 500 THEN 3000 WHEN rank < 2000 THEN 4000 ELSE 5000 END AS amount
    FROM (SELECT *, row_number() OVER (ORDER BY seq) - 1 AS rank FROM facts WHERE goal = 'CARD_ACTIVATED')),
s AS (
    SELECT seq, event_id, goal AS term, least(run, 1000) - least(run - share, 1000) AS amount
    FROM (SELECT *, sum(share) OVER (PARTITION BY subject_token ORDER BY seq ROWS UNBOUNDED PRECEDING) AS run
          FROM (SELECT *, (amount_minor * 30 + 5000) // 10000 AS share FROM facts WHERE goal = 'SPEND')))
SELECT seq, 1 AS part, event_id, 'discount_paid' AS kind, term, off AS amount_minor FROM r
UNION ALL SELECT seq, 2, event_id, 'discount_funding', term, -leg FROM r
UNION ALL SELECT seq, 1, event_id, 'commission', term, amount FROM a
UNION ALL SELECT seq, 1, event_id, 'commission', term, amount FROM s"""
HANDED_OVER = """SELECT '{"amount_minor":' || amount_minor || ',"contract":"p-2026","contract_version":1,"event_id":"'
        || event_id || '","kind":"' || kind || '","term":"' || term || '"}' AS text
    FROM (SELECT * FROM lines ORDER BY seq, part)"""


@dataclass(frozen=True, slots=True)
class Result:
    """`ratio`: the engine's time over the bare query's, the median of the rounds; below 3 is the mark."""

    ratio: float
    spread: tuple[float, float]
    events: int
    lines: int
    net_minor: int


def measure(folder: Path) -> Result:
    """Take turns, so that a noisy moment hits both. Raises AssertionError when the totals differ."""
    file, typed = folder / "facts" / "day.parquet", folder / "facts" / "typed.parquet"
    made = leaves.leaves(EVENTS)
    with FactsWriter(file) as writer:
        while batch := [(leaves.PARTNER, leaf) for leaf in islice(made, BATCH)]:
            writer.add(batch)
        writer.finish()
    with typed.open("wb") as target:
        type_facts(file, target, partner=leaves.PARTNER)
    ratios, net, lines = [], 0, 0
    for _ in range(ROUNDS):
        ours, (net, lines) = _timed(lambda: _engine(typed, folder))
        bare, found = _timed(lambda: _bare(typed))
        assert found == (net, lines), f"the bare query finds {found}, the engine {(net, lines)}"
        ratios.append(ours / bare)
    return Result(median(ratios), (min(ratios), max(ratios)), EVENTS, lines, net)


def _engine(file: Path, folder: Path) -> tuple[int, int]:
    net = lines = 0
    facts = stretches([(file, leaves.DAY.isoformat(), EVENTS)])
    with Engine(partner=leaves.PARTNER, currency=leaves.CURRENCY, folder=folder) as engine:
        engine.begin(facts, contracts=[leaves.CONTRACT], opening=Opening(), accrued=(), to_day=leaves.DAY)
        for stretch in facts:
            bank, partner = engine.settle(stretch)
            net += bank - partner
            lines += sum(sum(batch.column("count").to_pylist()) for batch in engine.lines())
    return net, lines


def _bare(file: Path) -> tuple[int, int]:
    lines = 0
    with duckdb.connect() as db:
        db.execute(f"CREATE VIEW facts AS SELECT * FROM read_parquet('{file}')")
        db.execute(BARE)
        for batch in db.sql(HANDED_OVER).to_arrow_reader(BATCH):
            lines += batch.num_rows
        ((net,),) = db.execute("SELECT sum(amount_minor)::BIGINT FROM lines").fetchall()
    return net, lines


def _timed(work: Callable[[], tuple[int, int]]) -> tuple[float, tuple[int, int]]:
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(measure(Path(scratch)))
