"""The download of §12: one JSON or an archive, in parts, the same bytes again, handed over in steps."""

import io
import json
import stat
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from bench import leaves
from gateway.settlement import calculation, statement
from gateway.settlement.calculation import Opening, SettledDay, Written
from gateway.settlement.merkle import root_of
from gateway.settlement.statement import accrued_parts, tar_header
from gateway.settlement.stretch import PART_EVENTS, stretches
from tests.unit.settlement import made


def large(folder: Path, events: int) -> tuple[SettledDay, list[bytes]]:
    content = list(leaves.leaves(events))
    return made.sealed_pairs(folder, leaves.DAY, [("p", leaf) for leaf in content]), content


def settled(folder: Path, day: SettledDay, **more: Any) -> Written:
    return made.statement(folder, [], [leaves.CONTRACT], days=[day], **more)


def read(written: Written) -> tuple[dict[str, Any], list[bytes]]:
    """Manifest and parts, of either form."""
    raw = written.file.read_bytes()
    assert (written.sha256, written.size_bytes) == (sha256(raw).digest(), len(raw))
    if raw.startswith(b"{"):
        whole = json.loads(raw)
        assert raw == made.canonical(whole) + b"\n"
        return whole["manifest"], [made.canonical(part) for part in whole["parts"]]
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        names = archive.getnames()
        files = [archive.extractfile(name).read() for name in names]  # type: ignore[union-attr]
        assert all((m.mode, m.uid, m.gid, m.mtime, m.uname, m.gname) == (0o644, 0, 0, 0, "", "") for m in archive)
    assert names == ["manifest.json", *(f"part-{number:06}.json" for number in range(1, len(names)))]
    assert len(raw) == sum(512 + len(file) + -len(file) % 512 for file in files) + 1024
    assert made.canonical(json.loads(files[0])) == files[0]
    return json.loads(files[0]), files[1:]


@pytest.mark.parametrize("events", [5, PART_EVENTS, PART_EVENTS + 1, 30_000])
def test_parts_hold_every_leaf_in_order_and_the_manifest_says_what_they_are(tmp_path: Path, events: int) -> None:
    day, content = large(tmp_path, events)
    written = settled(tmp_path, day)
    manifest, parts = read(written)
    assert (written.file.read_bytes()[0] == ord("{")) == (sum(map(len, parts)) <= statement.ONE_JSON_BYTES)
    found: list[bytes] = []
    for part, told in zip(parts, manifest["parts"], strict=True):
        document = json.loads(part)
        assert part == made.canonical(document)
        assert told["size"] == len(part)
        assert told["sha256"] == sha256(part).hexdigest()
        assert told["kind"] == document["kind"]
        if told["kind"] == "events":
            assert told["count"] == len(document["events"]) <= PART_EVENTS
            assert told["lines"] == len(document["lines"])
            places = {event["event_id"] for event in document["events"]}
            assert {line["event_id"] for line in document["lines"]} <= places
            found += [made.canonical(event) for event in document["events"]]
    assert found == content
    assert manifest["days"][0]["root"] == root_of(content).hex()
    counts = [told["count"] for told in manifest["parts"] if told["kind"] == "events"]
    assert all(count == PART_EVENTS for count in counts[:-1])
    assert written.line_count == sum(told["lines"] for told in manifest["parts"])


def test_parts_of_just_the_limit_are_one_json_and_one_byte_more_is_an_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day, _ = large(tmp_path, 100)
    size = sum(map(len, read(settled(tmp_path / "s", day))[1]))
    for limit, small in ((size, True), (size - 1, False)):
        monkeypatch.setattr(statement, "ONE_JSON_BYTES", limit)
        assert (settled(tmp_path / str(limit), day).file.read_bytes()[0] == ord("{")) == small


def test_a_remade_statement_has_the_same_bytes_whatever_its_stretches(tmp_path: Path) -> None:
    """The signature is kept; leaves, terms and opening are those of before."""
    day, _ = large(tmp_path, 20_000)
    first = settled(tmp_path / "1", day)
    again = settled(tmp_path / "2", day, signature=first.signature, stretch_events=PART_EVENTS)
    assert again.sha256 == first.sha256
    assert again.closing == first.closing
    assert list(again.commissions()) == list(first.commissions())


def test_a_rerun_with_another_signature_differs_in_it_alone(tmp_path: Path) -> None:
    record = made.started()
    record.goal("SPEND", spend=9000)
    day = made.sealed_days(tmp_path, record.events)
    one, two = (made.statement(tmp_path / name, [], record.terms, days=day) for name in "12")
    assert one.signature != two.signature
    raw = two.file.read_bytes().replace(two.signature.encode(), one.signature.encode())
    assert raw == one.file.read_bytes()


def test_rows_are_handed_over_at_most_two_thousand_at_a_time(tmp_path: Path) -> None:
    day, content = large(tmp_path, 9000)
    written = settled(tmp_path, day)
    commissions, changes = list(written.commissions()), list(written.accrued_changes())
    assert max(map(len, [*commissions, *changes])) <= 2000
    goals = [json.loads(leaf) for leaf in content if b'"goal.reached"' in leaf]
    paid = {goal["event_id"] for goal in goals}
    ids = [event_id for batch in commissions for event_id, _ in batch]
    assert len(ids) > 4000
    assert set(ids) <= paid
    assert [each for each in (goal["event_id"] for goal in goals) if each in set(ids)] == ids
    assert written.closing.accrued_size == sum(map(len, changes))


def test_the_download_is_ours_alone_and_no_draft_stays(tmp_path: Path) -> None:
    day, _ = large(tmp_path, 100)
    written = settled(tmp_path / "s", day)
    assert stat.S_IMODE(written.file.stat().st_mode) == 0o600
    beside = {"stm_1.statement", "stm_1.statement.accrued", "stm_1.statement.commissions"}
    assert {path.name for path in written.file.parent.iterdir()} == beside
    assert all(stat.S_IMODE((written.file.parent / name).stat().st_mode) == 0o600 for name in beside)


def test_opening_and_closing_are_the_members_of_the_rules(tmp_path: Path) -> None:
    record = made.started()
    record.goal("SPEND", spend=9000)
    record.goal("CARD_ACTIVATED")
    record.redeem("half", 300)
    written = made.statement(tmp_path, record.events, record.terms)
    manifest, _ = read(written)
    first = {"accrued": {"root": "0" * 64, "size": 0}, "carried_minor": 0, "funded": {}, "ranks": {}, "versions": []}
    assert manifest["opening"] == Opening().members() == first
    assert manifest["closing"] == written.closing.members()
    assert Opening.from_members(manifest["closing"]) == written.closing
    first_version = {"contract": "p-2026", "sha256": "", "start_ms": 1_767_196_800_000, "version": 1}
    assert manifest["closing"]["versions"][0] | {"sha256": ""} == first_version
    assert sorted(manifest) == ["closing", "contracts", "days", "format", "keys", "opening", "parts", "signature",
                                "statement", "totals"]  # fmt: skip


def test_long_accrued_lists_are_cut_into_parts_and_joined_again(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [[{"before": n, "key": f"k{n}"} for n in range(start, start + 5000)] for start in (0, 5000, 10_000)]
    proof = ["", "/"] * 70_000
    parts = [json.loads(raw) | {"told": count} for count, raw in accrued_parts(iter(batches), proof)]
    assert [entry for part in parts for entry in part["entries"]] == [entry for batch in batches for entry in batch]
    assert [token for part in parts for token in part["proof"]] == proof
    assert all(part["told"] == len(part["entries"]) <= statement.ACCRUED_ENTRIES for part in parts)
    assert all(len(part["proof"]) <= statement.ACCRUED_TOKENS for part in parts)


def test_days_are_cut_into_stretches_at_the_borders_of_parts() -> None:
    days = [(Path("a"), "2026-09-21", 3), (Path("b"), "2026-09-22", 20_000), (Path("c"), "2026-09-23", 0)]
    found = stretches([*days, (Path("d"), "2026-09-24", 5)], events=PART_EVENTS)
    assert [[(s.day[-2:], s.first, s.until, s.base, s.first_part) for s in each] for each in found] == [
        [("21", 0, 3, 0, 0)],
        [("22", 0, 8192, 3, 1)],
        [("22", 8192, 16_384, 3, 1)],
        [("22", 16_384, 20_000, 3, 1), ("24", 0, 5, 20_003, 4)],
    ]
    assert stretches([]) == []


def test_the_header_of_an_archive_is_what_other_programs_read() -> None:
    ours = tar_header("part-000001.json", 123_456)
    info = tarfile.TarInfo.frombuf(ours, "ascii", "strict")
    assert (info.name, info.size, info.mode, info.isreg()) == ("part-000001.json", 123_456, 0o644, True)


def test_leaves_of_others_are_not_in_a_partners_parts(tmp_path: Path) -> None:
    pairs = [(f"p{n % 3}", b'{"n":%d}' % n) for n in range(20_000)]
    day = made.sealed_pairs(tmp_path, leaves.DAY, pairs)
    batches = list(calculation._leaves(day.file, "p1", first=4000, until=6500))
    assert b",".join(part for part, _ in batches) == b",".join(b'{"n":%d}' % n for n in range(12_001, 19_501, 3))
    assert sum(size for _, size in batches) == 2500
