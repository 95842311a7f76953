"""SQL of agreements, lots and sessions. One live session a plate and the lots' counts are the database's own rules."""

from collections.abc import Mapping

from asyncpg import Record

from gateway.database import Connection
from gateway.database.idempotency import KeyedRequest, made_by_key
from gateway.parking.model import Agreement, BlockReason, Session, SessionStatus

_AGREEMENT = """agreement_id, partner_id, plate_digest, plate_masked, consent_id, subject_token, status,
    created_at_ms"""
_SESSION = """session_id, partner_id, site_id, plate_digest, plate_masked, agreement_id, status, block_reason,
    entered_at_ms, left_at_ms, created_at_ms, changed_at_ms"""


async def add_agreement(conn: Connection, agreement: Agreement) -> bool:
    """False: the plate is bound already."""
    added = await conn.fetchval(
        f"""INSERT INTO vehicle_agreement ({_AGREEMENT}, changed_at_ms)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)
            ON CONFLICT (partner_id, plate_digest) WHERE status = 'ACTIVE' DO NOTHING RETURNING true""",  # noqa: S608
        agreement.agreement_id, agreement.partner_id, agreement.plate_digest, agreement.plate_masked,
        agreement.consent_id, agreement.subject_token, agreement.status, agreement.created_at_ms,
    )  # fmt: skip
    return bool(added)


async def end_agreement(conn: Connection, agreement_id: str, *, now_ms: int) -> None:
    await conn.execute(
        "UPDATE vehicle_agreement SET status = 'ENDED', changed_at_ms = $2 WHERE agreement_id = $1",
        agreement_id, now_ms,
    )  # fmt: skip


async def active_agreement(conn: Connection, partner_id: str, plate_digest: str) -> Agreement | None:
    row = await conn.fetchrow(
        f"""SELECT {_AGREEMENT} FROM vehicle_agreement
            WHERE partner_id = $1 AND plate_digest = $2 AND status = 'ACTIVE'""",  # noqa: S608
        partner_id, plate_digest,
    )  # fmt: skip
    return Agreement(**row) if row else None


async def find_agreement(conn: Connection, agreement_id: str) -> Agreement | None:
    row = await conn.fetchrow(
        f"SELECT {_AGREEMENT} FROM vehicle_agreement WHERE agreement_id = $1",  # noqa: S608
        agreement_id,
    )
    return Agreement(**row) if row else None


async def owes(conn: Connection, partner_id: str, plate_digest: str) -> bool:
    return bool(
        await conn.fetchval(
            """SELECT EXISTS (SELECT FROM parking_session
               WHERE partner_id = $1 AND plate_digest = $2 AND status = 'OWING')""",
            partner_id, plate_digest,
        )
    )  # fmt: skip


async def park(conn: Connection, session: Session, keyed: KeyedRequest, *, capacity: int) -> Session:
    """Write a session that may begin; it comes back BLOCKED where the plate is inside or the lot is full."""
    if not await _insert(conn, session, keyed):
        return await block(conn, session, keyed, reason=BlockReason.ALREADY_PARKED)
    if not await _take_space(conn, session, capacity=capacity):
        await conn.execute("DELETE FROM parking_session WHERE session_id = $1", session.session_id)
        return await block(conn, session, keyed, reason=BlockReason.LOT_FULL)
    return session


async def block(conn: Connection, session: Session, keyed: KeyedRequest, *, reason: BlockReason) -> Session:
    """Write the entry as blocked: the record of why the barrier asked for another way to pay."""
    blocked = Session(
        session.session_id, session.partner_id, session.site_id, session.plate_digest, session.plate_masked,
        session.agreement_id, SessionStatus.BLOCKED, reason, session.entered_at_ms, None, session.created_at_ms,
        session.changed_at_ms,
    )  # fmt: skip
    await _insert(conn, blocked, keyed)
    return blocked


async def _insert(conn: Connection, session: Session, keyed: KeyedRequest) -> bool:
    added = await conn.fetchval(
        f"""INSERT INTO parking_session ({_SESSION}, idempotency_key, request_hash)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
            ON CONFLICT (partner_id, plate_digest) WHERE status IN ('PARKED', 'CHARGING') DO NOTHING
            RETURNING true""",  # noqa: S608
        session.session_id, session.partner_id, session.site_id, session.plate_digest, session.plate_masked,
        session.agreement_id, session.status.value, session.block_reason, session.entered_at_ms, session.left_at_ms,
        session.created_at_ms, session.changed_at_ms, keyed.key, keyed.request_hash,
    )  # fmt: skip
    return bool(added)


async def _take_space(conn: Connection, session: Session, *, capacity: int) -> bool:
    """`capacity` 0 is a lot whose size nobody has agreed: counted, not limited."""
    taken = await conn.fetchval(
        """INSERT INTO parking_lot AS lot (partner_id, site_id, parked) VALUES ($1, $2, 1)
           ON CONFLICT (partner_id, site_id) DO UPDATE SET parked = lot.parked + 1
           WHERE $3 = 0 OR lot.parked < $3 RETURNING true""",
        session.partner_id, session.site_id, capacity,
    )  # fmt: skip
    return bool(taken)


async def free_space(conn: Connection, session: Session) -> None:
    await conn.execute(
        "UPDATE parking_lot SET parked = parked - 1 WHERE partner_id = $1 AND site_id = $2",
        session.partner_id, session.site_id,
    )  # fmt: skip


async def parked_cars(conn: Connection, partner_id: str) -> Mapping[str, int]:
    """Cars inside by site."""
    rows = await conn.fetch("SELECT site_id, parked FROM parking_lot WHERE partner_id = $1", partner_id)
    return {row["site_id"]: row["parked"] for row in rows}


async def find_session(conn: Connection, session_id: str) -> Session | None:
    row = await conn.fetchrow(f"SELECT {_SESSION} FROM parking_session WHERE session_id = $1", session_id)  # noqa: S608
    return _session(row) if row else None


async def session_by_key(conn: Connection, keyed: KeyedRequest) -> Session | None:
    """The session that this key has made. Raises IdempotencyKeyReused."""
    session_id = await made_by_key(conn, keyed, table="parking_session", column="session_id")
    return await find_session(conn, session_id) if session_id is not None else None


async def lock_session(conn: Connection, session_id: str) -> Session:
    row = await conn.fetchrow(
        f"SELECT {_SESSION} FROM parking_session WHERE session_id = $1 FOR UPDATE",  # noqa: S608
        session_id,
    )
    assert row is not None, "sessions are never deleted"
    return _session(row)


async def move_session(conn: Connection, session_id: str, *, to: SessionStatus, left_at_ms: int, now_ms: int) -> None:
    await conn.execute(
        "UPDATE parking_session SET status = $2, left_at_ms = $3, changed_at_ms = $4 WHERE session_id = $1",
        session_id, to.value, left_at_ms, now_ms,
    )  # fmt: skip


def _session(row: Record) -> Session:
    reason = row["block_reason"]
    status, block_reason = SessionStatus(row["status"]), BlockReason(reason) if reason else None
    return Session(**{**row, "status": status, "block_reason": block_reason})
