"""What applying a folder would do: each document added, changed, unchanged or removed, and the fields that differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.jsonio import encode
from gateway.partners.contract import Contract


class Step(StrEnum):
    """What happens to one document."""

    ADD = "added"
    CHANGE = "changed"
    KEEP = "unchanged"
    REMOVE = "removed"
    EXTRA = "not in the folder"


@dataclass(frozen=True, slots=True)
class Difference:
    """One field: `key` like `$.rate.burst`; None on the side where it is not."""

    key: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class PlannedDocument:
    """`version` is the last one after applying; `body` is what would be stored; `note` is for people."""

    step: Step
    kind: str
    id: str
    version: int
    partner_id: str | None
    body: Mapping[str, Any]
    sha256: bytes
    differences: tuple[Difference, ...] = ()
    contract: Contract | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Every document of the folder and of the database, by kind and id."""

    documents: tuple[PlannedDocument, ...]

    @property
    def steps(self) -> tuple[PlannedDocument, ...]:
        """What would be written."""
        return tuple(document for document in self.documents if document.step not in (Step.KEEP, Step.EXTRA))

    @property
    def extra(self) -> tuple[PlannedDocument, ...]:
        """In force and not in the folder: they stay."""
        return tuple(document for document in self.documents if document.step is Step.EXTRA)


def differences(before: Any, after: Any, *, key: str = "$") -> Iterator[Difference]:
    """Field by field; lists of named things are compared by name, lists of plain values by what came and went."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted(before.keys() | after.keys()):
            yield from differences(before.get(name), after.get(name), key=f"{key}.{name}")
    elif (named_before := _by_name(before)) is not None and (named_after := _by_name(after)) is not None:
        for name in sorted(named_before.keys() | named_after.keys()):
            yield from differences(named_before.get(name), named_after.get(name), key=f"{key}[{name}]")
    elif _is_set(before) and _is_set(after) and set(before) != set(after):
        yield from (Difference(f"{key}[]", item, None) for item in before if item not in after)
        yield from (Difference(f"{key}[]", None, item) for item in after if item not in before)
    elif before != after:
        yield Difference(key, before, after)


def told(difference: Difference) -> str:
    """For people, whole: a value that is cut off may hide what differs."""
    return f"{difference.key}: {_value(difference.before)} → {_value(difference.after)}"


def _value(value: Any) -> str:
    return "nothing" if value is None else encode(value).decode()


def _is_set(value: Any) -> bool:
    """A list of texts, none twice: operations, scopes, addresses."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value) and len(set(value)) == len(value)


def _by_name(value: Any) -> dict[str, Any] | None:
    """A list of tables that each have an id of their own; None for any other value."""
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        return None
    names = [str(item.get("id") or item.get("client_id") or item.get("kid") or "") for item in value]
    return dict(zip(names, value, strict=True)) if all(names) and len(set(names)) == len(names) else None
