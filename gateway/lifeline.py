"""A child process and its parent: it must not outlive a parent that was killed, and it shows that it is not stuck.

It looks every half second whose child it is. Its event loop writes to a pipe that the parent gave it, the pulse: a
process that lives but does nothing (stopped, or in an endless loop) falls silent, and its parent replaces it.
"""

import asyncio
import os
import signal
import threading
import time
from contextlib import suppress

LOOK_S = 0.5
BEAT_S = 0.5
BEAT, READY = b".", b"r"


def end_with_parent(parent: int) -> None:
    """Send this process SIGTERM, its usual and graceful end, once its parent has gone.

    The parent says its own pid: asked for only now, it could be another's already.
    """
    threading.Thread(target=_watch, args=(parent,), name="lifeline", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)


async def beat(pulse: int) -> None:
    """Run as a task for the life of a process that was given a pulse."""
    while True:
        tell(pulse, BEAT)
        await asyncio.sleep(BEAT_S)


def tell(pulse: int, what: bytes) -> None:
    """A parent that has gone hears nothing, and one that was stopped has a full pipe: neither may stop this process."""
    with suppress(BrokenPipeError, BlockingIOError):
        os.write(pulse, what)
