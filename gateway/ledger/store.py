"""The book in PostgreSQL: entries are appended in the transaction of their fact, read as balances, never changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from asyncpg import Record

from gateway.database import Connection
from gateway.ledger.book import Entry

_INSERT = """
WITH fresh AS (
    INSERT INTO ledger_entry (cause, partner_id, business_day, recorded_at_ms)
    SELECT cause, partner_id, $3, $4 FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS e (cause, partner_id, place)
    ORDER BY place
    RETURNING seq, cause)
INSERT INTO ledger_posting (entry_seq, line, account, amount_minor)
SELECT fresh.seq, p.line, p.account, p.amount_minor
FROM unnest($5::text[], $6::smallint[], $7::text[], $8::bigint[]) AS p (cause, line, account, amount_minor)
JOIN fresh USING (cause)"""


@dataclass(frozen=True, slots=True)
class Balance:
    """An account's turnover; `balance_minor` is debits minus credits."""

    account: str
    currency: str
    debit_minor: int
    credit_minor: int

    @property
    def balance_minor(self) -> int:
        return self.debit_minor - self.credit_minor


async def post(conn: Connection, entries: Sequence[Entry], *, day: date, now_ms: int) -> None:
    """Book the entries, in order, in one statement. A cause that is booked already breaks the transaction: a bug."""
    if not entries:
        return
    lines = [
        (entry.cause, line, posting.account, posting.amount_minor)
        for entry in entries
        for line, posting in enumerate(entry.postings, 1)
    ]
    await conn.execute(
        _INSERT,
        [entry.cause for entry in entries], [entry.partner_id for entry in entries], day, now_ms,
        *map(list, zip(*lines, strict=True)),
    )  # fmt: skip


async def booked_causes(conn: Connection, causes: Sequence[str]) -> set[str]:
    """Those of these that are in the book already: for work that is done again after it was cut off."""
    rows = await conn.fetch("SELECT cause FROM ledger_entry WHERE cause = ANY($1)", list(causes))
    return {row["cause"] for row in rows}


async def trial_balance(
    conn: Connection, *, from_day: date | None = None, to_day: date | None = None
) -> tuple[Balance, ...]:
    """Every account's debits and credits, by name; both sums are equal per currency, or the book is broken."""
    return _balances(
        await conn.fetch(
            """SELECT p.account, p.currency,
                      sum(p.amount_minor) FILTER (WHERE p.amount_minor > 0) AS debit_minor,
                      -sum(p.amount_minor) FILTER (WHERE p.amount_minor < 0) AS credit_minor
               FROM ledger_posting p JOIN ledger_entry e ON e.seq = p.entry_seq
               WHERE ($1::date IS NULL OR e.business_day >= $1) AND ($2::date IS NULL OR e.business_day <= $2)
               GROUP BY p.account, p.currency ORDER BY p.account""",
            from_day, to_day,
        )
    )  # fmt: skip


async def partner_balances(conn: Connection, partner_id: str) -> tuple[Balance, ...]:
    """The same for the entries of one partner: what its statements must come to."""
    return _balances(
        await conn.fetch(
            """SELECT p.account, p.currency,
                      sum(p.amount_minor) FILTER (WHERE p.amount_minor > 0) AS debit_minor,
                      -sum(p.amount_minor) FILTER (WHERE p.amount_minor < 0) AS credit_minor
               FROM ledger_entry e JOIN ledger_posting p ON p.entry_seq = e.seq
               WHERE e.partner_id = $1
               GROUP BY p.account, p.currency ORDER BY p.account""",
            partner_id,
        )
    )  # fmt: skip


def _balances(rows: Sequence[Record]) -> tuple[Balance, ...]:
    return tuple(
        Balance(row["account"], row["currency"], int(row["debit_minor"] or 0), int(row["credit_minor"] or 0))
        for row in rows
    )
