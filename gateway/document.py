"""Agreed documents (TOML files of partners/ and policies/): read strictly, refused with file, key and reason."""

import tomllib
from datetime import date, datetime, time
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import rtoml

from gateway.free_text import unreadable_in
from gateway.jsonio import canonical

T = TypeVar("T")
DOCUMENT_LIMIT = 1024 * 1024  # bytes; the largest real contract has some 20 KiB


class DocumentInvalid(Exception):
    """A document that cannot be agreed to: `file` as given, `key` like `$.app[0].redirect_uris[1]`, and a reason."""

    def __init__(self, file: str, key: str, reason: str) -> None:
        super().__init__(f"{file}: {key}: {reason}")
        self.file = file
        self.key = key
        self.reason = reason


def read_document(path: Path, *, name: str) -> dict[str, Any]:
    """The parsed file; `name` is how errors call it. Raises DocumentInvalid. Dates become text, as in JSON."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DocumentInvalid(name, "$", f"cannot be read: {error.strerror}") from None
    if len(raw) > DOCUMENT_LIMIT:
        raise DocumentInvalid(name, "$", f"is larger than {DOCUMENT_LIMIT} bytes")
    try:
        return _plain_table(_parsed(raw.decode("utf-8")), file=name)
    except UnicodeDecodeError:
        raise DocumentInvalid(name, "$", "is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise DocumentInvalid(name, "$", f"is not TOML: {error}") from None
    except RecursionError:
        raise DocumentInvalid(name, "$", "nests deeper than anybody reads") from None


def _parsed(text: str) -> dict[str, Any]:
    """By the quick parser (ADR 24); what that refuses is tomllib's to judge, which says line and column in one way."""
    try:
        return rtoml.loads(text)
    except rtoml.TomlParsingError:
        return tomllib.loads(text)


def shape_document(document: Any, shape: type[T], *, name: str) -> T:
    """The document as a struct of `shape`. Raises DocumentInvalid for an unknown key or a wrong type."""
    try:
        return msgspec.convert(document, shape)
    except msgspec.ValidationError as error:
        reason, _, key = str(error).partition(" - at `")
        raise DocumentInvalid(name, key.rstrip("`") or "$", reason) from None


def document_hash(document: Any) -> bytes:
    """SHA-256 of the canonical JSON: what a version stands for, so that blanks and comments don't count."""
    return sha256(canonical(document)).digest()


def _plain_table(parsed: dict[str, Any], *, file: str) -> dict[str, Any]:
    try:
        plain = _plain(parsed)
    except _Unfit:
        raise _fault(parsed, file=file, key="$") or AssertionError("what is unfit has a place") from None
    assert isinstance(plain, dict)
    return plain


class _Unfit(Exception):
    """Some value is of no JSON type; where is looked for only then, as most files are good."""


def _plain(value: Any) -> Any:
    """JSON's types only; a float is refused, as neither money nor a share of it ever is one."""
    kind = type(value)
    if kind is str:
        if unreadable_in(value):
            raise _Unfit
        return value
    if kind is int or kind is bool:
        return value
    if kind is dict:
        return {name: _plain(member) for name, member in value.items()}
    if kind is list:
        return [_plain(item) for item in value]
    if kind in (datetime, date, time):
        return value.isoformat()
    raise _Unfit


def _fault(value: Any, *, file: str, key: str) -> DocumentInvalid | None:
    """The first value that no document holds, and why."""
    match value:
        case str():
            found = unreadable_in(value)
            return DocumentInvalid(file, key, f"holds {found}, which nobody can read") if found else None
        case float():
            return DocumentInvalid(file, key, "is a float; write whole minor units, basis points or a text")
        case dict():
            places = [(f"{key}.{name}", member) for name, member in value.items()]
        case list():
            places = [(f"{key}[{index}]", item) for index, item in enumerate(value)]
        case bool() | int() | datetime() | date() | time():
            return None
        case _:
            return DocumentInvalid(file, key, f"is a {type(value).__name__}, which no document holds")
    return next((fault for place, inner in places if (fault := _fault(inner, file=file, key=place))), None)
