"""Sealed days (§3): a day's head, the partner's place in its tree, and the chain of heads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .canonical import HEX, Canonical, Refused, canonical, day_of, integer, listed, members, shown, string
from .proof import head_hash, root_by_path, tree_root


@dataclass(frozen=True, slots=True)
class Place:
    """What the file says of the partner's tree and where it stands in the day's."""

    index: int
    path: list[str]
    root: str
    size: int
    tree_size: int


def read_head(value: Any) -> dict[str, Any]:
    names = "bank business_day event_count previous_head_hash root_hash tree_size"
    bank, day, event_count, previous, root, tree_size = members(value, names, of="a head")
    day_of(day, "business_day of a head")
    string(bank, f"head of {day}: bank")
    string(previous, f"head of {day}: previous_head_hash", pattern=HEX)
    string(root, f"head of {day}: root_hash", pattern=HEX)
    integer(event_count, f"head of {day}: event_count", low=0)
    integer(tree_size, f"head of {day}: tree_size", low=0)
    return dict(value)


def read_place(text: Canonical) -> Place:
    """The members of a day after its `head_jws`. The text is read to its end before anything is refused."""
    values = {}
    for name in ("index", "path", "root", "size", "tree_size"):
        text.expect(f',"{name}":')
        values[name] = text.value()
    text.expect("}")
    return Place(
        integer(values["index"], "index", low=-1),
        [string(node, "a hash of the path", pattern=HEX) for node in listed(values["path"], "path")],
        string(values["root"], "root", pattern=HEX),
        integer(values["size"], "size", low=0),
        integer(values["tree_size"], "tree_size", low=0),
    )


def check_place(place: Place, head: Mapping[str, Any], *, leaves: list[bytes], partner: str) -> None:
    """The events give the partner's root, and the path leads from it to the signed one."""
    derived = {"size": len(leaves), "root": tree_root(leaves).hex(), "tree_size": head["tree_size"]}
    for name, value in derived.items():
        if getattr(place, name) != value:
            raise Refused(f"{name} is {getattr(place, name)}, its events and head give {value}")
    if head["event_count"] < place.size or (head["tree_size"] == 1 and 0 < place.size != head["event_count"]):
        raise Refused(f"the head counts {head['event_count']} events, and {place.size} are this partner's")
    if not leaves:
        if place.index != -1 or place.path:
            raise Refused(
                f"without events index is -1 and path empty, found {place.index} and {len(place.path)} hashes"
            )
        return
    if not 0 <= place.index < place.tree_size:
        raise Refused(f"index is {place.index}, expected is 0 to {place.tree_size - 1}")
    leaf = canonical({"partner": partner, "root": place.root, "size": place.size})
    led = root_by_path(leaf, place.path, index=place.index, size=place.tree_size)
    if led != head["root_hash"]:
        raise Refused(f"the inclusion path leads to {led}, the head's root_hash is {head['root_hash']}")


def check_period(head: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    if head["bank"] != header["bank"]:
        raise Refused(f"the head is of bank {shown(head['bank'])}, the statement of {shown(header['bank'])}")
    if not header["from_day"] <= head["business_day"] <= header["to_day"]:
        raise Refused(f"it is outside the period {header['from_day']} to {header['to_day']}")


def check_following(before: Mapping[str, Any], head: Mapping[str, Any]) -> None:
    """Two heads that are listed one after the other are a chain: a sealed day between them is missing otherwise."""
    if before["business_day"] >= head["business_day"]:
        raise Refused(f"it stands after {before['business_day']}")
    expected = head_hash(before)
    if head["previous_head_hash"] != expected:
        raise Refused(
            f"previous_head_hash is {head['previous_head_hash']}, the head of {before['business_day']} has {expected}"
        )
