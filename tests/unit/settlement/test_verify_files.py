"""Statements as files: any bytes at all, small ones and archives, several together."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.settlement.verify import verify_files
from gateway.settlement.verify.canonical import Refused, whole_value
from tests.unit.settlement import drafts
from tests.unit.settlement.cases import DAY, busy, busy_days, check, simple
from tests.unit.settlement.drafts import confirmed, goal
from tests.unit.settlement.statements import Statement, statement


# --- bytes --------------------------------------------------------------------------------------------------------
def test_a_changed_bit_is_refused_wherever_it_is(tmp_path: Path) -> None:
    """Of every third byte of a small statement, and of every 89th of one with everything in it."""
    path = tmp_path / "statement.json"
    for raw, step in ((simple(confirmed(1)).small(), 3), (busy().small(), 89)):
        changed = bytearray(raw)
        for place in range(0, len(raw), step):
            bit = 1 << (place * 5 + place // 8) % 8
            changed[place] ^= bit
            path.write_bytes(changed)
            assert verify_files([path], workers=1).files[0].faults, f"bit {bit} of byte {place}"
            changed[place] ^= bit
        path.write_bytes(changed)
        assert verify_files([path], workers=1).accepted


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    raw = simple(confirmed(1)).small()
    for length in range(1, len(raw), 41):
        assert check(raw[:length], tmp_path).faults
        assert check(raw[length:], tmp_path).faults


JUNK = (None, True, -1, 1 << 64, 10**300, "", "\x1b[2J", "x" * 999, [], {}, [[]], {"": 0})


def places(of: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, name or number) in a document."""
    for step in list(of) if isinstance(of, dict) else range(len(of)):
        yield of, step
        if isinstance(of[step], dict | list):
            yield from places(of[step])


@pytest.mark.parametrize("junk", JUNK, ids=map(repr, range(len(JUNK))))
def test_any_value_anywhere_ends_in_printable_sentences_and_never_in_a_stack_trace(junk: Any, tmp_path: Path) -> None:
    """Signed and hashed as it is. Free texts may be anything, so what counts is that each is judged."""
    contract = {"contract": drafts.CONTRACT["contract"], "discount": drafts.CONTRACT["discount"][1:2],
                "commission": drafts.CONTRACT["commission"][1:2]}  # fmt: skip
    day = [drafts.effective(0, contract), confirmed(1, discount="tenth"), goal(2, "SPEND", spend=900)]
    honest = statement({DAY: day}, contracts=[contract])
    parts = [json.loads(part) for part in honest.parts]
    refused = judged = 0
    for of, step in [*places(honest.manifest), *places(parts)]:
        kept, of[step] = of[step], junk
        report = check(rewritten(honest, parts).small(), tmp_path)
        assert all(fault.isprintable() and len(fault) < 999 for fault in report.faults)
        judged, refused = judged + 1, refused + bool(report.faults)
        of[step] = kept
    assert judged > 200
    assert refused > judged * 9 // 10


def rewritten(made: Statement, parts: list[Any]) -> Statement:
    """The parts hashed as they are now, where the manifest still says anything of them."""
    made.parts = [drafts.canonical(part) for part in parts]
    entries = made.manifest["parts"]
    if isinstance(entries, list) and len(entries) == len(parts):
        for entry, raw in zip(entries, made.parts, strict=True):
            if isinstance(entry, dict) and isinstance(entry.get("sha256"), str) and entry["sha256"].isalnum():
                entry |= {"sha256": sha256(raw).hexdigest(), "size": len(raw)}
    return made


HOSTILE = {
    "not-utf8": b'"\xff\xfe"',
    "nested": b"[" * 200_000,
    "nested-objects": b'{"a":' * 200_000,
    "number": b"9" * 100_000,
    "minus-zero": b"-0",
    "fraction": b"1.0",
    "exponent": b"1e2",
    "nan": b"NaN",
    "surrogate": b'"\\ud800"',
    "twice": b'{"a":1,"a":1}',
    "blank": b'{"a": 1}',
    "unsorted": b'{"b":1,"a":1}',
    "escape": b'"\\u0041"',
    "slash": b'"\\/"',
    "two": b"1 1",
    "nothing": b"",
    "many": b"[" + b"0," * (7 << 20) + b"0]",
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes_are_refused_in_a_sentence_wherever_they_stand(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(Refused) as caught:
        whole_value(raw)
    assert len(str(caught.value)) < 400
    as_manifest = b'{"manifest":' + raw + b',"parts":[]}\n'
    as_part = b'{"manifest":' + drafts.canonical(simple().signed()) + b',"parts":[' + raw + b"]}\n"
    for whole in (as_manifest, as_part, raw):
        faults = check(whole, tmp_path).faults
        assert faults
        assert all(len(fault) < 500 and fault.isprintable() for fault in faults)


def test_members_that_are_there_twice_are_named(tmp_path: Path) -> None:
    made = simple(confirmed(1))
    made.parts[0] = made.parts[0].replace(b'"amount_minor":1998,', b'"amount_minor":1998,"amount_minor":1998,', 1)
    made.manifest["parts"][0] |= {"sha256": sha256(made.parts[0]).hexdigest(), "size": len(made.parts[0])}
    assert any("member amount_minor is there twice" in fault for fault in check(made.small(), tmp_path).faults)


STRANGE = {
    "empty": (b"", "it has 0 bytes"),
    "jwks": (b'{"keys":[]}', "a set of keys (JWKS)"),
    "jwks-blanks": (b'{\n  "keys" : []}', "a set of keys (JWKS)"),
    "page": (b"\n<!DOCTYPE html><html>", "a page of a web site"),
    "version-1": (b'{"closing":{"accrued":{}},"contracts":[', "format version 1"),
    "gzip": (b"\x1f\x8b\x08\x00", "it is compressed"),
    "zip": (b"PK\x03\x04", "it is compressed"),
    "pdf": (b"%PDF-1.7", "it is a PDF"),
    "json": (b'{"Data":{}}', "it is other JSON"),
    "text": (b"dear partner", "it begins like nothing that is known"),
}


@pytest.mark.parametrize(("raw", "sentence"), STRANGE.values(), ids=STRANGE)
def test_a_file_that_is_no_statement_is_told_so_and_what_it_looks_like(
    tmp_path: Path, raw: bytes, sentence: str
) -> None:
    (fault,) = check(raw, tmp_path).faults
    assert fault.startswith("this is not a statement: ")
    assert sentence in fault


# --- archives (§12) -------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def wide() -> Statement:
    """More than 16 MiB in five days' parts."""
    days = {DAY: busy_days()[DAY]}
    for place in range(4):
        note = {"note": "x" * (4 << 20)}
        day = f"2025-01-1{place}"
        days[day] = [
            drafts.event(100 + place, "claim.owned", amount=0, data=note, business_day=day),
            goal(200 + place, business_day=day),
            goal(300 + place, "SPEND", spend=9000, subject_token="idt_a", business_day=day),
        ]
    return statement(days)


def test_a_large_statement_is_an_archive_and_many_processes_say_what_one_says(tmp_path: Path, wide: Statement) -> None:
    alone = check(wide.archive(), tmp_path)
    assert alone.faults == ()
    assert alone.sha256 == sha256(wide.archive()).hexdigest()
    assert check(wide.archive(), tmp_path, workers=2) == alone


def test_processes_tell_the_faults_that_one_tells(tmp_path: Path, wide: Statement) -> None:
    raw = wide.archive()
    broken = raw.replace(b'"amount_minor":9000', b'"amount_minor":9001')
    alone = check(broken, tmp_path)
    assert len(alone.faults) == 5
    assert check(broken, tmp_path, workers=2) == alone


def test_a_large_statement_in_one_json_and_a_small_archive_are_refused(tmp_path: Path, wide: Statement) -> None:
    assert "which is for an archive" in check(wide.small(), tmp_path).faults[0]
    assert "which is for a file of one JSON value" in check(busy().archive(), tmp_path).faults[0]


MEMBERS = {
    "name": lambda m: setattr(m, "name", m.name.replace("part-000002", "part-000009")),
    "path": lambda m: setattr(m, "name", m.name.replace("part-000002", "../part-000002")),
    "absolute": lambda m: setattr(m, "name", m.name.replace("part-000002.json", "/etc/passwd")),
    "link": lambda m: setattr(m, "type", b"2"),
    "mode": lambda m: setattr(m, "mode", 0o755),
    "owner": lambda m: setattr(m, "uid", 1000),
    "owner-name": lambda m: setattr(m, "uname", "root"),
    "time": lambda m: setattr(m, "mtime", 1),
}


@pytest.mark.parametrize("change", MEMBERS.values(), ids=MEMBERS)
def test_an_archive_of_other_members_than_the_rules_have_is_refused(
    tmp_path: Path, wide: Statement, change: Any
) -> None:
    before = sorted(tmp_path.parent.iterdir())
    (fault,) = check(wide.archive(change), tmp_path).faults
    assert "of archive member" in fault or "an archive that begins with" in fault
    assert sorted(tmp_path.parent.iterdir()) == before


def test_an_archive_with_something_before_between_or_behind_is_refused(tmp_path: Path, wide: Statement) -> None:
    raw = wide.archive()
    manifest = drafts.canonical(wide.signed())
    padding = 512 + len(manifest)
    assert raw[padding] == 0
    changes = {
        "does not end with two blocks": raw + bytes(512),
        "does not end with two": raw[:-512],
        "the archive ends where the header": raw[:-1024],
        "filled up with something else": raw[:padding] + b"x" + raw[padding + 1 :],
        "is not written in eleven octal digits": raw[:124] + b"\x80" + raw[125:],
        "has 8589934591 bytes": raw[:124] + b"77777777777" + raw[135:],
        "the archive is empty": bytes(1024),
    }
    for sentence, changed in changes.items():
        told = " ".join(check(changed, tmp_path).faults)
        assert sentence in told or "this is not a statement" in told, sentence


def test_a_changed_bit_of_an_archive_is_refused(tmp_path: Path, wide: Statement) -> None:
    raw = bytearray(wide.archive())
    path = tmp_path / "statement.tar"
    heads = [0, 100, 130, 156, 300, 511, 700, 5000, len(raw) - 1000, len(raw) - 1]
    for place in [*heads, *range(30_000, len(raw), len(raw) // 6)]:
        raw[place] ^= 1 << place % 8
        path.write_bytes(raw)
        assert verify_files([path], workers=1).files[0].faults, place
        raw[place] ^= 1 << place % 8
