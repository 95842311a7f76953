"""Canonical JSON (§1), read strictly, and the shapes of a stranger's values: every "no" is a sentence."""

import json
import re
from dataclasses import dataclass
from datetime import date
from typing import Any, NoReturn

HEX = "[0-9a-f]{64}"
SHOWN_LIMIT = 80  # characters of a stranger's text inside a sentence
INT_LIMIT = 1 << 63  # what the bank's 64-bit columns hold


class Refused(Exception):
    """A sentence that says what is wrong."""


def shown(value: Any, *, limit: int = SHOWN_LIMIT) -> str:
    """A stranger's value inside a sentence: short, on one line, and harmless to a terminal."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"
    text = value if isinstance(value, str) else repr(value) if not isinstance(value, dict | list) else canonical(value)
    text = "".join(char if char.isprintable() else "?" for char in text[: limit + 1])
    return text if len(text) <= limit else text[:limit] + "…"


def _no_fraction(text: str) -> NoReturn:
    raise Refused(f"{shown(text)} is not an integer, and there is no other number in a statement")


_decoder = json.JSONDecoder(parse_float=_no_fraction, parse_constant=_no_fraction)
canonical = json.JSONEncoder(
    sort_keys=True, ensure_ascii=False, separators=(",", ":"), check_circular=False, allow_nan=False
).encode


@dataclass(slots=True)
class Canonical:
    """Text that is read from `at` on; `written` is the last value's spelling."""

    text: str
    at: int = 0
    written: str = ""

    def expect(self, literal: str) -> None:
        if not self.text.startswith(literal, self.at):
            found = self.text[self.at : self.at + SHOWN_LIMIT]
            raise Refused(f"at character {self.at} {shown(literal)} is expected, found {shown(found) or 'the end'}")
        self.at += len(literal)

    def follows(self, literal: str) -> bool:
        if not self.text.startswith(literal, self.at):
            return False
        self.at += len(literal)
        return True

    def value(self) -> Any:
        """The next value, if it is spelled as it must be: that also refuses members that are there twice."""
        try:
            found, end = _decoder.raw_decode(self.text, self.at)
            self.written = canonical(found)
        except RecursionError:
            raise Refused(f"at character {self.at}: nested too deeply") from None
        except ValueError as error:
            raise Refused(f"at character {self.at}: not JSON: {shown(str(error))}") from None
        if end - self.at != len(self.written) or not self.text.startswith(self.written, self.at):
            self._refuse_spelling(end)
        self.at = end
        return found

    def _refuse_spelling(self, end: int) -> NoReturn:
        text, written = self.text[self.at : end], self.written
        json.JSONDecoder(object_pairs_hook=_no_twice).decode(text)
        same = next((i for i, (a, b) in enumerate(zip(text, written, strict=False)) if a != b), len(written))
        raise Refused(
            f"at character {self.at + same}: not canonical JSON: {shown(written[same : same + 30])} is expected, "
            f"found {shown(text[same : same + 30])}"
        )


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise Refused(f"member {shown(next(name for name in names if names.count(name) > 1))} is there twice")
    return found


def whole_value(text: str) -> Any:
    """A text that is one canonical value and nothing else."""
    reader = Canonical(text)
    found = reader.value()
    if reader.at != len(text):
        raise Refused(f"there is more after its end: {shown(text[reader.at :])}")
    return found


def members(value: Any, names: str, *, of: str) -> list[Any]:
    """The values of exactly these members."""
    wanted = names.split()
    if not isinstance(value, dict) or value.keys() != set(wanted):
        found = sorted(value) if isinstance(value, dict) else value
        raise Refused(f"{of} has the members {', '.join(wanted)}, found {shown(found)}")
    return [value[name] for name in wanted]


def integer(value: Any, name: str, *, low: int = -INT_LIMIT, high: int = INT_LIMIT - 1) -> int:
    if type(value) is not int or not low <= value <= high:
        least = "" if low == -INT_LIMIT else f" from {low} on" if high == INT_LIMIT - 1 else f" from {low} to {high}"
        raise Refused(f"{name} is {shown(value)}, expected is an integer{least}")
    return value


def string(value: Any, name: str, *, pattern: str = "") -> str:
    """A text that is not empty, and is like `pattern` where that is given."""
    if not isinstance(value, str) or not value or (pattern and re.fullmatch(pattern, value, re.ASCII) is None):
        raise Refused(f"{name} is {shown(value)}, expected is a text{' like ' + pattern if pattern else ''}")
    return value


def listed(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise Refused(f"{name} is {shown(value)}, expected is a list")
    return value


def day_of(value: Any, name: str) -> date:
    try:
        return date.fromisoformat(string(value, name, pattern=r"\d{4}-\d{2}-\d{2}"))
    except ValueError:
        raise Refused(f"{name} is {shown(value)}, which no calendar has") from None
