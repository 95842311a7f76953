"""Purchases of an online shop's new customers, as spend after referral: read from the file, or a small made set.

The file has a customer, a date (YYYYMMDD), a number of items and an amount of money a line, blanks between them.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.clock import to_ms
from gateway.money import parse_amount
from gateway.refusal import Refusal

GENERATED_SEED = 19970101
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Purchase:
    """One purchase: minor units of the demo's currency, UTC epoch milliseconds (midnight of its day)."""

    customer: str
    at_ms: int
    amount_minor: int


def read_purchases(path: Path, *, currency: str) -> list[Purchase]:
    """Every purchase with money in it, by customer and date. Raises ValueError naming the file, and the line
    that cannot be read."""
    with path.open(encoding="ascii") as file:
        try:
            next(file, "")  # names of the columns
            bought = [purchase for purchase in _purchases(file, currency) if purchase.amount_minor > 0]
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    if not bought:
        raise ValueError(f"{path} holds no purchase")
    return bought


def _purchases(lines: Iterator[str], currency: str) -> Iterator[Purchase]:
    for number, line in enumerate(lines, start=2):
        fields = line.split()
        if not fields:
            continue
        try:
            customer, day, _, amount = fields
            at_ms = to_ms(datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC))
            amount_minor = parse_amount(amount, currency).minor
        except (ValueError, Refusal):
            raise ValueError(f"line {number} is not `customer date items amount`: {line.strip()[:80]!r}") from None
        yield Purchase(customer, at_ms, amount_minor)


def generate_purchases(*, customers: int, last_ms: int) -> list[Purchase]:
    """A small set of our own: most customers buy once or twice, a few often; the same one every time."""
    chance = random.Random(GENERATED_SEED)  # noqa: S311 - a reproducible demo, nothing secret
    made = []
    for number in range(1, customers + 1):
        first = last_ms - chance.randrange(60, 400) * DAY_MS
        for repeat in range(min(1 + int(chance.expovariate(0.6)), 20)):
            at_ms = min(first + repeat * chance.randrange(5, 60) * DAY_MS, last_ms)
            made.append(Purchase(f"{number:05d}", at_ms, chance.randrange(500, 12_000)))
    return sorted(made, key=lambda purchase: (purchase.customer, purchase.at_ms))


def first_customers(purchases: list[Purchase], count: int) -> list[Purchase]:
    """The purchases of `count` customers spread evenly over the file."""
    names = sorted({purchase.customer for purchase in purchases})
    if len(names) <= count:
        return purchases
    kept = {names[index * len(names) // count] for index in range(count)}
    return [purchase for purchase in purchases if purchase.customer in kept]


def shift(purchases: list[Purchase], *, by_ms: int) -> list[Purchase]:
    """The same purchases on later dates."""
    return [Purchase(p.customer, p.at_ms + by_ms, p.amount_minor) for p in purchases]
