"""All SQL of the sandbox bank; nothing outside this schema is touched."""

from collections.abc import Sequence
from dataclasses import dataclass

from asyncpg import Record

from gateway.corebank.port import OrderStatus
from gateway.database import Connection
from gateway.money import Money

_ACCOUNT = """account_id, customer_id, currency, nickname, type_code, scheme, identification, holder, opened_ms,
    balance_minor, overdraft"""
_ORDER = "kind, payment_id, debtor, creditor, amount_minor, currency, status, reason"


@dataclass(frozen=True, slots=True)
class Booking:
    """A payment or refund as the bank books it; accounts are ids or numbers (`identification`)."""

    order_id: str
    kind: str
    payment_id: str | None
    debtor: str
    creditor: str
    amount: Money
    information: str
    mcc: str

    def is_as_kept(self, row: Record) -> bool:
        """Whether the order that is kept under this id is this one."""
        kept = (row["kind"], row["payment_id"], row["debtor"], row["creditor"], row["amount_minor"], row["currency"])
        mine = (self.kind, self.payment_id, self.debtor, self.creditor, self.amount.minor, self.amount.currency)
        return kept == mine


@dataclass(frozen=True, slots=True)
class NewCustomer:
    """A customer and the account that is opened with it."""

    customer_id: str
    name: str
    phone: str
    login: str
    passcode_hash: str
    account_id: str
    identification: str
    currency: str
    opened_ms: int
    opening_minor: int


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """An entry for the goal feed."""

    event_id: str
    kind: str
    customer_id: str
    amount_minor: int
    currency: str
    occurred_ms: int
    scan_ticket: str | None


# --- reads ----------------------------------------------------------------------------------------------------
async def customer(conn: Connection, customer_id: str) -> Record | None:
    return await conn.fetchrow(
        "SELECT customer_id, name, phone FROM sandbox_bank.customer WHERE customer_id = $1", customer_id
    )


async def customer_by_login(conn: Connection, login: str) -> Record | None:
    return await conn.fetchrow(
        "SELECT customer_id, name, phone, passcode FROM sandbox_bank.customer WHERE login = $1", login
    )


async def customer_ids(conn: Connection, phones: Sequence[str]) -> dict[str, str]:
    """phone → customer id, of those that are customers."""
    rows = await conn.fetch("SELECT phone, customer_id FROM sandbox_bank.customer WHERE phone = ANY($1)", phones)
    return {row["phone"]: row["customer_id"] for row in rows}


async def logins(conn: Connection, limit: int) -> list[tuple[str, str]]:
    """(login, name) of the first demo customers, for the login page of the sandbox."""
    rows = await conn.fetch(
        "SELECT login, name FROM sandbox_bank.customer WHERE login LIKE 'demo-%' ORDER BY login LIMIT $1", limit
    )
    return [(row["login"], row["name"]) for row in rows]


async def logins_of(conn: Connection, customer_ids: Sequence[str]) -> dict[str, str]:
    rows = await conn.fetch(
        "SELECT customer_id, login FROM sandbox_bank.customer WHERE customer_id = ANY($1)", customer_ids
    )
    return {row["customer_id"]: row["login"] for row in rows}


async def accounts(conn: Connection, customer_id: str) -> list[Record]:
    return await conn.fetch(
        f"SELECT {_ACCOUNT} FROM sandbox_bank.account WHERE customer_id = $1 ORDER BY account_id", customer_id
    )


async def account(conn: Connection, account_id: str) -> Record | None:
    return await conn.fetchrow(f"SELECT {_ACCOUNT} FROM sandbox_bank.account WHERE account_id = $1", account_id)


async def holder_of(conn: Connection, identification: str) -> str | None:
    found: str | None = await conn.fetchval(
        "SELECT holder FROM sandbox_bank.account WHERE identification = $1", identification
    )
    return found


async def movements(
    conn: Connection, account_id: str, *, from_ms: int, to_ms: int, after: int, limit: int
) -> list[Record]:
    """In the order of booking, after the cursor."""
    return await conn.fetch(
        """SELECT m.seq, m.movement_id, m.account_id, m.amount_minor, m.balance_minor, m.booked_ms, m.information,
             m.merchant, m.mcc, a.currency
           FROM sandbox_bank.movement m JOIN sandbox_bank.account a USING (account_id)
           WHERE m.account_id = $1 AND m.booked_ms BETWEEN $2 AND $3 AND m.seq > $4 ORDER BY m.seq LIMIT $5""",
        account_id, from_ms, to_ms, after, limit,
    )  # fmt: skip


async def order(conn: Connection, order_id: str) -> Record | None:
    return await conn.fetchrow(f"SELECT {_ORDER} FROM sandbox_bank.bank_order WHERE order_id = $1", order_id)


# --- orders ---------------------------------------------------------------------------------------------------
async def take_fault(conn: Connection) -> str | None:
    """The effect that the next order suffers, used up."""
    effect: str | None = await conn.fetchval(
        """UPDATE sandbox_bank.fault SET remaining = remaining - 1
           WHERE id = (SELECT id FROM sandbox_bank.fault WHERE remaining > 0 ORDER BY id LIMIT 1 FOR UPDATE)
           RETURNING effect"""
    )
    return effect


async def claim_order(conn: Connection, booking: Booking) -> Record | None:
    """None: the order is ours to carry out, as pending. Else the first one's row, and nothing is done again."""
    fresh = await conn.fetchval(
        """INSERT INTO sandbox_bank.bank_order
             (order_id, kind, payment_id, debtor, creditor, amount_minor, currency, status)
           VALUES ($1, $2, $3, $4, $5, $6, $7, 'PDNG') ON CONFLICT DO NOTHING RETURNING true""",
        booking.order_id, booking.kind, booking.payment_id, booking.debtor, booking.creditor, booking.amount.minor,
        booking.amount.currency,
    )  # fmt: skip
    return None if fresh else await order(conn, booking.order_id)


async def lock_pending(conn: Connection, order_id: str) -> Booking | None:
    """An order that nobody has decided, ours until the transaction ends."""
    row = await conn.fetchrow(
        f"SELECT {_ORDER} FROM sandbox_bank.bank_order WHERE order_id = $1 AND status = 'PDNG' FOR UPDATE", order_id
    )
    if row is None:
        return None
    amount = Money(row["amount_minor"], row["currency"])
    return Booking(order_id, row["kind"], row["payment_id"], row["debtor"], row["creditor"], amount, order_id, "")


async def finish_order(conn: Connection, order_id: str, *, status: OrderStatus, reason: str) -> None:
    await conn.execute(
        "UPDATE sandbox_bank.bank_order SET status = $2, reason = $3 WHERE order_id = $1", order_id, status, reason
    )


async def reserve_refund(conn: Connection, booking: Booking) -> bool:
    """One conditional update decides, so refunds that race never exceed the payment."""
    return bool(
        await conn.fetchval(
            """UPDATE sandbox_bank.bank_order SET refunded_minor = refunded_minor + $2
               WHERE order_id = $1 AND status = 'ACSC' AND currency = $3 AND refunded_minor + $2 <= amount_minor
               RETURNING true""",
            booking.payment_id, booking.amount.minor, booking.amount.currency,
        )
    )  # fmt: skip


async def lock_accounts(conn: Connection, names: Sequence[str]) -> dict[str, Record]:
    """The accounts by the name they were asked by (id or number), locked in one order for everybody."""
    rows = await conn.fetch(
        f"""SELECT {_ACCOUNT} FROM sandbox_bank.account WHERE account_id = ANY($1) OR identification = ANY($1)
            ORDER BY account_id FOR UPDATE""",
        list(names),
    )  # fmt: skip
    return {name: row for name in names for row in rows if name in (row["account_id"], row["identification"])}


async def move(conn: Connection, booking: Booking, *, booked_ms: int) -> None:
    """Both sides of the movement, in one statement; the balance constraint has the last word."""
    await conn.execute(
        """WITH side (name, amount) AS (VALUES ($2, -$4::bigint), ($3, $4)),
           moved AS (
             UPDATE sandbox_bank.account a SET balance_minor = a.balance_minor + side.amount FROM side
             WHERE a.account_id = side.name OR a.identification = side.name
             RETURNING a.account_id, side.amount, a.balance_minor)
           INSERT INTO sandbox_bank.movement
             (movement_id, account_id, amount_minor, balance_minor, booked_ms, information, mcc)
           SELECT $1, account_id, amount, balance_minor, $5, $6, $7 FROM moved ORDER BY account_id""",
        booking.order_id, booking.debtor, booking.creditor, booking.amount.minor, booked_ms, booking.information,
        booking.mcc,
    )  # fmt: skip


# --- customers ------------------------------------------------------------------------------------------------
async def open_customers(conn: Connection, customers: Sequence[NewCustomer], *, source_account: str) -> set[str]:
    """Customers with an account each, and their opening money out of the bank's own account; returns the new ids."""
    rows = await conn.fetch(
        """INSERT INTO sandbox_bank.customer (customer_id, name, phone, login, passcode)
           SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
           ON CONFLICT DO NOTHING RETURNING customer_id""",
        *map(list, zip(*((c.customer_id, c.name, c.phone, c.login, c.passcode_hash) for c in customers), strict=True)),
    )
    fresh = {row["customer_id"] for row in rows}
    new = [c for c in customers if c.customer_id in fresh]
    if not new:
        return fresh
    await conn.executemany(
        """INSERT INTO sandbox_bank.account (account_id, customer_id, currency, nickname, type_code, scheme,
             identification, holder, opened_ms, balance_minor)
           VALUES ($1, $2, $3, '活期账户', 'CACC', 'CN.UnionPay.PAN', $4, $5, $6, $7)""",
        [
            (c.account_id, c.customer_id, c.currency, c.identification, c.name, c.opened_ms, c.opening_minor)
            for c in new
        ],
    )
    await _opening_movements(conn, [c for c in new if c.opening_minor], source_account=source_account)
    return fresh


async def _opening_movements(conn: Connection, new: Sequence[NewCustomer], *, source_account: str) -> None:
    if not new:
        return
    total = sum(c.opening_minor for c in new)
    left = await conn.fetchval(
        """UPDATE sandbox_bank.account SET balance_minor = balance_minor - $2 WHERE account_id = $1
           RETURNING balance_minor""",
        source_account, total,
    )  # fmt: skip
    sides = [
        (f"opening-{c.account_id}", name, sign * c.opening_minor, balance, c.opened_ms)
        for c in new
        for name, sign, balance in ((c.account_id, 1, c.opening_minor), (source_account, -1, left))
    ]
    await conn.execute(
        """INSERT INTO sandbox_bank.movement
             (movement_id, account_id, amount_minor, balance_minor, booked_ms, information)
           SELECT m, a, n, b, t, '开户存入 opening deposit'
           FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) AS x (m, a, n, b, t)""",
        *map(list, zip(*sides, strict=True)),
    )


async def open_house_account(conn: Connection, account_id: str, *, holder: str, identification: str, currency: str,
                             overdraft: bool, opened_ms: int) -> None:  # fmt: skip
    """An account of the bank itself or of a partner."""
    await conn.execute(
        """INSERT INTO sandbox_bank.account (account_id, customer_id, currency, nickname, type_code, scheme,
             identification, holder, opened_ms, overdraft)
           VALUES ($1, NULL, $4, $3, 'CACC', 'CN.CNAPS.AccountNumber', $2, $3, $6, $5) ON CONFLICT DO NOTHING""",
        account_id, identification, holder, currency, overdraft, opened_ms,
    )  # fmt: skip
