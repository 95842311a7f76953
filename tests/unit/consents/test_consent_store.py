"""Consents on a real database: what the rows allow, who is told, and what the worker's book remembers."""

import asyncpg
import pytest

from gateway.consents import store
from gateway.consents.book import ConsentBook
from gateway.consents.consent import Consent, ConsentKind
from gateway.database import Database
from gateway.database.changes import Change
from gateway.oauth.expiry import expire_consents_due
from gateway.refusal import ForeignResource, UnknownResource

NOW = 1_790_000_000_000


async def awaiting(database: Database, *, expires_ms: int | None = None) -> Consent:
    async with database.transaction() as conn:
        return await store.create(
            conn, partner_id="parkco", client_id="parkco-app", kind=ConsentKind.ACCOUNT_ACCESS,
            body={"Permissions": []}, expires_ms=expires_ms, now_ms=NOW,
        )  # fmt: skip


async def given(database: Database, *, expires_ms: int | None = None) -> Consent:
    consent = await awaiting(database, expires_ms=expires_ms)
    async with database.transaction() as conn:
        return await store.authorise(
            conn, consent.consent_id, customer_id="cus_1", account_ids=["acc_1"], actor="customer:cus_1", now_ms=NOW
        )


async def changes(database: Database) -> list[tuple[str, str]]:
    async with database.connection() as conn:
        return [(row["kind"], row["key"]) for row in await conn.fetch("SELECT kind, key FROM change ORDER BY seq")]


async def test_a_consent_is_read_as_it_was_written(bare_database: Database) -> None:
    consent = await given(bare_database)
    async with bare_database.connection() as conn:
        assert await store.load(conn, consent.consent_id, partner_id="parkco") == consent


async def test_another_partner_does_not_read_it(bare_database: Database) -> None:
    consent = await awaiting(bare_database)
    async with bare_database.connection() as conn:
        with pytest.raises(ForeignResource):
            await store.load(conn, consent.consent_id, partner_id="shopco")
        with pytest.raises(UnknownResource):
            await store.load(conn, "cns_none", partner_id="parkco")


async def test_another_partner_does_not_end_it(bare_database: Database) -> None:
    consent = await given(bare_database)
    with pytest.raises(ForeignResource):
        async with bare_database.transaction() as conn:
            await store.revoke(conn, consent.consent_id, partner_id="shopco", actor="partner", now_ms=NOW)
    async with bare_database.connection() as conn:
        assert (await store.load(conn, consent.consent_id, partner_id="parkco")).status == "AUTH"


async def test_ending_a_consent_ends_its_grants_and_tells_every_worker(bare_database: Database) -> None:
    consent = await given(bare_database)
    async with bare_database.transaction() as conn:
        grant = await store.create_grant(conn, consent, scopes=frozenset(("accounts",)), now_ms=NOW)
    async with bare_database.transaction() as conn:
        await store.revoke(conn, consent.consent_id, partner_id="parkco", actor="partner:parkco", now_ms=NOW)
    told = await changes(bare_database)
    assert ("grant", grant.grant_id) in told
    assert told.count(("consent", consent.consent_id)) == 2  # given, ended
    async with bare_database.connection() as conn:
        assert await store.is_revoked(conn, grant.grant_id)
        found = await store.find_grant(conn, grant.grant_id)
        assert found is not None
        assert found.revoked_ms == NOW
        actions = [row[0] for row in await conn.fetch("SELECT action FROM audit ORDER BY seq")]
    assert actions == ["consent.authorised", "consent.cancelled"]


async def test_a_consent_expires_once_and_its_grants_with_it(bare_database: Database) -> None:
    consent = await given(bare_database, expires_ms=NOW + 1000)
    async with bare_database.transaction() as conn:
        grant = await store.create_grant(conn, consent, scopes=frozenset(("accounts",)), now_ms=NOW)
    assert await expire_consents_due(bare_database, NOW + 999) == 0
    assert await expire_consents_due(bare_database, NOW + 1000) == 1
    assert await expire_consents_due(bare_database, NOW + 1000) == 0
    async with bare_database.connection() as conn:
        assert (await store.load(conn, consent.consent_id, partner_id="parkco")).status == "EXPD"
        assert await store.is_revoked(conn, grant.grant_id)


@pytest.mark.parametrize(
    "change",
    ["status = 'AWAU'", "status = 'RJCT'", "partner_id = 'shopco', status = 'CANC'", "body = '{}', status = 'CANC'",
     "account_ids = '{acc_9}', status = 'CANC'", "account_ids = '{acc_9}'"],
)  # fmt: skip
async def test_the_database_itself_keeps_a_consent_as_it_was_given(bare_database: Database, change: str) -> None:
    consent = await given(bare_database)
    async with bare_database.connection() as conn:
        with pytest.raises(asyncpg.RestrictViolationError):
            await conn.execute(f"UPDATE consent SET {change} WHERE consent_id = $1", consent.consent_id)


async def test_the_database_itself_refuses_a_consent_of_nobody(bare_database: Database) -> None:
    consent = await awaiting(bare_database)
    async with bare_database.connection() as conn:
        with pytest.raises(asyncpg.CheckViolationError):
            await conn.execute("UPDATE consent SET status = 'AUTH' WHERE consent_id = $1", consent.consent_id)


async def test_the_book_forgets_what_the_feed_says_has_changed(bare_database: Database) -> None:
    book, consent = ConsentBook(bare_database), await awaiting(bare_database)
    assert (await book.get(consent.consent_id)).status == "AWAU"
    async with bare_database.transaction() as conn:
        await store.reject(conn, consent.consent_id, customer_id=None, actor="customer", now_ms=NOW)
    assert (await book.get(consent.consent_id)).status == "AWAU"  # until the feed has said so, within a second
    await book.refresh([Change(1, "consent", consent.consent_id)])
    assert (await book.get(consent.consent_id)).status == "RJCT"


async def test_the_book_knows_no_unknown_consent(bare_database: Database) -> None:
    with pytest.raises(UnknownResource):
        await ConsentBook(bare_database).get("cns_none")
