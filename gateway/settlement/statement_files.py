"""Statements' files on this disk: put into place whole, checked against the statement's hash, read in steps."""

import asyncio
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

FOLDER = "statements"
FOLDER_MODE, FILE_MODE = 0o700, 0o600
STEP_BYTES = 256 * 1024  # what a worker reads, hashes or sends at a time
MEDIA_TYPES = {True: ("application/json", "json"), False: ("application/x-tar", "tar")}  # a JSON document begins with {


@dataclass(frozen=True, slots=True)
class Opened:
    """A file whose bytes are the statement's. What was opened is what is sent, whatever takes its place meanwhile."""

    file: BinaryIO
    size: int
    content_type: str
    suffix: str

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Steps of at most STEP_BYTES, read off the event loop; the next when the last one has been taken."""
        try:
            while chunk := await asyncio.to_thread(self.file.read, STEP_BYTES):
                yield chunk
        finally:
            self.file.close()


@dataclass(frozen=True, slots=True)
class StatementFiles:
    """HOME/statements: the statement's id names the file."""

    home: Path

    def folder(self) -> Path:
        folder = self.home / FOLDER
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        folder.chmod(FOLDER_MODE)
        return folder

    def path(self, statement_id: str) -> Path:
        return self.home / FOLDER / f"{statement_id}.statement"

    def put(self, statement_id: str, made: Path) -> None:
        """Whole and on the disk, or not at all."""
        made.chmod(FILE_MODE)
        with made.open("rb") as file:
            os.fsync(file.fileno())
        made.replace(self.path(statement_id))

    async def open(self, statement_id: str, digest: bytes) -> Opened | None:
        """None: it is not here, or is not what the statement's SHA-256 says."""
        try:
            file = await asyncio.to_thread(self.path(statement_id).open, "rb")
        except OSError:
            return None
        found, size, first = sha256(), 0, b""
        while chunk := await asyncio.to_thread(_step, file, found):
            first, size = first or chunk[:1], size + len(chunk)
        if found.digest() != digest:
            file.close()
            return None
        await asyncio.to_thread(file.seek, 0)
        content_type, suffix = MEDIA_TYPES[first == b"{"]
        return Opened(file, size, content_type, suffix)


def _step(file: BinaryIO, found: "sha256") -> bytes:  # type: ignore[valid-type]
    chunk = file.read(STEP_BYTES)
    found.update(chunk)  # type: ignore[attr-defined]
    return chunk
