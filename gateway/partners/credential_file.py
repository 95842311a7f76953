"""Files with secrets for people to pick up: written whole, readable by their owner only."""

import os
from pathlib import Path
from typing import Any, TypeVar

from gateway.jsonio import decode, encode

T = TypeVar("T")


def read_credentials(path: Path, shape: type[T]) -> T | None:
    """None: there is no such file. Raises BodyMalformed for one that is not what we wrote."""
    return decode(path.read_bytes(), shape) if path.exists() else None


def write_credentials(path: Path, content: Any) -> None:
    """Put the JSON in place at once, mode 0600 from the first byte; the folder is 0700."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.unlink(missing_ok=True)
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(encode(content))
    draft.replace(path)
