"""Chore: end consents whose time is over."""

from gateway.consents import store as consents
from gateway.database import Database


async def expire_consents_due(database: Database, now_ms: int) -> int:
    """Consents that say EXPD from now on."""
    async with database.transaction() as conn:
        return await consents.expire_due(conn, now_ms=now_ms)
