"""Canonical JSON (§1), read strictly, and the shapes of a stranger's values: every "no" is a sentence."""

import json
import re
from collections.abc import Iterator
from datetime import date
from typing import Any, NoReturn, TypeVar

import msgspec

T = TypeVar("T")
HEX = "[0-9a-f]{64}"
SHOWN_LIMIT = 80  # characters of a stranger's text inside a sentence
INT_LIMIT = 1 << 63  # what the bank's 64-bit columns hold
VALUES_LIMIT = 1 << 21  # values in a long text: what is read takes memory by their number, up to 30 times its bytes
LONG = 12 << 20  # bytes; shorter texts are read whatever they hold, as counting takes a tenth of the time
_encoder = msgspec.json.Encoder(order="sorted")
written = _encoder.encode  # the one spelling


class Refused(Exception):
    """A sentence that says what is wrong."""


def shown(value: Any, *, limit: int = SHOWN_LIMIT) -> str:
    """A stranger's value inside a sentence: short, on one line, and harmless to a terminal."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"
    text = value if isinstance(value, str) else _spelled(value)
    text = "".join(char if char.isprintable() else "?" for char in text[: limit + 1])
    return text if len(text) <= limit else text[:limit] + "…"


def _spelled(value: Any) -> str:
    return written(value).decode() if isinstance(value, dict | list) else repr(value)


def _no_fraction(text: str) -> NoReturn:
    raise ValueError(f"{shown(text)} is not an integer, and there is no other number in a statement")


def decoder(shape: type[T]) -> "msgspec.json.Decoder[T]":
    return msgspec.json.Decoder(shape, float_hook=_no_fraction)


_any: "msgspec.json.Decoder[Any]" = decoder(Any)


def decoded(raw: bytes, shape: "msgspec.json.Decoder[T]") -> T:
    """JSON of this shape; that it is spelled as it must be is for the caller to see."""
    if len(raw) > LONG and raw.count(b",") + raw.count(b"[") + raw.count(b"{") > VALUES_LIMIT:
        raise Refused(f"it holds more than {VALUES_LIMIT} values")
    try:
        return shape.decode(raw)
    except RecursionError:
        raise Refused("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise Refused(f"byte {error.start} of a text is not UTF-8") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise Refused(f"it is not JSON of the shape that is expected: {shown(str(error), limit=200)}") from None


def whole_value(raw: bytes) -> Any:
    """Bytes that are one canonical value and nothing else."""
    found = decoded(raw, _any)
    require_spelling(raw, written(found))
    return found


def require_spelling(raw: bytes, expected: bytes) -> None:
    """That also refuses members that are there twice, as reading keeps one of them."""
    if raw == expected:
        return
    try:
        json.loads(raw, object_pairs_hook=_no_twice)
    except (ValueError, RecursionError):
        raise Refused("it is not canonical JSON") from None
    at = next((i for i, (a, b) in enumerate(zip(raw, expected, strict=False)) if a != b), min(len(raw), len(expected)))
    there, here = (text[at : at + 30].decode(errors="replace") or "the end" for text in (expected, raw))
    raise Refused(f"at byte {at}: not canonical JSON: {shown(there)} is expected, found {shown(here)}")


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise Refused(f"member {shown(name)} is there twice")
        found[name] = value
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


def same(name: str, found: Any, expected: Any) -> None:
    """Equal, and of the same kind: true is not 1."""
    if found != expected or type(found) is not type(expected):
        raise Refused(f"{name} is {shown(found)}, expected {shown(expected)}")


def compare(of: str, told: Any, derived: Any) -> Iterator[str]:
    """Sentences about every member that differs; whoever has read enough of them asks for no more."""
    if written(told) == written(derived):
        return
    if not isinstance(told, dict) or not isinstance(derived, dict):
        yield f"{of} is {shown(told)}, expected {shown(derived)}"
        return
    for name in sorted({*told, *derived}):
        mine, theirs = derived.get(name, "nothing"), told.get(name, "nothing")
        if isinstance(mine, dict) and isinstance(theirs, dict):
            yield from compare(f"{of}.{name}", theirs, mine)
        elif written(mine) != written(theirs):
            yield f"{of}: {shown(name)} is {shown(theirs)}, expected {shown(mine)}"
