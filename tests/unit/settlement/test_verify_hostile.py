"""What a stranger may hand to `verify`, by its own door: one sentence and an exit code, in either language."""

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.settlement.verify import series
from gateway.settlement.verify.command import REFUSED, UNUSABLE, main
from gateway.settlement.verify.download import SMALL_PARTS_LIMIT
from tests.unit.settlement import drafts
from tests.unit.settlement.cases import busy, check, simple
from tests.unit.settlement.drafts import Json, confirmed
from tests.unit.settlement.statements import Statement, statement

PIN = ["--key", drafts.SIGNATORY.thumbprint]


def told(path: Path, capsys: pytest.CaptureFixture[str], *, status: int) -> str:
    """What is said of it, in each language: the exit status is the same, and nobody sees a stack trace."""
    for language in ("zh", "en"):
        assert main([str(path), *PIN, "--lang", language, "--workers", "1"]) == status
        said = "".join(capsys.readouterr())
        assert said.strip()
        assert "Traceback" not in said
    return said


@pytest.fixture
def no_file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "statement.json"
    match request.param:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "device":
            return Path("/dev/zero")
        case "link to itself":
            path.symlink_to(path)
        case "below a file":
            path.write_bytes(b"")
            return path / "statement.json"
        case "name with NUL":
            return tmp_path / "a\0b"
        case "name too long":
            return tmp_path / ("x" * 5000)
    return path


KINDS = ("folder", "pipe", "device", "link to itself", "below a file", "name with NUL", "name too long", "nothing")


@pytest.mark.parametrize("no_file", KINDS, indirect=True)
def test_what_is_no_file_cannot_be_checked(no_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(told(no_file, capsys, status=UNUSABLE).strip().splitlines()) == 1


def test_a_pipe_among_the_statements_in_the_place_of_known_ones_keeps_nobody_waiting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever unpacks a folder that the other side has packed opens what is in it."""
    path = tmp_path / "statement.json"
    path.write_bytes(simple(confirmed(1)).small())
    os.mkfifo(tmp_path / "known-statements.json")
    assert "known-statements.json is not a file" in told(path, capsys, status=UNUSABLE)


def test_a_file_that_changes_while_it_is_read_is_not_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is read in pieces and hashed beside: the SHA-256 told could be another file's than the one checked."""
    path = tmp_path / "statement.json"
    path.write_bytes(simple(confirmed(1)).small())
    reading = series.read_statement

    def and_replaced(of: Path, **rest: Any) -> Any:
        found = reading(of, **rest)
        other = tmp_path / "other"
        other.write_bytes(simple(confirmed(2)).small())
        other.replace(of)
        return found

    monkeypatch.setattr(series, "read_statement", and_replaced)
    assert "was changed while it was read" in told(path, capsys, status=UNUSABLE)


@pytest.fixture(scope="module")
def archived() -> Statement:
    """Two parts above what one JSON value may have."""
    notes = [drafts.event(n, "claim.owned", amount=0, data={"note": "x" * (9 << 20)}, business_day=f"2025-01-0{n}")
             for n in (2, 3)]  # fmt: skip
    return statement({"2025-01-02": [drafts.effective(0), notes[0]], "2025-01-03": [notes[1]]})


def boundaries(made: Statement) -> list[int]:
    """The ends of every header, content and padding of its archive."""
    found, at = [0], 0
    for content in (drafts.canonical(made.signed()), *made.parts):
        found += [at + 512, at + 512 + len(content), at + 512 + len(content) + -len(content) % 512]
        at = found[-1]
    return [*found, at + 512]


def test_an_archive_cut_at_any_boundary_and_beside_it_is_refused(
    tmp_path: Path, archived: Statement, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, path = archived.archive(), tmp_path / "statement.tar"
    assert check(raw, tmp_path).accepted
    for end in boundaries(archived):
        for place in (end - 1, end, end + 1):
            if 0 <= place < len(raw):
                path.write_bytes(raw[:place])
                assert "FAULT" in told(path, capsys, status=REFUSED), place


def test_an_archive_whose_size_is_a_lie_costs_no_memory(
    tmp_path: Path, archived: Statement, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file with holes: a gigabyte by its length, a few blocks on the disk."""
    raw, path = archived.archive(), tmp_path / "statement.tar"
    with path.open("wb") as file:
        file.write(raw[: boundaries(archived)[3]])
        file.truncate(1 << 30)
    assert "does not end with two blocks of zeros" in told(path, capsys, status=REFUSED)


def whole(manifest: Json, parts: list[bytes]) -> bytes:
    return b'{"manifest":' + drafts.canonical(manifest) + b',"parts":[' + b",".join(parts) + b"]}\n"


def test_parts_of_one_statement_under_the_manifest_of_another_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, path = busy(), busy(told=lambda events: events[1:2] and events[1].update(campaign="c")), tmp_path / "s"
    swapped = [
        whole(one.signed(), two.parts), whole(two.signed(), one.parts),
        whole(one.signed(), [*one.parts[:1], *two.parts[1:]]), whole(one.signed(), [one.parts[0], *one.parts]),
        whole(one.signed(), [*one.parts, one.parts[-1]]), whole(one.signed(), one.parts[:-1]),
        whole(one.signed(), one.parts[::-1]), whole(one.signed(), []),
    ]  # fmt: skip
    assert one.parts != two.parts
    for raw in swapped:
        path.write_bytes(raw)
        assert "REFUSED" in told(path, capsys, status=REFUSED)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1e400", b"1" + b"0" * 30, b"-1" + b"0" * 30, b"0x10"])
def test_a_number_that_no_statement_has_is_refused_wherever_one_stands(
    tmp_path: Path, number: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    made, path = simple(confirmed(1)), tmp_path / "statement.json"
    raw = made.small()
    for old in (b'"amount_minor":1998', b'"payable_minor":1', b'"carried_minor":0', b'"number":1', b'"tree_size":3'):
        assert old in raw
        path.write_bytes(raw.replace(old, old.rpartition(b":")[0] + b":" + number))
        assert "FAULT" in told(path, capsys, status=REFUSED)


@pytest.mark.parametrize("depth", [10, 200, 900, 960, 980, 990, 1000, 1100])
def test_nesting_of_any_depth_is_refused(tmp_path: Path, depth: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Read at one depth of the stack, written and shown at others."""
    made, path = simple(confirmed(1)), tmp_path / "statement.json"
    deep = b"[" * depth + b"]" * depth
    nested = made.parts[0].replace(b'"mcc":null', b'"mcc":' + deep, 1)
    made.manifest["parts"][0] |= {"sha256": sha256(nested).hexdigest(), "size": len(nested)}
    manifest = drafts.canonical(made.signed())
    for place in (b'"totals":{', b'"opening":{', b'"closing":{', b'"head":{'):
        path.write_bytes(b'{"manifest":' + manifest.replace(place, place + b'"":' + deep + b",", 1) + b',"parts":[]}\n')
        assert "FAULT" in told(path, capsys, status=REFUSED)
    path.write_bytes(whole(made.signed(), [nested]))
    assert "FAULT" in told(path, capsys, status=REFUSED)


def test_a_member_that_is_there_twice_among_very_many_is_found_in_one_pass(tmp_path: Path) -> None:
    """Each name was compared with all others: 650,000 bytes took minutes, and a file may have 48 million."""
    names = b",".join(b'"k%d":1' % number for number in range(200_000))
    raw = b'{"manifest":{' + names + b',"k199999":1},"parts":[]}\n'
    assert check(raw, tmp_path).faults == ("manifest: member k199999 is there twice",)


def test_of_very_many_wrong_totals_the_first_are_told(tmp_path: Path) -> None:
    made = simple(confirmed(1))
    made.manifest["totals"] |= {f"k{number:06}": number for number in range(100_000)}
    assert len(check(made.small(), tmp_path).faults) == 26


def sized(total: int) -> Statement:
    """Its parts have exactly so many bytes together."""

    def noted(length: int) -> Statement:
        note = drafts.event(2, "claim.owned", amount=0, data={"note": "x" * length})
        return statement({"2025-01-02": [drafts.effective(0), note]})

    rest = sum(map(len, noted(0).parts))
    made = noted(total - rest)
    assert sum(map(len, made.parts)) == total
    return made


@pytest.mark.parametrize(("more", "small"), [(0, True), (1, False)], ids=["the last that is one value", "the first"])
def test_what_is_one_json_value_and_what_an_archive_is_a_matter_of_one_byte(
    tmp_path: Path, more: int, small: bool
) -> None:
    made = sized(SMALL_PARTS_LIMIT + more)
    assert check(made.small(), tmp_path).accepted == small
    assert check(made.archive(), tmp_path).accepted != small


@pytest.mark.parametrize("output", ["full", "pipe that nobody reads", "closed"])
def test_a_report_that_cannot_be_written_is_neither_accepted_nor_refused(tmp_path: Path, output: str) -> None:
    """It ended with a stack trace and the status of a refused statement."""
    path = tmp_path / "statement.json"
    path.write_bytes(simple(confirmed(1)).small())
    reader, writer = os.pipe()
    os.close(reader)
    code = "import sys; from gateway.settlement.verify.command import main; sys.exit(main(sys.argv[1:]))"
    if output == "closed":
        code = f"import os, sys; os.close(1); sys.stdout = None; {code}"
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, str(path), *PIN], stdout=writer if output.startswith("pipe") else full,
            stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    os.close(writer)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (UNUSABLE, 1), done.stderr
    assert "the report cannot be written" in done.stderr
