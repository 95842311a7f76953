"""A day of car parks: free spaces sampled every few minutes, turned into stays; or a small day that we make ourselves.

A column a lot, a row a moment (UTC), a number of free spaces where it changed. A fall of n is n entries, a rise of n
is n exits, matched first in first out per lot. Cars that were in before the day, or stay beyond it, give no stay.
"""

import csv
import random
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from heapq import heappop, heappush
from pathlib import Path

from gateway.clock import to_ms

GENERATED_SEED = 20211001
GENERATED_LOTS = 12
MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS


@dataclass(frozen=True, slots=True, order=True)
class Stay:
    """One car in one lot; times in UTC epoch milliseconds."""

    entered_ms: int
    left_ms: int
    lot: str


def read_day(path: Path) -> list[Stay]:
    """Every stay of the file, by time of entry. Raises ValueError naming the file, and the row that cannot be read."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        try:
            stays = sorted(_stays(next(rows, [])[1:], rows))
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path}: {error}") from None
    if not stays:
        raise ValueError(f"{path} holds no stay: nowhere did the free spaces fall and rise again")
    return stays


def _stays(lots: list[str], rows: Iterable[list[str]]) -> Iterator[Stay]:
    free: dict[str, int] = {}
    inside: dict[str, deque[int]] = {lot: deque() for lot in lots}
    for number, row in enumerate(rows, start=2):
        try:
            moment = to_ms(datetime.fromisoformat(row[0]))
            counts = [(lot, int(text)) for lot, text in zip(lots, row[1:], strict=True) if text]
        except (ValueError, IndexError) as error:
            raise ValueError(f"row {number} is not a moment and {len(lots)} counts: {error}") from None
        for lot, count in counts:
            before = free.get(lot, count)
            free[lot] = count
            inside[lot].extend([moment] * (before - count))
            for _ in range(min(count - before, len(inside[lot]))):
                yield Stay(inside[lot].popleft(), moment, lot)


def generate_day(*, start_ms: int, stays: int) -> list[Stay]:
    """A small day of our own: two rush hours, stays from ten minutes to half a day; the same one every time."""
    chance = random.Random(GENERATED_SEED)  # noqa: S311 - a reproducible demo, nothing secret
    made = []
    for _ in range(stays):
        peak = chance.choice((8.5, 17.5))
        entered = start_ms + int(min(max(chance.gauss(peak, 2.5), 0), 20) * 60) * MINUTE_MS
        length = int(min(max(chance.lognormvariate(4.3, 0.9), 10), 12 * 60)) * MINUTE_MS
        lot = f"generated-{chance.randrange(GENERATED_LOTS):02d}"
        made.append(Stay(entered, min(entered + length, start_ms + DAY_MS - MINUTE_MS), lot))
    return sorted(made)


def sample(stays: list[Stay], count: int) -> list[Stay]:
    """`count` stays spread evenly over the day."""
    if len(stays) <= count:
        return stays
    return [stays[index * len(stays) // count] for index in range(count)]


def shift(stays: list[Stay], *, by_ms: int) -> list[Stay]:
    """The same day on another date, so that no car comes from the future and today's contract holds."""
    return [Stay(stay.entered_ms + by_ms, stay.left_ms + by_ms, stay.lot) for stay in stays]


def whole_days_until(now_ms: int, stays: list[Stay]) -> int:
    """By how much to shift: a day of Shanghai begins at 16:00 UTC of the date before, and nothing may end after now."""
    last_ms = max(stay.left_ms for stay in stays)
    return (now_ms - last_ms) // DAY_MS * DAY_MS


def assign_cars(stays: list[Stay]) -> tuple[list[int], int]:
    """A car for each stay such that no car is in two lots at once; (car of each stay, number of cars)."""
    free: list[int] = []
    busy: list[tuple[int, int]] = []
    cars, assigned = 0, []
    for stay in stays:
        while busy and busy[0][0] <= stay.entered_ms:
            heappush(free, heappop(busy)[1])
        if free:
            car = heappop(free)
        else:
            car, cars = cars, cars + 1
        heappush(busy, (stay.left_ms, car))
        assigned.append(car)
    return assigned, cars
