"""Sealed days (§3): a head is of the period, the partner's tree has its place in it, heads follow each other."""

from collections.abc import Mapping
from typing import Any

from .canonical import Refused, shown, written
from .manifest import PART_EVENTS, Day, Manifest
from .proof import EMPTY_ROOT, head_hash, root_by_path


def check_day(day: Day, header: Mapping[str, Any], *, before: Day | None) -> None:
    """What a day can be asked without its events: where its root stands in the signed tree."""
    head = day.head
    if head["bank"] != header["bank"]:
        raise Refused(f"the head is of bank {shown(head['bank'])}, the statement of {shown(header['bank'])}")
    if not header["from_day"] <= day.name <= header["to_day"]:
        raise Refused(f"it is outside the period {header['from_day']} to {header['to_day']}")
    if before is not None:
        check_following(before, day)
    _check_place(day, partner=header["partner"])


def _check_place(day: Day, *, partner: str) -> None:
    head = day.head
    if day.tree_size != head["tree_size"]:
        raise Refused(f"tree_size is {day.tree_size}, its head has {head['tree_size']}")
    if head["event_count"] < day.size or (head["tree_size"] == 1 and 0 < day.size != head["event_count"]):
        raise Refused(f"the head counts {head['event_count']} events, and {day.size} are this partner's")
    if day.size == 0:
        if day.index != -1 or day.path or day.root != EMPTY_ROOT.hex():
            raise Refused("without events index is -1, path empty and root that of the empty tree")
        return
    if not 0 <= day.index < day.tree_size:
        raise Refused(f"index is {day.index}, expected is 0 to {day.tree_size - 1}")
    leaf = written({"partner": partner, "root": day.root, "size": day.size})
    led = root_by_path(leaf, day.path, index=day.index, size=day.tree_size)
    if led != head["root_hash"]:
        raise Refused(f"the inclusion path leads to {led}, the head's root_hash is {head['root_hash']}")


def check_following(before: Day, day: Day) -> None:
    """Two heads that are listed one after the other are a chain: a sealed day between them is missing otherwise."""
    if before.name >= day.name:
        raise Refused(f"it stands after {before.name}")
    expected = head_hash(before.head)
    if day.head["previous_head_hash"] != expected:
        raise Refused(
            f"previous_head_hash is {day.head['previous_head_hash']}, the head of {before.name} has {expected}"
        )


def check_parts(manifest: Manifest) -> dict[int, Day]:
    """§12: which day each part of events must be of, by its number; accrued parts come first. Raises Refused."""
    entries = manifest.parts
    first = next((place for place, entry in enumerate(entries) if entry.kind == "events"), len(entries))
    of_day: dict[int, Day] = {}
    rest = iter(entries[first:])
    for day in manifest.days:
        left = day.size
        while left:
            entry, count = next(rest, None), min(left, PART_EVENTS)
            if entry is None:
                raise Refused(f"day {day.name}: {left} of its {day.size} events have no part")
            if entry.kind != "events" or entry.count != count:
                raise Refused(
                    f"part {entry.number}: it has {entry.count} {entry.kind}, expected are {count} events of {day.name}"
                )
            of_day[entry.number] = day
            left -= count
    if (more := next(rest, None)) is not None:
        raise Refused(f"part {more.number}: no day has events for it")
    return of_day
