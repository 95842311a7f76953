"""What an issued statement books: its commissions, line by line (discounts were booked when they happened)."""

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.ledger.book import Entry, commission_accrued
from gateway.settlement.model import StatementRow


class _Line(msgspec.Struct):
    amount_minor: int
    event_id: str
    kind: str


class _Lines(msgspec.Struct):
    lines: list[_Line]


def commission_entries(pieces: Sequence[bytes], row: StatementRow) -> list[Entry]:
    """One entry for each commission line that is not zero; the goal's event is the cause, so it is booked once."""
    document: Any = msgspec.json.decode(b"".join(pieces), type=_Lines)
    return [
        commission_accrued(
            line.event_id, partner_id=row.partner_id, currency=row.currency, amount_minor=line.amount_minor
        )
        for line in document.lines
        if line.kind == "commission" and line.amount_minor
    ]
