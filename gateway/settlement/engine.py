"""The engine: sealed facts and terms → lines, in DuckDB; a pure function, vectorised, integers only.

It follows docs/settlement-rules.md §4–§7 and recomputes every price, leg and commission from the terms. A fact that
says otherwise than the terms stops the settlement and is named: a statement never repeats what it cannot derive.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from gateway.partners.contract import Contract
from gateway.settlement.engine_sql import GOALS, LINES, redemptions
from gateway.settlement.facts import PARTIES
from gateway.settlement.terms import (
    commission_terms,
    discount_terms,
    month_spans,
    step_terms,
    version_terms,
)


class FactsDisagree(Exception):
    """An event that the terms don't lead to; the text names the event and the rule."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a statement starts from: docs/settlement-rules.md §9."""

    carried_minor: int = 0
    ranks: Mapping[str, int] = field(default_factory=dict)  # "<goal> <YYYY-MM>" → goals seen before
    accrued: Mapping[str, int] = field(default_factory=dict)  # "<contract> <version> <goal> <token>" → minor units


@dataclass(frozen=True, slots=True)
class Settled:
    """`lines`: event_id, kind, term, contract, contract_version, amount_minor, in statement order."""

    lines: pa.Table
    closing: Opening
    bank_owes_minor: int
    partner_owes_minor: int


class Engine:
    """One DuckDB in memory for one settlement; `facts` is registered or a view over Parquet files."""

    def __init__(self, contracts: Sequence[Contract]) -> None:
        self._contracts = contracts
        named = {share.party for contract in contracts for discount in contract.discount for share in discount.fund}
        self._parties = [party for party in PARTIES if party in named] or ["bank"]
        self._db = duckdb.connect()
        tables = {
            "versions": version_terms,
            "discounts": discount_terms,
            "commissions": commission_terms,
            "steps": step_terms,
        }
        for name, build in tables.items():
            self._db.register(f"{name}_arrow", build(contracts))
            self._db.execute(f"CREATE TABLE {name} AS SELECT * FROM {name}_arrow")

    def close(self) -> None:
        self._db.close()

    def read_table(self, facts: pa.Table) -> None:
        self._db.register("facts", facts)

    def read_parquet(self, files: Sequence[str], *, partner: str) -> None:
        """Sealed days, in the order of their names; this partner's rows, numbered on from day to day."""
        paths = ", ".join(map(_text, files))
        self._db.execute(
            "CREATE OR REPLACE VIEW facts AS SELECT * REPLACE (row_number() OVER (ORDER BY business_day, seq) AS seq) "
            f"FROM read_parquet([{paths}]) WHERE partner = {_text(partner)}"
        )

    def settle(self, opening: Opening) -> Settled:
        """Raises FactsDisagree. Runs the same on every machine: every order is explicit."""
        self._months()
        self._db.register("open_ranks", _pairs(opening.ranks))
        self._db.register("open_accrued", _pairs(opening.accrued))
        self._db.execute(redemptions(self._parties))
        self._refuse("SELECT event_id, fault FROM redemptions WHERE fault IS NOT NULL ORDER BY seq LIMIT 1")
        self._db.execute(GOALS)
        self._refuse("SELECT event_id, fault FROM goals WHERE fault IS NOT NULL ORDER BY seq LIMIT 1")
        self._db.execute(LINES)
        lines = self._db.sql(
            "SELECT event_id, kind, term, contract, contract_version, amount_minor FROM lines ORDER BY seq, part"
        ).to_arrow_table()
        bank, partner = self._one(
            """SELECT coalesce(sum(amount_minor) FILTER (amount_minor > 0), 0)::BIGINT,
                      -coalesce(sum(amount_minor) FILTER (amount_minor < 0), 0)::BIGINT FROM lines"""
        )
        return Settled(lines, self._closing(opening), bank, partner)

    def _closing(self, opening: Opening) -> Opening:
        ranks = dict(opening.ranks)
        for key, count in self._rows("SELECT month_key, count(*) FROM goals WHERE counted GROUP BY month_key"):
            ranks[key] = ranks.get(key, 0) + count
        accrued = dict(opening.accrued)
        for key, minor in self._rows(
            "SELECT customer_key, sum(amount)::BIGINT FROM goals WHERE customer_key IS NOT NULL GROUP BY customer_key"
        ):
            accrued[key] = accrued.get(key, 0) + minor
        return Opening(opening.carried_minor, ranks, accrued)

    def _months(self) -> None:
        first, last = self._one("SELECT coalesce(min(occurred_at_ms), 0), coalesce(max(occurred_at_ms), 0) FROM facts")
        zones = [contract.contract.timezone for contract in self._contracts]
        self._db.register("months", month_spans(zones, first_ms=first, last_ms=last))

    def _refuse(self, question: str) -> None:
        for event_id, fault in self._rows(question):
            raise FactsDisagree(f"event {event_id}: {fault}")

    def _one(self, question: str) -> tuple[int, int]:
        ((first, second),) = self._db.execute(question).fetchall()
        return first, second

    def _rows(self, question: str) -> list[tuple[str, int]]:
        return self._db.execute(question).fetchall()


def _pairs(values: Mapping[str, int]) -> pa.Table:
    return pa.table({"key": pa.array(list(values), pa.string()), "value": pa.array(list(values.values()), pa.int64())})


def _text(value: str) -> str:
    """A SQL string literal."""
    return "'" + value.replace("'", "''") + "'"
