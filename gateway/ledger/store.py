"""The book in PostgreSQL: entries are appended in the transaction of their fact, read as balances, never changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from gateway.database import Connection
from gateway.jsonio import encode
from gateway.ledger.book import Entry


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
    await conn.execute("SELECT post_entries($1, $2, $3)", encode(entries).decode(), day, now_ms)


async def booked_causes(conn: Connection, causes: Sequence[str]) -> set[str]:
    """Those of these that are in the book already: for work that is done again after it was cut off."""
    rows = await conn.fetch("SELECT cause FROM ledger_entry WHERE cause = ANY($1)", list(causes))
    return {row["cause"] for row in rows}


async def trial_balance(
    conn: Connection, *, from_day: date | None = None, to_day: date | None = None
) -> tuple[Balance, ...]:
    """Every account's debits and credits, by name; both sums are equal per currency, or the book is broken."""
    rows = await conn.fetch(
        """SELECT p.account, p.currency,
                  sum(p.amount_minor) FILTER (WHERE p.amount_minor > 0) AS debit_minor,
                  -sum(p.amount_minor) FILTER (WHERE p.amount_minor < 0) AS credit_minor
           FROM ledger_posting p JOIN ledger_entry e ON e.seq = p.entry_seq
           WHERE ($1::date IS NULL OR e.business_day >= $1) AND ($2::date IS NULL OR e.business_day <= $2)
           GROUP BY p.account, p.currency ORDER BY p.account""",
        from_day, to_day,
    )  # fmt: skip
    return tuple(
        Balance(row["account"], row["currency"], int(row["debit_minor"] or 0), int(row["credit_minor"] or 0))
        for row in rows
    )
