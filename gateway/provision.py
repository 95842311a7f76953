"""What a sandbox needs before it can serve: schema, agreed documents, keys, demo credentials. Safe to run again."""

from pathlib import Path

from gateway import audit
from gateway.admission.operators import enrol, has_operators, new_operator_key, revoke
from gateway.admission.sandbox_operators import ensure_sandbox_operators
from gateway.call import Operator
from gateway.clock import now_ms
from gateway.corebank.sandbox.people import Counter
from gateway.database import Database
from gateway.database.migrate import migrate, missing_migrations
from gateway.keyring import STATEMENT, Keyring, read_kek
from gateway.partners import store
from gateway.partners.apply import apply
from gateway.partners.plan import Plan
from gateway.partners.sandbox_keys import ensure_sandbox_keys, known_issuer
from gateway.partners.snapshot import SnapshotKeeper
from gateway.rooms import CURRENCY
from gateway.routes import POLICY_OPERATIONS
from gateway.settings import Settings


async def provision(settings: Settings) -> None:
    """Migrate, make keys, apply partners/ and policies/, write the sandbox's credentials, seed its bank."""
    migrate(settings.owner_url, serving=settings.database_url)
    database = await Database.connect(settings.database_url, pool_size=2)
    try:
        keyring = Keyring(read_kek(settings.home_path, make=settings.sandbox))
        async with database.transaction() as conn:
            await keyring.ensure(conn)
        await apply(database, settings.data_path, POLICY_OPERATIONS, actor="sandbox",
                    reason="the sandbox starts with this folder", now_ms=now_ms())  # fmt: skip
        if settings.sandbox:
            await ensure_sandbox_operators(database, settings.home_path, now_ms=now_ms())
            await furnish_partners(database, settings.home_path, issuer=settings.issuer)
    finally:
        await database.close()


class NotReadyToServe(Exception):
    """Something that serving needs, and that a sandbox makes by itself, is not there; the text says what to do."""


async def check_provisioned(settings: Settings) -> None:
    """Outside a sandbox: key file, schema, documents, operators. Raises NotReadyToServe, KeyEncryptionKeyMissing."""
    read_kek(settings.home_path, make=False)
    database = await Database.connect(settings.database_url, pool_size=1)
    try:
        async with database.connection() as conn:
            if missing := await missing_migrations(conn):
                raise NotReadyToServe(f"The database lacks {len(missing)} migrations: run `parasol migrate` first")
            if not await store.count_versions(conn):
                raise NotReadyToServe(
                    "No partner and no policy is in force: run `parasol apply FOLDER --reason WHY` first, with the "
                    "folder that holds partners/ and policies/"
                )
            if not await has_operators(conn):
                raise NotReadyToServe(
                    "Nobody of bank operations has a key: run `parasol enrol ID NAME --role maker --reason WHY` for "
                    "each person, one of them --role checker"
                )
    finally:
        await database.close()


async def enrol_operator(database: Database, operator: Operator, *, actor: str, reason: str) -> str:
    """A new key for a person of bank operations, shown once; the one of before opens nothing any more."""
    key = new_operator_key()
    async with database.transaction() as conn:
        await enrol(conn, operator, key, actor=actor, reason=reason, now_ms=now_ms())
    return key


async def revoke_operator(database: Database, operator_id: str, *, actor: str, reason: str) -> bool:
    """False: nobody of that id has a key."""
    async with database.transaction() as conn:
        return await revoke(conn, operator_id, actor=actor, reason=reason, now_ms=now_ms())


async def furnish_partners(database: Database, home: Path, *, issuer: str) -> None:
    """A sandbox's partners, also those applied while it runs: keys for their apps, an account to be paid on."""
    await ensure_sandbox_keys(database, home, issuer=issuer, now_ms=now_ms())
    await _seed_bank(database)


async def apply_to(
    database: Database, folder: Path, settings: Settings, *, remove: bool, actor: str, reason: str
) -> Plan:
    """`parasol apply`; in a sandbox a new partner can call at once, at the address that the running one has."""
    done = await apply(database, folder, POLICY_OPERATIONS, actor=actor, reason=reason, now_ms=now_ms(), remove=remove)
    if settings.sandbox and (issuer := known_issuer(settings.home_path)) is not None:
        await furnish_partners(database, settings.home_path, issuer=issuer)
    return done


async def rotate_statement_key(database: Database, settings: Settings, *, actor: str, reason: str) -> str:
    """The next key signs days and statements from now on, and another one is published to be next; its kid."""
    keyring = Keyring(read_kek(settings.home_path, make=False))
    async with database.transaction() as conn:
        kid = await keyring.rotate(conn, STATEMENT)
        await keyring.prepare(conn, STATEMENT)
        await audit.record(
            conn, actor=actor, action="statement_key.rotated", subject=kid, detail={"reason": reason}, now_ms=now_ms()
        )
    return kid


async def _seed_bank(database: Database) -> None:
    """Demo customers, and an account at the sandbox bank for each partner that is paid there."""
    snapshots = SnapshotKeeper(database)
    await snapshots.load()
    partners = snapshots.current.partners.values()
    house = [(partner.settlement_account, partner.name) for partner in partners if partner.settlement_account]
    await Counter(database).seed(house, currency=CURRENCY)
