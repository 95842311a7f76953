"""SQL of charges and refunds. A state is only left by an update that names it, so one driver wins each step."""

from collections.abc import Sequence

from asyncpg import Record

from gateway.database import Connection
from gateway.database.due import is_due
from gateway.database.idempotency import KeyedRequest, made_by_key
from gateway.parking.charge import RETRY_MS
from gateway.parking.model import Charge, ChargeState, Refund, RefundState

_CHARGE = """charge_id, session_id, partner_id, state, currency, fee_minor, discount_minor, offer_id, redemption_id,
    payment_id, mandate_id, creditor_account, reason, refunded_minor, tries, next_try_ms, created_at_ms,
    changed_at_ms"""
_REFUND = """refund_id, charge_id, partner_id, state, amount_minor, cash_minor, discount_minor, reason, tries,
    next_try_ms, created_at_ms, changed_at_ms"""
_DUE = is_due("next_try_ms", now="$1", longest_ms=str(max(RETRY_MS)))


async def add_charge(conn: Connection, charge: Charge, keyed: KeyedRequest) -> None:
    await conn.execute(
        f"""INSERT INTO parking_charge ({_CHARGE}, idempotency_key, request_hash)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)""",  # noqa: S608
        charge.charge_id, charge.session_id, charge.partner_id, charge.state.value, charge.currency, charge.fee_minor,
        charge.discount_minor, charge.offer_id, charge.redemption_id, charge.payment_id, charge.mandate_id,
        charge.creditor_account, charge.reason, charge.refunded_minor, charge.tries, charge.next_try_ms,
        charge.created_at_ms, charge.changed_at_ms, keyed.key, keyed.request_hash,
    )  # fmt: skip


async def charge_by_key(conn: Connection, keyed: KeyedRequest) -> Charge | None:
    """The charge that this key has made. Raises IdempotencyKeyReused."""
    charge_id = await made_by_key(conn, keyed, table="parking_charge", column="charge_id")
    return await get_charge(conn, charge_id) if charge_id is not None else None


async def find_charge(conn: Connection, charge_id: str) -> Charge | None:
    row = await conn.fetchrow(f"SELECT {_CHARGE} FROM parking_charge WHERE charge_id = $1", charge_id)  # noqa: S608
    return _charge(row) if row else None


async def get_charge(conn: Connection, charge_id: str) -> Charge:
    """One that is known to be there."""
    found = await find_charge(conn, charge_id)
    assert found is not None, "charges are never deleted"
    return found


async def lock_charge(conn: Connection, charge_id: str) -> Charge:
    """One that is known to be there, ours until the transaction ends."""
    row = await conn.fetchrow(
        f"SELECT {_CHARGE} FROM parking_charge WHERE charge_id = $1 FOR UPDATE",  # noqa: S608
        charge_id,
    )
    assert row is not None, "charges are never deleted"
    return _charge(row)


async def move_charge(
    conn: Connection, charge: Charge, *, to: ChargeState, reason: str | None, next_try_ms: int, now_ms: int
) -> Charge | None:
    """The charge in its new state; None when somebody else has moved it from the state that we saw."""
    row = await conn.fetchrow(
        f"""UPDATE parking_charge SET state = $3, reason = $4, next_try_ms = $5, changed_at_ms = $6
            WHERE charge_id = $1 AND state = $2 RETURNING {_CHARGE}""",  # noqa: S608
        charge.charge_id, charge.state.value, to.value, reason, next_try_ms, now_ms,
    )  # fmt: skip
    return _charge(row) if row else None


async def add_refunded(conn: Connection, charge_id: str, amount_minor: int) -> None:
    """`amount_minor` is negative where a refund failed."""
    await conn.execute(
        "UPDATE parking_charge SET refunded_minor = refunded_minor + $2 WHERE charge_id = $1", charge_id, amount_minor
    )


async def due_charges(conn: Connection, *, now_ms: int, limit: int) -> Sequence[Charge]:
    """Unfinished charges whose time has come, each put off so that nobody else picks it up meanwhile."""
    rows = await conn.fetch(
        f"""UPDATE parking_charge SET tries = tries + 1, next_try_ms = {_put_off("$1")}
            WHERE charge_id IN (SELECT charge_id FROM parking_charge
                WHERE state IN ('HELD', 'PAYING', 'ACCEPTED') AND {_DUE}
                ORDER BY next_try_ms LIMIT $2 FOR UPDATE SKIP LOCKED)
            RETURNING {_CHARGE}""",  # noqa: S608
        now_ms, limit,
    )  # fmt: skip
    return [_charge(row) for row in rows]


async def refund_by_key(conn: Connection, keyed: KeyedRequest) -> Refund | None:
    """The refund that this key has made. Raises IdempotencyKeyReused."""
    refund_id = await made_by_key(conn, keyed, table="parking_refund", column="refund_id")
    return await get_refund(conn, refund_id) if refund_id is not None else None


async def add_refund(conn: Connection, refund: Refund, keyed: KeyedRequest) -> bool:
    """False: another refund of the charge is pending."""
    added = await conn.fetchval(
        f"""INSERT INTO parking_refund ({_REFUND}, idempotency_key, request_hash)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
            ON CONFLICT (charge_id) WHERE state = 'PENDING' DO NOTHING RETURNING true""",  # noqa: S608
        refund.refund_id, refund.charge_id, refund.partner_id, refund.state.value, refund.amount_minor,
        refund.cash_minor, refund.discount_minor, refund.reason, refund.tries, refund.next_try_ms,
        refund.created_at_ms, refund.changed_at_ms, keyed.key, keyed.request_hash,
    )  # fmt: skip
    return bool(added)


async def get_refund(conn: Connection, refund_id: str) -> Refund:
    """One that is known to be there."""
    row = await conn.fetchrow(f"SELECT {_REFUND} FROM parking_refund WHERE refund_id = $1", refund_id)  # noqa: S608
    assert row is not None, "refunds are never deleted"
    return _refund(row)


async def refunds_of(conn: Connection, charge_id: str) -> Sequence[Refund]:
    rows = await conn.fetch(
        f"SELECT {_REFUND} FROM parking_refund WHERE charge_id = $1 ORDER BY created_at_ms, refund_id",  # noqa: S608
        charge_id,
    )
    return [_refund(row) for row in rows]


async def finish_refund(
    conn: Connection, refund: Refund, *, to: RefundState, reason: str | None, now_ms: int
) -> Refund | None:
    """None when somebody else has finished it."""
    row = await conn.fetchrow(
        f"""UPDATE parking_refund SET state = $2, reason = $3, changed_at_ms = $4
            WHERE refund_id = $1 AND state = 'PENDING' RETURNING {_REFUND}""",  # noqa: S608
        refund.refund_id, to.value, reason, now_ms,
    )  # fmt: skip
    return _refund(row) if row else None


async def due_refunds(conn: Connection, *, now_ms: int, limit: int) -> Sequence[Refund]:
    rows = await conn.fetch(
        f"""UPDATE parking_refund SET tries = tries + 1, next_try_ms = {_put_off("$1")}
            WHERE refund_id IN (SELECT refund_id FROM parking_refund WHERE state = 'PENDING' AND {_DUE}
                ORDER BY next_try_ms LIMIT $2 FOR UPDATE SKIP LOCKED)
            RETURNING {_REFUND}""",  # noqa: S608
        now_ms, limit,
    )  # fmt: skip
    return [_refund(row) for row in rows]


def _put_off(now: str) -> str:
    """The next look, by the number of looks so far."""
    waits = ", ".join(map(str, RETRY_MS))
    return f"{now} + (ARRAY[{waits}])[least(tries + 1, {len(RETRY_MS)})]"


def _charge(row: Record) -> Charge:
    return Charge(**{**row, "state": ChargeState(row["state"])})


def _refund(row: Record) -> Refund:
    return Refund(**{**row, "state": RefundState(row["state"])})
