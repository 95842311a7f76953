"""A sealed day's file may be lost, cut, changed or exchanged: what is settled is what was sealed, or nothing."""

import asyncio
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import metrics
from gateway.clock import now_ms
from gateway.settlement.facts import FactsWriter, file_sha256
from gateway.settlement.model import SealedFile
from gateway.settlement.sealed_files import SealedFiles, is_as_known
from tests.api.settling import (
    calculate,
    change_as_superuser,
    close,
    jobs,
    later,
    reach_goals,
    redeem,
    refuse,
    today,
)
from tests.conftest import World

TOTALS = ("LineCount", "BankOwes", "PartnerOwes", "Net", "Payable", "CarriedOut")


def rewritten(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        pq.write_table(change(pq.read_table(path)), path)

    return spoil


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def replaced(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def made_a_pipe(path: Path) -> None:
    """Whoever opens it waits for a writer that never comes."""
    path.unlink()
    os.mkfifo(path)


def made_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


SPOILT: dict[str, Callable[[Path], None]] = {
    "lost": Path.unlink,
    "cut": cut,
    "a pipe": made_a_pipe,
    "a link to nowhere": made_a_link,
    "empty": lambda path: replaced(path, b""),
    "not a Parquet file": lambda path: replaced(path, b"a sentence"),
    "without its first row": rewritten(lambda table: table.slice(1)),
    "without its last row": rewritten(lambda table: table.slice(0, table.num_rows - 1)),
    "with a row twice": rewritten(lambda table: pa.concat_tables([table, table.slice(0, 1)])),
    "in another order": rewritten(lambda table: table.take(list(reversed(range(table.num_rows))))),
}


async def broken_seals() -> float:
    for line in (await metrics.page()).decode().splitlines():
        if line.startswith("parasol_seals_broken_total "):
            return float(line.split()[1])
    return 0.0


async def totals(world: World, day: str) -> dict[str, Any]:
    """Of a statement that is refused afterwards, so that the next one covers the same days."""
    statement = await calculate(world, day)
    assert statement["Status"] == "CALCULATED", statement
    assert (await refuse(world, statement)).status_code == 200
    return {name: statement[name] for name in TOTALS}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT.keys())
async def test_a_spoilt_file_is_made_again_and_the_statement_is_equal(
    world: World, spoil: Callable[[Path], None]
) -> None:
    await redeem(world, "idt_1_a")
    await reach_goals(world, 2)
    await close(world, today())
    before = await totals(world, today())
    spoil(world.home / "sealed" / f"{today()}.parquet")
    assert await totals(world, today()) == before


async def test_two_statements_that_need_the_same_lost_file_make_it_again_beside_each_other(world: World) -> None:
    await reach_goals(world, 3)
    await close(world, today())
    path, day = world.home / "sealed" / f"{today()}.parquet", date.fromisoformat(today())
    path.unlink()
    files = SealedFiles(world.house.database, world.home)
    assert await asyncio.gather(*(files.ready(day, now_ms=now_ms()) for _ in range(4))) == [path] * 4
    (row,) = await world.sql("SELECT sha256 FROM sealed_file")
    assert file_sha256(path) == row[0]
    mine = f".{os.getpid()}."  # processes that other tests have killed may have left theirs
    assert not [each.name for each in path.parent.iterdir() if mine in each.name]


async def test_a_file_of_another_writer_is_made_again(world: World) -> None:
    await redeem(world, "idt_1_a")
    await close(world, today())
    await world.sql("UPDATE sealed_file SET writer_version = writer_version - 1, written_at_ms = 0")
    await totals(world, today())
    (row,) = await world.sql("SELECT written_at_ms > 0 FROM sealed_file")
    assert row[0]


async def test_what_the_database_says_of_a_file_is_not_believed_before_the_seal(world: World) -> None:
    """Somebody writes a file with one event fewer, and its hash into the table."""
    await redeem(world, "idt_1_a")
    await redeem(world, "idt_1_b")
    await close(world, today())
    path = world.home / "sealed" / f"{today()}.parquet"
    table = pq.read_table(path)
    own = [place for place, name in enumerate(table["partner"].to_pylist()) if name == "parkco"]
    pq.write_table(table.take([place for place in range(table.num_rows) if place != own[-1]]), path)
    await world.sql("UPDATE sealed_file SET sha256 = sha256($1)", path.read_bytes())
    statement = await calculate(world, today())
    assert statement["Status"] == "FAILED", statement
    assert statement["Failure"]


async def test_what_only_our_own_verifier_sees_is_refused_in_its_words_before_anybody_approves_it(world: World) -> None:
    """The same with another order's name in an event: no price, leg or line follows from it, and the seal does."""
    await redeem(world, "idt_1_a")
    await close(world, today())
    path = world.home / "sealed" / f"{today()}.parquet"
    honest = pq.read_table(path)
    leaves = [leaf.replace(b"order of idt_1_a", b"order of idt_1_b") for leaf in honest["leaf"].to_pylist()]
    changed = honest.set_column(2, honest.schema.field("leaf"), pa.array(leaves, pa.binary()))
    assert changed != honest
    pq.write_table(changed, path, row_group_size=1)  # a group has one partner's rows
    await world.sql("UPDATE sealed_file SET sha256 = sha256($1)", path.read_bytes())
    statement = await calculate(world, today())
    assert statement["Status"] == "FAILED", statement
    assert statement["Failure"].startswith(f"our own verifier refuses it: day {today()}: root is")


async def test_a_leaf_that_differs_from_its_seal_settles_nothing_and_is_counted(world: World) -> None:
    await redeem(world, "idt_1_a")
    await close(world, today())
    before = await broken_seals()
    await change_as_superuser(
        world, "event",
        """UPDATE {table} SET leaf = set_byte(leaf, 30, 55)
           WHERE seq = (SELECT max(seq) FROM event WHERE partner = 'parkco')""",
    )  # fmt: skip
    (world.home / "sealed" / f"{today()}.parquet").unlink()
    statement = await calculate(world, today())
    assert (statement["Status"], await broken_seals()) == ("FAILED", before + 1)
    assert "are not those that were sealed, of parkco: nothing is settled" in statement["Failure"]
    assert not (world.home / "sealed" / f"{today()}.parquet").exists()
    (job,) = await jobs(world, Kind="statement_calculation")
    assert (job["Status"], job["Failure"], job["Attempts"]) == ("FAILED", statement["Failure"], 1)


async def test_another_partner_s_changed_leaf_is_found_too(world: World) -> None:
    """The file is of the day, so it is held against every partner's seal, whoever is settled."""
    await redeem(world, "idt_1_a")
    await redeem(world, "idt_1_b")
    await change_as_superuser(
        world, "event", "UPDATE {table} SET partner = 'shopco' WHERE seq = (SELECT max(seq) FROM event)"
    )
    await close(world, today())
    await change_as_superuser(
        world, "event", "UPDATE {table} SET leaf = set_byte(leaf, 30, 55) WHERE partner = 'shopco'"
    )
    (world.home / "sealed" / f"{today()}.parquet").unlink()
    assert "of shopco" in (await calculate(world, today()))["Failure"]


async def test_a_leaf_that_nobody_can_read_is_sealed_and_its_day_is_shut(world: World) -> None:
    """Sealing asks for bytes, not for what they say: the day after closes, and other partners are settled."""
    await redeem(world, "idt_1_a")
    await world.sql(
        """INSERT INTO event (event_id, type, partner, occurred_at_ms, recorded_at_ms, business_day, amount_minor, leaf)
           SELECT 'evt_poison', 'goal.reached', 'shopco', occurred_at_ms, recorded_at_ms, business_day, 0, '\\xff00'
           FROM event LIMIT 1"""
    )
    assert (await close(world, today()))["Status"] == "SEALED"
    await world.http.post("/sandbox/v1/business-date")
    assert (await close(world, later(today())))["Status"] == "SEALED"


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_byte_of_a_file_can_be_changed_unseen(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("sealed") / "day.parquet"
    with FactsWriter(path) as writer:
        writer.add([("p", b'{"a":1}'), (None, b"{}")])
        written = writer.finish()
    known = SealedFile(written.sha256, written.rows, written.writer_version)
    assert is_as_known(path, known)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    assert not is_as_known(path, known)
