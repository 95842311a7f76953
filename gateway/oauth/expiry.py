"""Chores: forget what no check would accept any more, and end consents whose time is over."""

from gateway.consents import store as consents
from gateway.database import Database
from gateway.oauth import replay, store

SPENT_BATCH = 20_000  # proofs that one run drops: more than a busy second makes


async def forget_due(database: Database, now_ms: int) -> int:
    """Spent proofs, pushed requests, codes, revocations; returns how many rows went."""
    async with database.transaction() as conn:
        spent = await replay.forget_expired(conn, now_ms=now_ms, limit=SPENT_BATCH)
        return spent + await store.forget(conn, now_ms=now_ms)


async def expire_consents_due(database: Database, now_ms: int) -> int:
    """Consents that say EXPD from now on."""
    async with database.transaction() as conn:
        return await consents.expire_due(conn, now_ms=now_ms)
