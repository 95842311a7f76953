"""What the gateway may do in its database: everything it needs, and nothing to what is kept for good."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from gateway.database import Database
from gateway.database.migrate import migrate
from gateway.database.roles import GATEWAY, logged_in_as
from gateway.settings import Settings, read_settings
from tests.conftest import World

HISTORY = ("audit", "event", "ledger_entry", "ledger_posting")


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """The user that migrates; `world` is over the same database."""
    conn = await asyncpg.connect(database_url)
    yield conn
    await conn.close()


async def test_the_gateway_works_as_the_role_gateway_alone(world: World) -> None:
    assert [tuple(row) for row in await world.sql("SELECT current_user")] == [(GATEWAY,)]
    rights = await world.sql("SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user")
    assert [tuple(row) for row in rights] == [(False, False, False)]
    assert not await world.sql(
        """SELECT relname FROM pg_class WHERE relnamespace IN ('public'::regnamespace, 'sandbox_bank'::regnamespace)
           AND relkind IN ('r', 'p', 'v') AND relowner <> 'owner'::regrole"""
    )


@pytest.mark.parametrize("table", HISTORY)
@pytest.mark.parametrize("statement", ["UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
async def test_history_is_neither_changed_nor_deleted_by_the_gateway(
    shared_world: World, table: str, statement: str
) -> None:
    """The right is missing, trigger or not: the refusal is the database's first one."""
    (column,) = await shared_world.sql(
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum = 2", table
    )
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match=f"permission denied for table {table}"):
        await shared_world.sql(statement.format(table, column[0], column[0]))


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE audit DISABLE TRIGGER audit_never_changed",
        "DROP TABLE audit",
        "CREATE TABLE mine (x int)",
        "CREATE OR REPLACE FUNCTION never_changed() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "SET ROLE owner; DELETE FROM audit",
        "DELETE FROM _yoyo_migration",
    ],
)
async def test_the_gateway_cannot_give_itself_what_it_lacks(database_url: str, statement: str) -> None:
    """Logged in as `gateway`, as the sandbox is: there is no other user behind the role."""
    conn = await asyncpg.connect(logged_in_as(database_url, GATEWAY))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.execute(statement)
        await conn.execute("GRANT DELETE ON audit TO gateway")  # without the right to give it: a warning, no effect
        assert not await conn.fetchval("SELECT has_table_privilege('audit', 'DELETE')")
    finally:
        await conn.close()


async def test_migrating_again_takes_back_what_somebody_gave(
    database_url: str, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await owner.execute("GRANT UPDATE, DELETE ON audit TO gateway")
    await owner.execute("CREATE TABLE added_by_hand (x int)")
    assert migrate(database_url) == []
    rights = "SELECT has_table_privilege('gateway', $1::text, 'UPDATE') OR has_table_privilege('gateway', $1, 'DELETE')"
    assert not await owner.fetchval(rights, "audit")
    assert await owner.fetchval(rights, "added_by_hand")


async def test_the_user_that_serves_gets_the_rights_of_the_gateway(
    database_url: str, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    name = f"serves_{await owner.fetchval('SELECT current_database()')}"
    await owner.execute(f"CREATE ROLE {name} LOGIN")
    try:
        serving = logged_in_as(database_url, name)
        with pytest.raises(asyncpg.PostgresError, match="role"):
            await Database.connect(serving, pool_size=1)
        migrate(database_url, serving=serving)
        database = await Database.connect(serving, pool_size=1)
        async with database.connection() as conn:
            assert await conn.fetchval("SELECT current_user") == GATEWAY
        await database.close()
    finally:
        await owner.execute(f"DROP ROLE {name}")


async def test_a_partition_is_dropped_by_the_owners_function_alone(
    world: World, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await owner.execute(
        """CREATE TABLE expiring (at int) PARTITION BY RANGE (at);
           CREATE TABLE expiring_1 PARTITION OF expiring FOR VALUES FROM (0) TO (10);
           CREATE TABLE expiring_2 PARTITION OF expiring FOR VALUES FROM (10) TO (20);
           CREATE TABLE kept (at int) PARTITION BY RANGE (at);
           CREATE TABLE kept_1 PARTITION OF kept FOR VALUES FROM (0) TO (10);
           CREATE TRIGGER kept_never_changed BEFORE UPDATE OR DELETE ON kept
             FOR EACH STATEMENT EXECUTE FUNCTION never_changed()"""
    )
    migrate(world.url)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await world.sql("DROP TABLE expiring_1")
    await world.sql("SELECT drop_partition('expiring', 'expiring_1')")
    assert [row["name"] for row in await world.sql(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'expiring'::regclass"
    )] == ["expiring_2"]  # fmt: skip
    with pytest.raises(asyncpg.RestrictViolationError, match="kept for good"):
        await world.sql("SELECT drop_partition('kept', 'kept_1')")
    with pytest.raises(asyncpg.InvalidParameterValueError, match="no partition of"):
        await world.sql("SELECT drop_partition('expiring', 'audit')")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await world.sql("DELETE FROM kept_1")


def test_the_address_for_migrating_is_that_of_the_database_unless_another_is_given() -> None:
    given = {"PARASOL_DATABASE_URL": "postgresql://serves@db/p"}
    assert read_settings(given).owner_url == "postgresql://serves@db/p"
    assert read_settings({**given, "PARASOL_MIGRATE_URL": "postgresql://makes@db/p"}).owner_url == (
        "postgresql://makes@db/p"
    )
    assert Settings().owner_url == ""


@pytest.mark.parametrize("table", HISTORY)
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "TRUNCATE {} CASCADE"])
async def test_history_is_not_deleted_by_its_owner_either(
    owner: "asyncpg.Connection[asyncpg.Record]", table: str, statement: str
) -> None:
    await owner.execute("SET ROLE owner")
    with pytest.raises(asyncpg.RestrictViolationError, match="never changed or deleted"):
        await owner.execute(statement.format(table))
