"""The catalogue of refusals, read off the classes themselves, so that no code is without its entry."""

import inspect
from dataclasses import dataclass

from gateway.refusal import Refusal


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    """One stable code: `text` is the class's own docstring."""

    code: str
    ob_code: str
    status: int
    title: str
    text: str


def error_entries() -> tuple[ErrorEntry, ...]:
    """Every Refusal that the program defines (all rooms are imported by then), by code; the first of equals wins."""
    found: dict[str, ErrorEntry] = {}
    for refusal in _subclasses(Refusal):
        text = inspect.cleandoc(refusal.__doc__ or "")
        found.setdefault(refusal.code, ErrorEntry(refusal.code, refusal.ob_code, refusal.status, refusal.title, text))
    found.pop(Refusal.code, None)
    return tuple(sorted(found.values(), key=lambda entry: entry.code))


def _subclasses(kind: type[Refusal]) -> list[type[Refusal]]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in _subclasses(child))]
