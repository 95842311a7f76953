"""Statements' files on this disk: put into place whole, read once, in steps that are hashed on their way.

A file is checked when it is made or made again. What happens to it on the disk afterwards shows when it is read: a
small one is refused before it is sent; of a large one the last step is kept back, so that nobody gets it whole.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from gateway.settlement.drafts import STATEMENTS

FILE_MODE = 0o600
STEP_BYTES = 256 * 1024  # what a worker reads, hashes or sends at a time
MEDIA_TYPES = {True: ("application/json", "json"), False: ("application/x-tar", "tar")}  # a JSON document begins with {


class StatementFileDiffers(Exception):
    """Found at its end: what was read is not the statement's file. Its last step was not handed out."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What was opened is what is sent and hashed, whatever takes its place meanwhile."""

    file: BinaryIO
    stat: os.stat_result
    digest: bytes
    content_type: str
    suffix: str

    @property
    def size(self) -> int:
        return self.stat.st_size

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Steps of at most STEP_BYTES, read off the event loop; the next when the last one has been taken. Raises
        StatementFileDiffers in place of the last one."""
        found, left = sha256(), self.size
        try:
            while left > 0:
                chunk = await asyncio.to_thread(self._step, found)
                left -= len(chunk)
                if not chunk or (left <= 0 and found.digest() != self.digest):
                    raise StatementFileDiffers
                yield chunk
        finally:
            self.file.close()

    def _step(self, found: "hashlib._Hash") -> bytes:
        chunk = self.file.read(STEP_BYTES)
        found.update(chunk)
        return chunk


@dataclass(frozen=True, slots=True)
class StatementFiles:
    """HOME/statements: the statement's id names the file."""

    home: Path

    @property
    def folder(self) -> Path:
        return self.home / STATEMENTS

    def path(self, statement_id: str) -> Path:
        return self.folder / f"{statement_id}.statement"

    def put(self, statement_id: str, made: Path) -> None:
        """Whole and on the disk, or not at all."""
        made.chmod(FILE_MODE)
        with made.open("rb") as file:
            os.fsync(file.fileno())
        made.replace(self.path(statement_id))

    async def open(self, statement_id: str, *, digest: bytes, size: int) -> Opened | None:
        """None: it is not here, is of another size, or small enough to be seen at once and another one."""
        return await asyncio.to_thread(self._open, statement_id, digest, size)

    def remove(self, statement_id: str, opened: Opened) -> None:
        """Unless another one has taken its place."""
        path = self.path(statement_id)
        if path.exists() and os.path.samestat(path.stat(), opened.stat):
            path.unlink()

    def _open(self, statement_id: str, digest: bytes, size: int) -> Opened | None:
        path = self.path(statement_id)
        try:
            if not path.is_file():  # whoever opens a pipe waits
                return None
            file = path.open("rb")
        except OSError:
            return None
        with ExitStack() as unless_taken:
            unless_taken.callback(file.close)
            stat = os.fstat(file.fileno())
            if stat.st_size != size:
                return None
            begins = os.pread(file.fileno(), STEP_BYTES if size <= STEP_BYTES else 1, 0)
            if size <= STEP_BYTES and sha256(begins).digest() != digest:
                return None
            unless_taken.pop_all()
            content_type, suffix = MEDIA_TYPES[begins[:1] == b"{"]
            return Opened(file, stat, digest, content_type, suffix)
