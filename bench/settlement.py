"""A settlement of 1,000,000 sealed events beside bare DuckDB: a query written by hand for exactly these terms.

Both read the same Parquet file, make every line, sort it and hand it over; the totals must be equal. The bare query
knows its two discounts and two commissions by heart and checks nothing; the engine compiles any contract and refuses a
fact that the terms don't lead to.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from gateway.jsonio import canonical
from gateway.partners.contract import Contract
from gateway.partners.contract_rules import from_document
from gateway.partners.funding import split
from gateway.settlement.engine import Engine, Opening
from gateway.settlement.facts import facts_table

EVENTS = 1_000_000
BLOCK = 20_000  # distinct events; the rest repeats them, as their number and not their variety is what costs
ROUNDS = 5
NOON_MS = 1_789_963_200_000

CONTRACT: Contract = from_document(
    {
        "contract": {"id": "p", "version": 1, "currency": "CNY", "valid_from": "2025-01-01"},
        "discount": [
            {"id": "fen", "title": "f", "kind": "cap_price", "pay_minor": 1, "max_off_minor": 2000,
             "fund": [{"party": "bank", "bps": 6000}, {"party": "partner", "bps": 4000}]},
            {"id": "half", "title": "h", "kind": "percent_off", "bps": 5000,
             "fund": [{"party": "bank", "bps": 5000}, {"party": "partner", "bps": 5000}]},
        ],
        "commission": [
            {"goal": "CARD_ACTIVATED", "kind": "CPA", "tiers": "marginal", "period": "month",
             "steps": [{"from": 0, "minor": 3000}, {"from": 500, "minor": 4000}, {"from": 2000, "minor": 5000}]},
            {"goal": "SPEND", "kind": "CPS", "bps": 30, "cap_per_customer_minor": 1000, "window": "180d"},
        ],
    }
)  # fmt: skip

BARE = """
CREATE OR REPLACE TEMP TABLE lines AS
WITH r AS (
    SELECT seq, event_id, discount AS term, contract, contract_version, discount_minor AS off,
        CASE discount WHEN 'fen' THEN off_floor_4 + (rest_4 > 5000)::INT
             ELSE off_half + CASE WHEN discount_minor % 2 = 1 AND sha256(event_id || '|partner')
                < sha256(event_id || '|bank') THEN 1 ELSE 0 END END AS leg
    FROM (SELECT *, discount_minor * 4000 // 10000 AS off_floor_4, discount_minor * 4000 % 10000 AS rest_4,
              discount_minor // 2 AS off_half FROM facts WHERE type = 'redemption.confirmed')),
a AS (
    SELECT seq, event_id, goal AS term, contract, contract_version, CASE WHEN rank < 500 THEN 3000
        WHEN rank < 2000 THEN 4000 ELSE 5000 END AS amount
    FROM (SELECT *, row_number() OVER (ORDER BY seq) - 1 AS rank FROM facts WHERE goal = 'CARD_ACTIVATED')),
s AS (
    SELECT seq, event_id, goal AS term, contract, contract_version,
        least(run, 1000) - least(run - share, 1000) AS amount
    FROM (SELECT *, sum(share) OVER (PARTITION BY subject_token ORDER BY seq ROWS UNBOUNDED PRECEDING) AS run
          FROM (SELECT *, (amount_minor * 30 + 5000) // 10000 AS share FROM facts WHERE goal = 'SPEND')))
SELECT seq, 1 AS part, event_id, 'discount_paid' AS kind, term, contract, contract_version, off AS amount_minor FROM r
UNION ALL SELECT seq, 2, event_id, 'discount_funding', term, contract, contract_version, -leg FROM r
UNION ALL SELECT seq, 1, event_id, 'commission', term, contract, contract_version, amount FROM a
UNION ALL SELECT seq, 1, event_id, 'commission', term, contract, contract_version, amount FROM s"""
HANDED_OVER = "SELECT event_id, kind, term, contract, contract_version, amount_minor FROM lines ORDER BY seq, part"


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
    file = folder / "day.parquet"
    pq.write_table(facts(), file, compression="zstd")
    ratios, net, lines = [], 0, 0
    for _ in range(ROUNDS):
        ours, (net, lines) = _timed(lambda: _engine(file))
        bare, found = _timed(lambda: _bare(file))
        assert found == (net, lines), f"the bare query finds {found}, the engine {(net, lines)}"
        ratios.append(ours / bare)
    return Result(median(ratios), (min(ratios), max(ratios)), EVENTS, lines, net)


def facts() -> pa.Table:
    """A block of made events with every kind of line, repeated with its own places in the order of recording."""
    block = facts_table([("p", _leaf(number)) for number in range(BLOCK)])
    table = pa.concat_tables([block] * (EVENTS // BLOCK))
    return table.set_column(0, "seq", pa.array(range(EVENTS), pa.int64()))


def _leaf(number: int) -> bytes:
    match number % 4:
        case 0:
            return _redemption(number, "fen", order=500 + number % 3000)
        case 1:
            return _redemption(number, "half", order=2 * (number % 4000) + 3)
        case 2:
            return _event(number, "goal.reached", 100 + number % 9000, {"goal": "SPEND"}, token=f"t{number % 5000}")
        case _:
            return _event(number, "goal.reached", 0, {"goal": "CARD_ACTIVATED"}, token=f"t{number}")


def _redemption(number: int, name: str, *, order: int) -> bytes:
    discount = CONTRACT.find_discount(name)
    assert discount is not None
    off = min(order - 1, 2000) if name == "fen" else order // 2
    data = {
        "discount": name, "order_minor": order, "discount_minor": off, "payable_minor": order - off,
        "cap_left_minor": {}, "legs": split(off, discount.fund, seed=f"evt_{number}"),
    }  # fmt: skip
    return _event(number, "redemption.confirmed", off, data)


def _event(number: int, kind: str, amount: int, data: dict[str, object], *, token: str | None = None) -> bytes:
    if kind == "goal.reached":
        data = {**data, "anchor_at_ms": NOON_MS, "claim_id": "c"}
    return canonical(
        {
            "amount_minor": amount, "business_day": "2026-09-21", "campaign": None, "contract": "p",
            "contract_version": 1, "currency": "CNY", "data": data, "event_id": f"evt_{number}",
            "idempotency_key": None, "occurred_at_ms": NOON_MS + number, "partner": "p",
            "recorded_at_ms": NOON_MS + number, "subject_token": token, "type": kind,
        }
    )  # fmt: skip


def _engine(file: Path) -> tuple[int, int]:
    engine = Engine([CONTRACT])
    try:
        engine.read_parquet([str(file)], partner="p")
        settled = engine.settle(Opening())
    finally:
        engine.close()
    return settled.bank_owes_minor - settled.partner_owes_minor, settled.lines.num_rows


def _bare(file: Path) -> tuple[int, int]:
    with duckdb.connect() as db:
        db.execute(f"CREATE VIEW facts AS SELECT * FROM read_parquet('{file}')")
        db.execute(BARE)
        lines = db.sql(HANDED_OVER).to_arrow_table()
        ((net,),) = db.execute("SELECT sum(amount_minor)::BIGINT FROM lines").fetchall()
    return net, lines.num_rows


def _timed(work: Callable[[], tuple[int, int]]) -> tuple[float, tuple[int, int]]:
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(measure(Path(scratch)))
