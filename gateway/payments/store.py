"""All SQL of payments, refunds, and what the periods of a mandate have used."""

from collections.abc import Sequence
from typing import Any

from asyncpg import Record

from gateway.corebank.port import OrderOutcome, OrderStatus
from gateway.database import Connection
from gateway.database.due import is_due
from gateway.database.expiry import Expiry
from gateway.money import Money
from gateway.payments.limits import Use
from gateway.payments.model import Order, Payment, Refund

_PAYMENT = """payment_id, partner_id, consent_id, debtor_account_id, creditor_account, amount_minor, currency,
    reference, mcc, request, status, reason, refunded_minor, created_ms, changed_ms, tries"""
_DUE = is_due("next_try_ms", now="$1", longest_ms="$3")
_REFUND = """r.refund_id, r.payment_id, r.partner_id, r.amount_minor, p.currency, r.status, r.reason, r.created_ms,
    r.changed_ms, r.tries"""

# The longest period is a year; what was ordered at its end is decided, and given back if at all, within a month.
USAGE = Expiry(
    "payment_usage",
    "starts_on < (timestamp 'epoch' + $1::bigint * interval '1 millisecond')::date",
    kept_ms=400 * 86_400_000,
)


# --- payments ----------------------------------------------------------------------------------------------------
async def add_payment(
    conn: Connection, order: Order, *, debtor_account_id: str, next_try_ms: int, now_ms: int
) -> Payment | None:
    """The order as a pending payment; None when there is one of that id already."""
    row = await conn.fetchrow(
        f"""INSERT INTO payment (payment_id, partner_id, consent_id, debtor_account_id, creditor_account, amount_minor,
                currency, reference, mcc, request, next_try_ms, created_ms, changed_ms)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)
            ON CONFLICT DO NOTHING RETURNING {_PAYMENT}""",
        order.payment_id, order.partner_id, order.consent_id, debtor_account_id, order.creditor_account,
        order.amount.minor, order.amount.currency, order.reference, order.mcc, order.request, next_try_ms, now_ms,
    )  # fmt: skip
    return _payment(row) if row else None


async def find_payment(conn: Connection, payment_id: str) -> Payment | None:
    """Whosever it is: the caller checks the owner."""
    row = await conn.fetchrow(f"SELECT {_PAYMENT} FROM payment WHERE payment_id = $1", payment_id)
    return _payment(row) if row else None


async def finish_payment(conn: Connection, outcome: OrderOutcome, *, now_ms: int) -> Payment | None:
    """Write how it ended; None when somebody else has done so."""
    row = await conn.fetchrow(
        f"""UPDATE payment SET status = $2, reason = $3, changed_ms = $4
            WHERE payment_id = $1 AND status = 'PDNG' RETURNING {_PAYMENT}""",
        outcome.order_id, outcome.status, outcome.reason, now_ms,
    )  # fmt: skip
    return _payment(row) if row else None


async def take_due_payments(
    conn: Connection, *, now_ms: int, first_wait_ms: int, longest_wait_ms: int, limit: int
) -> list[Payment]:
    """Pending ones whose turn has come, each put off for the next turn: twice as long every time."""
    rows = await conn.fetch(
        f"""UPDATE payment SET tries = tries + 1, next_try_ms = $1 + least($2 << least(tries, 20), $3)
            WHERE payment_id IN (
                SELECT payment_id FROM payment WHERE status = 'PDNG' AND {_DUE}
                ORDER BY next_try_ms LIMIT $4 FOR UPDATE SKIP LOCKED)
            RETURNING {_PAYMENT}""",
        now_ms, first_wait_ms, longest_wait_ms, limit,
    )  # fmt: skip
    return [_payment(row) for row in rows]


# --- what periods have used --------------------------------------------------------------------------------------
async def take_usage(conn: Connection, consent_id: str, uses: Sequence[Use], *, amount_minor: int) -> int | None:
    """Take the amount out of every period, in one statement; the number of the first limit that has too little left.

    A conditional update decides, so payments that race are exact; the caller undoes the others by rolling back.
    """
    rows = await conn.fetch(
        """INSERT INTO payment_usage AS u (consent_id, limit_no, starts_on, limit_minor, used_minor)
           SELECT $1, limit_no, starts_on, limit_minor, $5
           FROM unnest($2::smallint[], $3::date[], $4::bigint[]) AS x (limit_no, starts_on, limit_minor)
           ORDER BY limit_no
           ON CONFLICT (consent_id, limit_no, starts_on) DO UPDATE SET used_minor = u.used_minor + excluded.used_minor
           WHERE u.used_minor + excluded.used_minor <= u.limit_minor
           RETURNING limit_no""",
        consent_id, [use.limit_no for use in uses], [use.starts_on for use in uses],
        [use.limit_minor for use in uses], amount_minor,
    )  # fmt: skip
    taken = {row["limit_no"] for row in rows}
    return next((use.limit_no for use in uses if use.limit_no not in taken), None)


async def short_usage(conn: Connection, consent_id: str, uses: Sequence[Use], *, amount_minor: int) -> int | None:
    """The number of the first limit that `take_usage` would find too small now; nothing is taken."""
    short: int | None = await conn.fetchval(
        """SELECT u.limit_no FROM payment_usage u
           JOIN unnest($2::smallint[], $3::date[], $4::bigint[]) AS x (limit_no, starts_on, limit_minor)
               USING (limit_no, starts_on)
           WHERE u.consent_id = $1 AND u.used_minor + $5 > x.limit_minor ORDER BY u.limit_no LIMIT 1""",
        consent_id, [use.limit_no for use in uses], [use.starts_on for use in uses],
        [use.limit_minor for use in uses], amount_minor,
    )  # fmt: skip
    return short


async def give_usage_back(conn: Connection, consent_id: str, uses: Sequence[Use], *, amount_minor: int) -> None:
    """To the same periods; rows are locked in the order in which `take_usage` takes them."""
    await conn.execute(
        """WITH held AS MATERIALIZED (
             SELECT u.limit_no, u.starts_on FROM payment_usage u
             JOIN unnest($2::smallint[], $3::date[]) AS x (limit_no, starts_on) USING (limit_no, starts_on)
             WHERE u.consent_id = $1 ORDER BY u.limit_no FOR UPDATE OF u)
           UPDATE payment_usage u SET used_minor = u.used_minor - $4 FROM held
           WHERE u.consent_id = $1 AND u.limit_no = held.limit_no AND u.starts_on = held.starts_on""",
        consent_id, [use.limit_no for use in uses], [use.starts_on for use in uses], amount_minor,
    )  # fmt: skip


# --- refunds -----------------------------------------------------------------------------------------------------
async def reserve_refund(conn: Connection, payment_id: str, *, amount_minor: int) -> bool:
    """One conditional update decides: refunds together never exceed a payment that has settled."""
    return bool(
        await conn.fetchval(
            """UPDATE payment SET refunded_minor = refunded_minor + $2
               WHERE payment_id = $1 AND status = 'ACSC' AND refunded_minor + $2 <= amount_minor RETURNING true""",
            payment_id, amount_minor,
        )
    )  # fmt: skip


async def free_refund(conn: Connection, refund: Refund) -> None:
    """A refund that was rejected leaves its amount to others."""
    await conn.execute(
        "UPDATE payment SET refunded_minor = refunded_minor - $2 WHERE payment_id = $1",
        refund.payment_id, refund.amount.minor,
    )  # fmt: skip


async def add_refund(
    conn: Connection, refund_id: str, *, payment: Payment, amount: Money, next_try_ms: int, now_ms: int
) -> Refund | None:
    """A pending refund; None when there is one of that id already."""
    fresh = await conn.fetchval(
        """INSERT INTO payment_refund (refund_id, payment_id, partner_id, amount_minor, next_try_ms, created_ms,
               changed_ms)
           VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT DO NOTHING RETURNING true""",
        refund_id, payment.payment_id, payment.partner_id, amount.minor, next_try_ms, now_ms,
    )  # fmt: skip
    return await find_refund(conn, refund_id) if fresh else None


async def find_refund(conn: Connection, refund_id: str) -> Refund | None:
    row = await conn.fetchrow(
        f"SELECT {_REFUND} FROM payment_refund r JOIN payment p USING (payment_id) WHERE r.refund_id = $1", refund_id
    )
    return _refund(row) if row else None


async def finish_refund(conn: Connection, outcome: OrderOutcome, *, now_ms: int) -> Refund | None:
    """Write how it ended; None when somebody else has done so."""
    row = await conn.fetchrow(
        f"""UPDATE payment_refund r SET status = $2, reason = $3, changed_ms = $4 FROM payment p
            WHERE r.refund_id = $1 AND r.status = 'PDNG' AND p.payment_id = r.payment_id RETURNING {_REFUND}""",
        outcome.order_id, outcome.status, outcome.reason, now_ms,
    )  # fmt: skip
    return _refund(row) if row else None


async def take_due_refunds(
    conn: Connection, *, now_ms: int, first_wait_ms: int, longest_wait_ms: int, limit: int
) -> list[Refund]:
    """As `take_due_payments`."""
    rows = await conn.fetch(
        f"""UPDATE payment_refund r
            SET tries = r.tries + 1, next_try_ms = $1 + least($2 << least(r.tries, 20), $3)
            FROM payment p
            WHERE p.payment_id = r.payment_id AND r.refund_id IN (
                SELECT refund_id FROM payment_refund
                WHERE status = 'PDNG' AND {_DUE}
                ORDER BY next_try_ms LIMIT $4 FOR UPDATE SKIP LOCKED)
            RETURNING {_REFUND}""",
        now_ms, first_wait_ms, longest_wait_ms, limit,
    )  # fmt: skip
    return [_refund(row) for row in rows]


def _payment(row: Record) -> Payment:
    return Payment(
        row["payment_id"], row["partner_id"], row["consent_id"], row["debtor_account_id"], row["creditor_account"],
        Money(row["amount_minor"], row["currency"]), row["reference"], row["mcc"], row["request"],
        OrderStatus(row["status"]), row["reason"], row["refunded_minor"], row["created_ms"], row["changed_ms"],
        row["tries"],
    )  # fmt: skip


def _refund(row: Any) -> Refund:
    return Refund(
        row["refund_id"], row["payment_id"], row["partner_id"], Money(row["amount_minor"], row["currency"]),
        OrderStatus(row["status"]), row["reason"], row["created_ms"], row["changed_ms"], row["tries"],
    )  # fmt: skip
