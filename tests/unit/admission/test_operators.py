"""Operators' keys: shown once, hashed at rest, recognised on every worker, gone within a second."""

import json
import stat
from pathlib import Path

import pytest

from gateway.admission.operators import OperatorBook, enrol, is_whole, new_operator_key, revoke
from gateway.admission.refusals import OperatorNotAccepted
from gateway.admission.sandbox_operators import ensure_sandbox_operators
from gateway.call import Operator
from gateway.database import Database
from gateway.database.changes import Change

NOW = 1_760_000_000_000
OLGA = Operator("olga", "Olga", "maker")
CHANGED = [Change(1, "operator", "olga")]


async def _book(database: Database) -> OperatorBook:
    book = OperatorBook(database)
    await book.load()
    return book


async def test_an_enrolled_key_says_who_it_is(bare_database: Database) -> None:
    key = new_operator_key()
    async with bare_database.transaction() as conn:
        assert await enrol(conn, OLGA, key, actor="tester", reason="test", now_ms=NOW)
    book = await _book(bare_database)
    assert book.recognise(f"Bearer {key}") == OLGA
    assert book.recognise(f"bearer {key}") == OLGA


async def test_any_other_header_is_refused_alike(bare_database: Database) -> None:
    key = new_operator_key()
    async with bare_database.transaction() as conn:
        await enrol(conn, OLGA, key, actor="tester", reason="test", now_ms=NOW)
    book = await _book(bare_database)
    for header in (None, "", "Bearer", f"Basic {key}", f"Bearer {key[:-1]}0x", f"Bearer {new_operator_key()}", key):
        with pytest.raises(OperatorNotAccepted) as refused:
            book.recognise(header)
        assert refused.value.detail == OperatorNotAccepted.title


async def test_a_revoked_key_opens_nothing_once_the_worker_has_heard(bare_database: Database) -> None:
    key = new_operator_key()
    async with bare_database.transaction() as conn:
        await enrol(conn, OLGA, key, actor="tester", reason="test", now_ms=NOW)
    book = await _book(bare_database)
    async with bare_database.transaction() as conn:
        assert await revoke(conn, "olga", actor="tester", reason="test", now_ms=NOW)
        assert not await revoke(conn, "olga", actor="tester", reason="test", now_ms=NOW)
    await book.refresh(CHANGED)
    with pytest.raises(OperatorNotAccepted):
        book.recognise(f"Bearer {key}")
    async with bare_database.transaction() as conn:
        assert not await enrol(conn, OLGA, key, actor="tester", reason="test", now_ms=NOW), (
            "the same key does not come back"
        )


async def test_a_new_key_takes_the_place_of_the_old(bare_database: Database) -> None:
    old, new = new_operator_key(), new_operator_key()
    for key in (old, new):
        async with bare_database.transaction() as conn:
            await enrol(conn, OLGA, key, actor="tester", reason="test", now_ms=NOW)
    book = await _book(bare_database)
    assert book.recognise(f"Bearer {new}") == OLGA
    with pytest.raises(OperatorNotAccepted):
        book.recognise(f"Bearer {old}")


async def test_the_database_holds_no_key(bare_database: Database) -> None:
    key = new_operator_key()
    async with bare_database.transaction() as conn:
        await enrol(conn, OLGA, key, actor="tester", reason="test", now_ms=NOW)
        rows = [str(dict(row)) for table in ("operator", "audit") for row in await conn.fetch(f"SELECT * FROM {table}")]
    assert not any(key[4:] in row for row in rows)


def test_a_mistyped_key_is_known_without_a_look_up() -> None:
    key = new_operator_key()
    assert is_whole(key)
    assert key.startswith("pop_")
    for place in range(len(key)):
        assert not is_whole(key[:place] + ("a" if key[place] != "a" else "b") + key[place + 1 :])


async def test_the_sandbox_has_two_makers_and_two_checkers_that_stay(bare_database: Database, tmp_path: Path) -> None:
    path = await ensure_sandbox_operators(bare_database, tmp_path, now_ms=NOW)
    first = path.read_bytes()
    assert await ensure_sandbox_operators(bare_database, tmp_path, now_ms=NOW) == path
    assert path.read_bytes() == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    book = await _book(bare_database)
    found = [book.recognise(f"Bearer {entry['key']}") for entry in json.loads(first)]
    assert [(person.operator_id, person.role) for person in found] == [
        ("ops-maker", "maker"),
        ("ops-checker", "checker"),
        ("ops-maker-2", "maker"),
        ("ops-checker-2", "checker"),
    ]
