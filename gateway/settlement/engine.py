"""The engine: sealed facts and terms → lines, in DuckDB, stretch by stretch of the facts; pure, integers only.

It follows docs/settlement-rules.md §4–§8 and recomputes every price, leg and commission from the terms. A fact that
says otherwise than the terms stops the settlement and is named: a statement never repeats what it cannot derive.
What runs on from one stretch to the next (ranks, funded, accrued) is carried, so memory does not grow with the facts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from itertools import islice
from pathlib import Path
from shutil import rmtree
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa

from gateway.partners.contract import Contract
from gateway.settlement import engine_sql as sql
from gateway.settlement.accrued import AccruedTree, Entry, grow
from gateway.settlement.opening import FactsDisagree, KnownVersion, Opening
from gateway.settlement.stretch import PART_EVENTS, Slice, Stretch
from gateway.settlement.terms import (
    capped_of,
    clock_table,
    commission_table,
    discount_table,
    funders_of,
    span_table,
    step_table,
)
from gateway.settlement.typed_facts import NO_FACTS, PARTIES
from gateway.settlement.versions import Effective, Known, known_versions, reach_ms, spans, within

__all__ = ["Engine", "FactsDisagree", "KnownVersion", "Opening"]

_ROWS = 2 * PART_EVENTS  # rows that Python holds at once
_DUCKDB = {"memory_limit": "384MB", "threads": "2"}


class Engine:
    """One DuckDB for one statement, bounded in memory; what does not fit goes to `folder`. A context."""

    def __init__(self, *, partner: str, currency: str, folder: Path) -> None:
        self._partner, self._currency, self._spill = partner, currency, folder / "spill"

    def __enter__(self) -> Self:
        self._db = duckdb.connect(config={**_DUCKDB, "temp_directory": str(self._spill)})
        self._table("no_facts", NO_FACTS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
        rmtree(self._spill, ignore_errors=True)

    def begin(
        self,
        facts: Sequence[Stretch],
        *,
        contracts: Sequence[Contract],
        opening: Opening,
        accrued: Iterable[tuple[str, int]],
        to_day: date,
    ) -> tuple[Known, ...]:
        """Read what comes before lines: unread events, known versions, reversals. Returns the versions known at the
        closing, with the terms of those that something may depend on. Raises FactsDisagree."""
        self._events = sum(each.until - each.first for stretch in facts for each in stretch)
        self._view("all_facts", [each for stretch in facts for each in stretch])
        self._refuse(sql.UNREAD)
        ((latest_ms,),) = self._db.execute(sql.LATEST, {"currency": self._currency}).fetchall()
        known = within(
            known_versions(opening.versions, self._effective(), contracts), reach_ms=reach_ms(to_day, latest_ms)
        )
        self._terms(known)
        self._ranks, self._funded = dict(opening.ranks), dict(opening.funded)
        self._load_accrued(accrued)
        self._run(sql.ORIGINALS)
        self._refuse(sql.REVERSED_TWICE)
        return known

    def settle(self, stretch: Stretch) -> tuple[int, int]:
        """The lines of these events, after those before them: what bank and partner owe. Raises FactsDisagree."""
        self._view("facts", stretch)
        self._redemptions()
        self._goals()
        ((bank, partner),) = self._db.execute(sql.SUMS).fetchall()
        return bank, partner

    def lines(self) -> Iterator[pa.RecordBatch]:
        """`part`, `count` (of lines), `text` of each event that has lines, in order, of the stretch settled last."""
        yield from self._db.sql(sql.LINES).to_arrow_reader(_ROWS)

    def commissions(self) -> Iterator[pa.RecordBatch]:
        """`event_id`, `amount_minor` other than 0, of the stretch settled last."""
        yield from self._db.sql(sql.COMMISSIONS).to_arrow_reader(_ROWS)

    def ranks(self) -> Mapping[str, int]:
        return self._ranks

    def funded(self) -> Mapping[str, int]:
        return {key: minor for key, minor in self._funded.items() if minor > 0}

    # --- what is accrued -------------------------------------------------------------------------------
    def touched(self) -> Iterator[list[dict[str, Any]]]:
        """`{"before", "key"}` of every entry that was asked for, ascending by place."""
        rows = self._db.sql("SELECT before, key FROM accrued WHERE touched ORDER BY sha256(key)")
        for batch in rows.to_arrow_reader(_ROWS):
            yield batch.to_pylist()

    def accrued_changes(self) -> Iterator[pa.RecordBatch]:
        """`key`, `minor` after, of entries that are not what they were."""
        rows = self._db.sql("SELECT key, minor FROM accrued WHERE minor <> before ORDER BY key")
        yield from rows.to_arrow_reader(_ROWS)

    def accrued_tree(self) -> AccruedTree | None:
        """Roots and proof; None where nothing was touched. Raises FactsDisagree on a key that is there twice."""
        ((touched, doubled),) = self._db.execute(
            "SELECT count(*) FILTER (touched), count(*) - count(DISTINCT key) FROM accrued"
        ).fetchall()
        if doubled:
            raise FactsDisagree("the accrued entries name a customer twice")
        return grow(self._entries()) if touched else None

    def _entries(self) -> Iterator[Entry]:
        rows = self._db.sql(
            "SELECT sha256(key) AS place, before, minor, touched FROM accrued WHERE touched OR minor > 0 ORDER BY place"
        )
        for batch in rows.to_arrow_reader(_ROWS):
            columns = [column.to_pylist() for column in batch.columns]
            for place, before, minor, touched in zip(*columns, strict=True):
                yield Entry(bytes.fromhex(place), before, minor, touched)

    def _load_accrued(self, accrued: Iterable[tuple[str, int]]) -> None:
        self._db.execute("CREATE TABLE accrued (key VARCHAR, before BIGINT, minor BIGINT, touched BOOLEAN)")
        entries = iter(accrued)
        while batch := list(islice(entries, _ROWS)):
            self._table("given", _pairs(batch))
            self._db.execute("INSERT INTO accrued SELECT key, value, value, false FROM given")

    # --- steps -----------------------------------------------------------------------------------------
    def _view(self, name: str, slices: Sequence[Slice]) -> None:
        """The partner's rows of these slices; `seq` becomes the place among all events, `part` that of the file."""
        selects = [
            f"SELECT * REPLACE (seq + {each.base} AS seq), {each.first_part} + seq // {PART_EVENTS} AS part, "
            f"{_text(each.day)} AS day FROM read_parquet({_text(str(each.file))}) "
            f"WHERE partner = {_text(self._partner)} AND seq >= {each.first} AND seq < {each.until}"
            for each in slices
        ]
        self._db.execute(
            f"CREATE OR REPLACE TEMP VIEW {name} AS {' UNION ALL '.join(selects) or 'SELECT * FROM no_facts'}"
        )

    def _effective(self) -> list[Effective]:
        """In the order of recording; a partner has few."""
        rows = self._db.execute(
            """SELECT seq, event_id, contract, contract_version, currency, sha256, start_ms, end_ms, recorded_at_ms,
                      business_day, amount_minor FROM all_facts WHERE type = 'contract.effective' ORDER BY seq"""
        )
        return [Effective(*row) for row in rows.fetchall()]

    def _terms(self, known: Sequence[Known]) -> None:
        self._contracts = terms = [each.terms for each in known if each.terms is not None]
        clocked = any(d.when.time or d.when.weekday for each in terms for d in each.discount)
        zones = {each.contract.timezone for each in terms}
        days = self._db.execute(
            "SELECT DISTINCT occurred_at_ms // 86400000 FROM all_facts WHERE type IN ('redemption.confirmed', "
            "'redemption.reversed', 'goal.reached') ORDER BY 1"
        ).fetchall()
        tables = {
            "spans": span_table(spans(known, events=self._events)), "discounts": discount_table(terms),
            "commissions": commission_table(terms), "steps": step_table(terms),
            "clocks": clock_table(zones, [day for (day,) in days]),
        }  # fmt: skip
        for name, table in tables.items():
            self._table(name, table)
        discounts = [discount for each in terms for discount in each.discount]
        named = {str(share.party) for discount in discounts for share in discount.fund}
        self._rule = sql.Redemptions(
            parties=[party for party in PARTIES if party in named] or ["bank"],
            funders=sorted({funders_of(discount) for discount in discounts} or {"bank"}),
            capped=sorted({capped_of(discount) for discount in discounts} or {""}), clocked=clocked,
        )  # fmt: skip
        caps: dict[str, set[int]] = {}
        for each in terms:
            for commission in each.commission:
                if commission.cap_per_customer_minor is not None:
                    caps.setdefault(commission.goal, set()).add(commission.cap_per_customer_minor)
        self._caps_vary = any(len(each) > 1 for each in caps.values())

    def _redemptions(self) -> None:
        if self._rule.capped:
            self._table("funded_before", _funded_table(self._funded, self._contracts, self._rule.capped))
        self._run(self._rule.create())
        self._refuse("SELECT seq, event_id, fault FROM redemptions WHERE fault IS NOT NULL ORDER BY seq LIMIT 1")
        for party in self._rule.capped:
            rows = self._db.execute(
                f"SELECT contract, discount, sum(took_{party})::BIGINT FROM redemptions GROUP BY ALL HAVING "
                f"count(took_{party}) > 0"
            )
            for contract, discount, minor in rows.fetchall():
                key = f"{contract} {discount} {party}"
                self._funded[key] = self._funded.get(key, 0) + minor

    def _goals(self) -> None:
        self._run(sql.GOALS_KNOWN)
        self._refuse("SELECT seq, event_id, fault FROM goals_known WHERE fault IS NOT NULL ORDER BY seq LIMIT 1")
        self._run(sql.ASKED)
        if self._caps_vary:
            self._fold_varying()
        self._table("ranks", _pairs(self._ranks.items()))
        self._run(sql.GOALS)
        for step in sql.ACCRUE:
            self._run(step)
        counts = "SELECT month_key, count(*) FROM goals WHERE month_key IS NOT NULL GROUP BY month_key"
        for key, count in self._db.execute(counts).fetchall():
            self._ranks[key] = self._ranks.get(key, 0) + count

    def _fold_varying(self) -> None:
        """Customers whose cap changes within the stretch: goal by goal, as the rule says it."""
        found: list[tuple[int, int, int]] = []
        last_key, accrued = None, 0
        for batch in self._db.sql(sql.VARYING).to_arrow_reader(_ROWS):
            for seq, key, share, cap, old in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                if key != last_key:
                    last_key, accrued = key, old
                worth = min(share, max(cap - accrued, 0))
                accrued += worth
                found.append((seq, worth, accrued))
        if found:
            self._table("folded", pa.table(dict(zip(("seq", "worth", "after"), zip(*found, strict=True), strict=True))))
            self._run(sql.FOLDED)

    def _table(self, name: str, table: pa.Table) -> None:
        self._db.register("arriving", table)
        self._db.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM arriving")
        self._db.unregister("arriving")

    def _run(self, statement: str) -> None:
        """`$currency` in it is the statement's."""
        needs = "$currency" in statement
        self._db.execute(statement, {"currency": self._currency} if needs else None)

    def _refuse(self, question: str) -> None:
        needs = "$currency" in question
        found = self._db.execute(question, {"currency": self._currency} if needs else None).fetchall()
        for seq, event_id, fault in found:
            raise FactsDisagree(f"event {event_id or f'number {seq + 1} of the statement'}: {fault}")


def _funded_table(funded: Mapping[str, int], terms: Sequence[Contract], capped: Sequence[str]) -> pa.Table:
    """A row a discount, a column a party."""
    ids = sorted({(each.contract_id, discount.id) for each in terms for discount in each.discount})
    columns = [pa.array([contract for contract, _ in ids]), pa.array([discount for _, discount in ids])]
    columns += [pa.array([funded.get(f"{c} {d} {party}", 0) for c, d in ids], pa.int64()) for party in capped]
    return pa.table(columns, names=["contract", "discount", *capped])


def _pairs(values: Iterable[tuple[str, int]]) -> pa.Table:
    pairs = list(values)
    return pa.table(
        {"key": pa.array([key for key, _ in pairs], pa.string()), "value": pa.array([v for _, v in pairs], pa.int64())}
    )


def _text(value: str) -> str:
    """A SQL string literal."""
    return "'" + value.replace("'", "''") + "'"
