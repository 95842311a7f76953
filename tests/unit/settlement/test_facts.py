"""A day's Parquet file: flat memory, one partner a row group, safe modes, nothing half written; the growing seal."""

import stat
from hashlib import sha256
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import leaves
from gateway.settlement import facts, merkle
from gateway.settlement.facts import FactsWriter, file_sha256
from gateway.settlement.merkle import root_of
from gateway.settlement.seal import FIRST, DaySealer, seal_day

Pairs = list[tuple[str | None, bytes]]


def many(count: int, *, partners: int) -> Pairs:
    return [(f"p{n % partners}", b'{"n":%d}' % n) for n in range(count)]


def written(path: Path, pairs: Pairs, *, step: int) -> facts.FactsFile:
    with FactsWriter(path) as writer:
        for start in range(0, len(pairs), step):
            writer.add(pairs[start : start + step])
        return writer.finish()


def test_the_file_and_its_folder_are_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "sealed" / "2026-09-21.parquet"
    done = written(path, many(5, partners=2), step=2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (done.rows, done.sha256, done.writer_version) == (
        5,
        sha256(path.read_bytes()).digest(),
        facts.WRITER_VERSION,
    )
    assert file_sha256(path) == done.sha256


def test_what_was_not_finished_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "sealed" / "2026-09-21.parquet"
    before = written(path, many(5, partners=2), step=5)
    with pytest.raises(TypeError), FactsWriter(path) as writer:
        writer.add([*many(9, partners=2), ("p0", None)])  # type: ignore[list-item]
    assert file_sha256(path) == before.sha256
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_draft_left_by_a_crash_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "2026-09-21.parquet"
    draft = path.with_name(path.name + ".draft")
    draft.write_bytes(b"half a file" * 100_000)
    draft.chmod(0o644)
    done = written(path, many(5, partners=2), step=5)
    assert (done.sha256, draft.exists()) == (file_sha256(path), False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_same_leaves_give_the_same_file_in_any_batches(tmp_path: Path) -> None:
    """A rebuilt file is read by another cursor."""
    pairs = many(70_000, partners=3)
    one, two = (written(tmp_path / f"{step}.parquet", pairs, step=step) for step in (2000, 7))
    assert one.sha256 == two.sha256


def test_every_group_of_rows_is_one_partners_in_the_order_of_recording(tmp_path: Path) -> None:
    path = tmp_path / "day.parquet"
    pairs = [*many(70_000, partners=2), (None, b"x")]
    written(path, pairs, step=5000)
    places: dict[str, list[tuple[int, bytes]]] = {}
    with pq.ParquetFile(path) as parquet:
        for group in range(parquet.num_row_groups):
            rows = parquet.read_row_group(group, columns=["partner", "seq", "leaf"]).to_pydict()
            assert len(set(rows["partner"])) == 1
            places.setdefault(rows["partner"][0], []).extend(zip(rows["seq"], rows["leaf"], strict=True))
    assert set(places) == {"p0", "p1", "-"}
    for name, found in places.items():
        assert found == list(enumerate(leaf for partner, leaf in pairs if (partner or "-") == name))


def test_the_writer_holds_no_more_rows_than_it_says(tmp_path: Path) -> None:
    """Of many partners, none of which fills a group: the largest is written before the limit."""
    with FactsWriter(tmp_path / "day.parquet") as writer:
        most = 0
        for start in range(0, 100_000, 500):
            writer.add([(f"p{n % 50}", b"{}") for n in range(start, start + 500)])
            most = max(most, sum(map(len, writer._held.values())))
        assert most <= facts._HELD_ROWS
        assert writer._held_rows == sum(map(len, writer._held.values()))
        assert writer.finish().rows == 100_000


def test_large_leaves_are_written_before_they_fill_the_memory(tmp_path: Path) -> None:
    with FactsWriter(tmp_path / "day.parquet") as writer:
        for number in range(100):
            writer.add([(f"p{number % 3}", b"x" * 1_000_000)])
            assert sum(len(leaf) for held in writer._held.values() for leaf in held) <= facts._HELD_BYTES
        assert writer.finish().rows == 100


def test_the_sealer_holds_hashes_not_leaves() -> None:
    """Flat: a block of hashes and one for each power of two, whatever the day holds."""
    sealer = DaySealer()
    for start in range(0, 100_000, 2000):
        sealer.add([("p", b"%d" % n) for n in range(start, start + 2000)])
        tree = sealer._trees["p"]
        assert len(tree._block) < merkle._BLOCK
        assert len(tree._whole) <= 17
    assert sealer.trees()[0].size == 100_000


@given(st.lists(st.integers(0, 900), max_size=8))
@settings(deadline=None, max_examples=30)
def test_a_tree_that_grew_in_any_steps_has_the_root_of_its_leaves(steps: list[int]) -> None:
    whole = [b"%d" % n for n in range(sum(steps))]
    tree, place = merkle.GrowingTree(), 0
    for step in steps:
        tree.extend(whole[place : place + step])
        place += step
        assert tree.root() == root_of(whole[:place])
    assert tree.size == len(whole)


def test_the_head_says_its_format_and_the_audit_chains_end() -> None:
    def head(audit_head: bytes | None) -> dict[str, object]:
        sealer = DaySealer()
        sealer.add([("p", b"1"), (None, b"2"), ("p", b"3")])
        sealed = seal_day(
            leaves.DAY, sealer.trees(), bank="B", previous_head_hash=FIRST, audit_head=audit_head, sign=bytes.decode
        )
        return dict(sealed.head)

    assert head(None)["audit_head"] is None
    assert head(b"\1" * 32)["audit_head"] == "01" * 32
    assert head(None)["format"] == "parasol-day-2"
    assert (head(None)["tree_size"], head(None)["event_count"]) == (2, 3)
