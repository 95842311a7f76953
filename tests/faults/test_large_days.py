"""A day of many events is closed in small steps, beside whoever else this process answers, and sealed the same."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import cast

import pytest

from gateway.database import Connection, Database
from gateway.jobs.model import JobFailed
from gateway.settlement.day_file import WORTH_A_PROCESS, read_day, read_day_here
from gateway.settlement.store import days

DAY, BEFORE, EMPTY = date(2026, 9, 21), date(2026, 9, 20), date(2026, 9, 22)
ROWS_LIMIT, BYTES_LIMIT = 2000, 256 * 1024  # of a step
PARTNERS = ("p", "q", None)


class RowsElsewhere:
    """A database that this process may ask small questions, and may not read a day's leaves from."""

    def __init__(self, database: Database, url: str) -> None:
        self._database, self.url = database, url

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        async with self._database.connection() as conn:
            yield conn

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        raise AssertionError("the leaves of a large day were read in this process")
        yield


async def record(database: Database, count: int) -> None:
    """Events of two partners and of nobody by turns, every fifth of the day before."""
    async with database.transaction() as conn:
        await conn.execute(
            """INSERT INTO event (event_id, type, partner, occurred_at_ms, recorded_at_ms, business_day, currency,
                   amount_minor, leaf)
               SELECT 'evt_' || n, CASE n % 2 WHEN 0 THEN 'goal.reached' ELSE 'claim.made' END,
                   ($2::text[])[n % 3 + 1], 1789963200000, 1789963200000,
                   CASE n % 5 WHEN 0 THEN $4::date ELSE $3::date END, CASE n % 4 WHEN 0 THEN 'CNY' ELSE 'EUR' END, 0,
                   convert_to(rpad('{"n":' || n || '}', 450), 'UTF8')
               FROM generate_series(1, $1) AS n ORDER BY n""",
            count, list(PARTNERS), DAY, BEFORE,
        )  # fmt: skip


async def test_closing_takes_a_day_in_order_and_in_steps_of_few_rows_and_bytes(database: Database) -> None:
    await record(database, 7000)
    lined: set[tuple[str, str]] = set()
    async with database.transaction() as conn:
        steps = [step async for step in days.leaves_of(conn, DAY, lined=lined)]
        told = await conn.fetch("SELECT partner, leaf FROM event WHERE business_day = $1 ORDER BY seq", DAY)
    assert [tuple(row) for row in told] == [pair for step in steps for pair in step]
    assert max(len(step) for step in steps) <= ROWS_LIMIT
    assert max(sum(len(leaf) for _, leaf in step) for step in steps) <= BYTES_LIMIT
    assert lined == {(partner, currency) for partner in ("p", "q") for currency in ("CNY", "EUR")}


async def test_a_day_without_events_has_no_steps(database: Database) -> None:
    await record(database, 10)
    async with database.transaction() as conn:
        assert [step async for step in days.leaves_of(conn, EMPTY, lined=set())] == []


async def test_closing_does_not_read_or_sort_what_other_days_hold(database: Database) -> None:
    """A day's leaves come from its own stretch of the table, in order as they lie there."""
    await record(database, 7000)
    async with database.transaction() as conn:
        await conn.execute("ANALYZE event")
        first, last = await days.places_of(conn, DAY)
        ends = await conn.fetchrow("SELECT min(seq), max(seq) FROM event WHERE business_day = $1", DAY)
        plan = await conn.fetch(f"EXPLAIN {days.LEAVES}", DAY, first, last, ["goal.reached"])
    text = "\n".join(row[0] for row in plan)
    assert "Sort" not in text
    assert "seq >=" in text
    assert (first, last) == tuple(ends)


async def test_a_large_day_is_read_by_a_process_of_its_own_and_found_the_same(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    await record(database, WORTH_A_PROCESS * 4 // 3)
    elsewhere = cast(Database, RowsElsewhere(database, database_url))
    there = await read_day(elsewhere, DAY, place=tmp_path / "there.parquet")
    assert there == await read_day_here(database, DAY, place=tmp_path / "here.parquet")
    assert there.written is not None
    assert there.written.rows == sum(tree.size for tree in there.trees) > WORTH_A_PROCESS


async def test_a_small_day_is_worth_no_process(database: Database, database_url: str, tmp_path: Path) -> None:
    await record(database, 10)
    elsewhere = cast(Database, RowsElsewhere(database, database_url))
    with pytest.raises(AssertionError, match="were read in this process"):
        await read_day(elsewhere, DAY, place=tmp_path / "day.parquet")


async def test_a_process_that_ends_early_fails_the_job_in_words(database: Database, tmp_path: Path) -> None:
    await record(database, WORTH_A_PROCESS * 4 // 3)
    elsewhere = cast(Database, RowsElsewhere(database, "postgresql://nobody@/nowhere?host=/nowhere"))
    with pytest.raises(JobFailed, match="the process that read 2026-09-21 ended with status 1"):
        await read_day(elsewhere, DAY, place=tmp_path / "day.parquet")
