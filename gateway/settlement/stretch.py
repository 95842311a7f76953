"""The facts of a statement cut into stretches, each settled at once, and days into the parts of its file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

PART_EVENTS = 8192  # docs/settlement-rules.md §12
STRETCH_EVENTS = 32 * PART_EVENTS  # settled at once: what the engine's memory is bounded by


@dataclass(frozen=True, slots=True)
class Slice:
    """Events [first, until) of one day's file; `base` is the place of the day's first among all of the statement."""

    file: Path
    day: str
    first: int
    until: int
    base: int
    first_part: int  # of the day


Stretch: TypeAlias = tuple[Slice, ...]


def stretches(days: Sequence[tuple[Path, str, int]], *, events: int = STRETCH_EVENTS) -> list[Stretch]:
    """Days as (file, day, events of the partner), cut and put together to stretches of about `events`."""
    found: list[Stretch] = []
    held: list[Slice] = []
    base = part = size = 0
    for file, day, count in days:
        for first in range(0, count, events):
            until = min(first + events, count)
            if held and size + until - first > events:
                found.append(tuple(held))
                held, size = [], 0
            held.append(Slice(file, day, first, until, base, part))
            size += until - first
        base += count
        part += -(-count // PART_EVENTS)
    return [*found, tuple(held)] if held else found
