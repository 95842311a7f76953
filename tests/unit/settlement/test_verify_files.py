"""Files of statements: hostile bytes, flipped bits, several that follow each other, and the command."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from gateway.settlement import verify
from gateway.settlement.verify import Report, Unusable, main, verify_files
from gateway.settlement.verify.statement import read_statement
from tests.unit.settlement import drafts
from tests.unit.settlement.cases import DAY, busy, check, put, spoiled
from tests.unit.settlement.drafts import Json, confirmed, goal, line, redemption_lines


# --- bytes --------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def tiny() -> bytes:
    """The smallest statement with an event and a line."""
    contract = {"contract": drafts.CONTRACT["contract"], "discount": drafts.CONTRACT["discount"][:1]}
    day = drafts.sealed_day(DAY, [confirmed(1)], others=1)
    lines = redemption_lines(confirmed(1))
    return drafts.written(drafts.statement([day], lines, closing=drafts.opening(), contracts=[contract]))


def test_every_single_flipped_bit_is_refused(tiny: bytes) -> None:
    assert read_statement(tiny, name="x", event_ids=set()).faults == []
    changed = bytearray(tiny)
    for place in range(len(tiny)):
        for bit in range(8):
            changed[place] ^= 1 << bit
            assert read_statement(bytes(changed), name="x", event_ids=set()).faults, f"bit {bit} of byte {place}"
            changed[place] ^= 1 << bit


def test_every_truncation_is_refused(tiny: bytes) -> None:
    for length in range(1, len(tiny), 7):
        assert read_statement(tiny[:length], name="x", event_ids=set()).faults
        assert read_statement(tiny[length:], name="x", event_ids=set()).faults


JUNK = (None, True, -1, 1 << 64, 10**300, "", "\x1b[2J", "x" * 999, [], {}, [[]], {"": 0})


def places(of: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, name or number) in a document."""
    for step in list(of) if isinstance(of, dict) else range(len(of)):
        yield of, step
        if isinstance(of[step], dict | list):
            yield from places(of[step])


@pytest.mark.parametrize("junk", JUNK, ids=map(repr, range(len(JUNK))))
def test_any_value_anywhere_ends_in_printable_sentences_and_never_in_a_stack_trace(junk: Any, tiny: bytes) -> None:
    """Signed as it is. Free texts may be anything, so what counts is that each is judged."""
    document = json.loads(tiny)
    del document["signature"]
    refused = judged = 0
    for of, step in list(places(document)):
        honest, of[step] = of[step], junk
        raw = drafts.canonical(document | {"signature": drafts.SIGNATORY.detached(drafts.canonical(document))}) + b"\n"
        found = read_statement(raw, name="x", event_ids=set())
        assert all(fault.isprintable() for fault in found.faults)
        judged, refused = judged + 1, refused + bool(found.faults)
        of[step] = honest
    assert refused > judged * 9 // 10


HOSTILE = {
    "one-byte": b"{",
    "not-utf8": b"\xff\xfe{}",
    "nested": b'{"closing":' + b"[" * 200_000,
    "nested-tail": b',"opening":' + b'{"a":' * 200_000,
    "number": b',"opening":' + b"9" * 100_000,
    "minus-zero": b',"opening":-0',
    "fraction": b',"opening":1.0',
    "exponent": b',"opening":1e2',
    "nan": b',"opening":NaN',
    "surrogate": b',"opening":"\\ud800"',
    "twice": b',"opening":{"a":1,"a":1}',
    "blank": b',"opening":{"a": 1}',
    "unsorted": b',"opening":{"b":1,"a":1}',
    "escape": b',"opening":"\\u0041"',
    "list": b"[]\n",
    "null": b"null\n",
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes_are_refused_in_a_sentence(tmp_path: Path, raw: bytes) -> None:
    (fault,) = check(raw, tmp_path).faults
    assert fault
    assert len(fault) < 500


def test_members_that_are_there_twice_are_named(tmp_path: Path, tiny: bytes) -> None:
    raw = tiny.replace(b'"amount_minor":1998,', b'"amount_minor":1998,"amount_minor":1998,', 1)
    assert any("member amount_minor is there twice" in fault for fault in check(raw, tmp_path).faults)


def test_an_empty_and_a_gigantic_file_are_refused_without_being_read(tmp_path: Path) -> None:
    assert "it has 0 bytes" in check(b"", tmp_path).faults[0]
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate((1 << 30) + 1)
    assert "it has 1073741825 bytes" in verify_files([huge]).files[0].faults[0]


# --- several files ------------------------------------------------------------------------------------------------
def chain(folder: Path, change: Callable[[Json], Any] = lambda _: None) -> Report:
    """Two statements; the second as it is after `change`."""
    one = busy()
    first = drafts.written(one)
    header = one["statement"]
    later = [goal(20, business_day="2025-01-05"), confirmed(21, discount="five", business_day="2025-01-05")]
    day = drafts.sealed_day("2025-01-05", later, previous=drafts.head_hash(one["days"][-1]))
    lines = [line(later[0], "commission", 300), *redemption_lines(later[1])]
    closing = one["closing"] | {"ranks": {"CARD_ACTIVATED 2025-01": 4}}
    previous = {"number": 1, "sha256": sha256(first).hexdigest(), "statement_id": header["statement_id"]}
    two = drafts.statement([day], lines, closing=closing, start=one["closing"], number=2, previous=previous)
    paths = [folder / "2.json", folder / "1.json"]
    paths[0].write_bytes(drafts.written(drafts.changed(two, change)))
    paths[1].write_bytes(first)
    return verify_files(paths)


def test_statements_that_follow_each_other_are_accepted_in_any_order(tmp_path: Path) -> None:
    report = chain(tmp_path)
    assert [file.faults for file in report.files] == [(), ()]
    assert report.accepted


CHAIN_LIES = {
    "sha256": (put("statement", "previous", "sha256", "0" * 64), "previous.sha256 is 000"),
    "id": (put("statement", "previous", "statement_id", "stm_x"), "previous.statement_id is stm_x"),
    "first-again": (put("statement", "previous", None), "the first statement opens with 0"),
    "opening": (put("opening", "ranks", {}), "opening: ranks is {}"),
    "carried": (put("opening", "carried_minor", 1), "opening: carried_minor is 1, the closing before has 0"),
    "overlap": (put("statement", "from_day", "2025-01-04"), "is not after the to_day 2025-01-04"),
    "heads": (lambda d: d["days"].__setitem__(0, drafts.sealed_day("2025-01-05", d["days"][0]["events"])),
              "previous_head_hash is 000"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "sentence"), CHAIN_LIES.values(), ids=CHAIN_LIES)
def test_a_statement_that_does_not_follow_is_refused(tmp_path: Path, change: Any, sentence: str) -> None:
    later, first = chain(tmp_path, change).files
    assert first.accepted
    assert sentence in "\n".join(later.faults)


def test_a_closing_before_that_is_no_object_ends_in_sentences(tmp_path: Path) -> None:
    chain(tmp_path)
    before = drafts.written(busy() | {"closing": []})
    (tmp_path / "1.json").write_bytes(before)
    later = json.loads((tmp_path / "2.json").read_bytes())
    later["statement"]["previous"]["sha256"] = sha256(before).hexdigest()
    del later["signature"]
    (tmp_path / "2.json").write_bytes(drafts.written(later))
    first, second = verify_files([tmp_path / "1.json", tmp_path / "2.json"]).files
    assert "closing is [], expected is an object" in first.faults
    assert "the closing before has None" in "\n".join(second.faults)


def test_the_same_statement_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "1.json"
    path.write_bytes(drafts.written(busy()))
    assert "it is there twice" in "\n".join(verify_files([path, path]).files[1].faults)


def test_a_later_statement_alone_says_what_it_rests_on(tmp_path: Path) -> None:
    chain(tmp_path)
    report = verify_files([tmp_path / "2.json"])
    assert report.accepted
    assert any("rests on the bank's word" in note for note in report.files[0].notes)


# --- the command ----------------------------------------------------------------------------------------------------
def test_the_command_accepts_in_two_languages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.json").write_bytes(drafts.written(busy()))
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [drafts.SIGNATORY.jwk]}))
    assert main([str(tmp_path / "s.json"), "--jwks", str(tmp_path / "keys.json")]) == 0
    out = capsys.readouterr().out
    assert "ACCEPTED" in out
    assert "通过" in out
    assert f"{drafts.SIGNATORY.thumbprint} pinned" in out


def test_the_command_refuses_with_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.json").write_bytes(drafts.written(spoiled(put("data", "discount", "\x1b[2J"))))
    assert main([str(tmp_path / "s.json")]) == 1
    out = capsys.readouterr().out
    assert "REFUSED" in out
    assert "拒绝" in out
    assert "\x1b" not in out


def test_the_command_says_when_it_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.json").write_bytes(drafts.written(busy()))
    (tmp_path / "bad.json").write_text("[" * 100_000)
    (tmp_path / "none.json").write_text('{"keys": []}')
    for arguments in ([], ["--what"], [str(tmp_path)], [str(tmp_path / "no")], [str(tmp_path / "s.json"), "--jwks"]):
        assert main(arguments) == 2
    for name in ("bad.json", "none.json", "missing.json"):
        assert main([str(tmp_path / "s.json"), "--jwks", str(tmp_path / name)]) == 2
    assert main(["--help"]) == 0
    assert "Traceback" not in "".join(capsys.readouterr())


def test_a_path_that_is_no_file_is_unusable(tmp_path: Path) -> None:
    with pytest.raises(Unusable):
        verify_files([tmp_path / "\0"])


def test_the_folder_runs_alone_where_nothing_of_the_gateway_is(tmp_path: Path) -> None:
    copytree(Path(verify.__file__).parent, tmp_path / "verify")
    (tmp_path / "s.json").write_bytes(drafts.written(busy()))
    ran = subprocess.run(
        [sys.executable, "-I", "-c",
         "import runpy, sys; sys.path.insert(0, '.'); sys.argv = ['verify', 's.json'];"
         "sys.modules['gateway'] = None; runpy.run_module('verify', run_name='__main__')"],
        cwd=tmp_path, capture_output=True, check=False, env={"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert b"ACCEPTED" in ran.stdout
    assert ran.stderr == b""
