"""Files in the making, beside those that are whole: who writes holds the folder; what killed processes left is removed.

The hold is a lock of the kernel's on the folder, so that it ends with the process that has it, however that ends.
"""

import asyncio
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SEALED, STATEMENTS = "sealed", "statements"  # folders of the home
DRAFT, WORK = ".draft", ".work"  # how a sealed file's draft is called, and the folder that a statement is made in
FOLDER_MODE = 0o700
_ABANDONED = ((SEALED, f"*{DRAFT}"), (STATEMENTS, f"*{WORK}"))


@contextmanager
def writing_in(folder: Path) -> Iterator[Path]:
    """Nothing is removed from the folder meanwhile; others may write there too. It is made, for nobody else's eyes."""
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    folder.chmod(FOLDER_MODE)
    with _locked(folder, fcntl.LOCK_SH):
        yield folder


async def remove_abandoned(home: Path) -> int:
    """What nobody works on any more; how much. A folder that somebody writes in has its turn another time."""
    return sum([await asyncio.to_thread(_remove, home / folder, pattern) for folder, pattern in _ABANDONED])


def _remove(folder: Path, pattern: str) -> int:
    if next(folder.glob(pattern), None) is None:
        return 0
    try:
        with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            left = list(folder.glob(pattern))
            for path in left:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            return len(left)
    except BlockingIOError:
        return 0


@contextmanager
def _locked(folder: Path, kind: int) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)
