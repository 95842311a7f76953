"""A home of before version 2 is refused in one sentence that says what to do, by whoever comes to it."""

import asyncpg
import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.database.migrate import OldHome, check_home, migrate
from gateway.port import CannotServe
from gateway.run import GatewayEnded, Premises, run
from tests.conftest import with_database
from tests.faults.test_run import own_signals as own_signals
from tests.faults.test_run import premises as premises

CALCULATED = """
    INSERT INTO statement (statement_id, partner_id, number, currency, from_day, to_day, state, requested_by,
        requested_at_ms, closing)
    VALUES ('stm_1', 'parkco', 1, 'CNY', '2026-01-01', '2026-01-01', 'CALCULATED', 'ops-maker', 0,
        '{"versions": [{"contract": "a", "sha256": "0", "version": 1}]}')"""


async def make_old(url: str) -> None:
    """As a program of before left it: documents applied, and no migration of version 2 on."""
    conn = await asyncpg.connect(url)
    try:
        await conn.execute("DELETE FROM _yoyo_migration WHERE migration_id >= '0010'")
    finally:
        await conn.close()


async def test_migrate_refuses_an_old_home_and_changes_nothing(database_url: str) -> None:
    await make_old(database_url)
    with pytest.raises(OldHome, match=r"new --home, or remove the old one with `make clean`\.$"):
        migrate(database_url)
    with pytest.raises(OldHome):
        check_home(database_url)


async def test_statements_that_do_not_tell_when_versions_start_are_not_gone_on_with(database_url: str) -> None:
    conn = await asyncpg.connect(database_url)
    try:
        await conn.execute("ALTER TABLE statement DROP CONSTRAINT statement_closing_tells_starts")
        await conn.execute("DELETE FROM _yoyo_migration WHERE migration_id >= '0018'")
        check_home(database_url)  # nothing was calculated yet
        await conn.execute(CALCULATED)
    finally:
        await conn.close()
    with pytest.raises(OldHome):
        check_home(database_url)


async def test_the_command_line_says_it_in_one_sentence(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await make_old(database_url)
    monkeypatch.setenv("PARASOL_DATABASE_URL", database_url)
    said = CliRunner().invoke(app, ["migrate"])
    assert (said.exit_code, said.stderr.strip()) == (2, f"parasol: {OldHome()}")


async def test_run_says_it_in_one_sentence(
    database_url: str, premises: Premises, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_old(database_url)
    monkeypatch.setenv("PARASOL_DATABASE_URL", database_url)
    with pytest.raises(GatewayEnded) as ended:
        run(premises, demo=["true"], stay=False)
    assert str(ended.value) == str(OldHome())
    assert isinstance(ended.value, CannotServe)


async def test_a_home_of_now_is_taken(database_url: str) -> None:
    check_home(database_url)
    assert migrate(database_url) == []


async def test_a_first_migration_that_was_cut_off_is_no_old_home(server_url: str) -> None:
    admin = await asyncpg.connect(server_url)
    name = "cut_off_migration"
    await admin.execute(f"CREATE DATABASE {name}")
    try:
        check_home(with_database(server_url, name))
        assert migrate(with_database(server_url, name))
        await make_old(with_database(server_url, name))  # cut off just before version 2: nothing was applied yet
        check_home(with_database(server_url, name))
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()
