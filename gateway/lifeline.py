"""A child process must not outlive its parent, even a killed one: it looks every half second whose child it is."""

import os
import signal
import threading
import time

LOOK_S = 0.5


def end_with_parent(parent: int) -> None:
    """Send this process SIGTERM, its usual and graceful end, once its parent has gone.

    The parent says its own pid: asked for only now, it could be another's already.
    """
    threading.Thread(target=_watch, args=(parent,), name="lifeline", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)
