"""Agreed documents (TOML files of partners/ and policies/): read strictly, refused with file, key and reason."""

import tomllib
from datetime import date, datetime, time
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import msgspec

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
        parsed = tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise DocumentInvalid(name, "$", "is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise DocumentInvalid(name, "$", f"is not TOML: {error}") from None
    plain = _plain(parsed, file=name, key="$")
    assert isinstance(plain, dict)
    return plain


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


def _plain(value: Any, *, file: str, key: str) -> Any:
    """JSON's types only; a float is refused, as neither money nor a share of it ever is one."""
    match value:
        case str() if "\0" in value:
            raise DocumentInvalid(file, key, "holds a NUL character")
        case bool() | int() | str():
            return value
        case float():
            raise DocumentInvalid(file, key, "is a float; write whole minor units, basis points or a text")
        case dict():
            return {name: _plain(member, file=file, key=f"{key}.{name}") for name, member in value.items()}
        case list():
            return [_plain(item, file=file, key=f"{key}[{index}]") for index, item in enumerate(value)]
        case datetime() | date() | time():
            return value.isoformat()
        case _:
            raise DocumentInvalid(file, key, f"is a {type(value).__name__}, which no document holds")
