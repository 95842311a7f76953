"""Tasks that live as long as their process: a failure is told and tried again, an end that nobody asked for ends all.

Every long-lived task goes through here. `keep_doing` is the loop that survives whatever one turn raises. `watch` starts
a task and, should it end unasked all the same, counts that and sends its process SIGTERM; the supervisor starts a new
one. A process that lived on without its change feed would serve a suspended partner for ever.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import structlog

PAUSES_S = (0.1, 0.5, 1.0, 2.0)  # between failing turns; the last for all further ones: below the picture's 5 s
CANCEL_AGAIN_S = 1.0  # a library may swallow one cancellation (asyncio.wait_for does, on Python 3.11)
END_S = 3.0  # a task that does not end by then is left behind; the process ends soon, or gets killed
log = structlog.get_logger(__name__)


def _count_nothing(outcome: str, task: str) -> None:
    """Until the metrics are there, which stand above this module."""


def _leave() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@dataclass(slots=True)
class _Ways:
    """How this process counts, and how it ends."""

    count: Callable[[str, str], None] = _count_nothing
    end_process: Callable[[], None] = _leave


ways = _Ways()


def leave(name: str) -> None:
    """End this process, as a task of it knows that it can not do its work: the supervisor starts a new one."""
    log.critical("task_gave_up", kind=name)
    ways.count("gave_up", name)
    ways.end_process()


class Watched:
    """A running task. `end` it, or its end is taken for a failure."""

    def __init__(self, name: str, task: "asyncio.Task[None]") -> None:
        self._name = name
        self._task = task
        self._asked = False
        task.add_done_callback(self._ended)

    async def end(self) -> None:
        """Cancel it until it has ended; for END_S. A cancellation of the caller goes through, too."""
        self._asked = True
        for _ in range(int(END_S / CANCEL_AGAIN_S)):
            if self._task.done():
                return
            self._task.cancel()
            await asyncio.wait((self._task,), timeout=CANCEL_AGAIN_S)
        if not self._task.done():
            log.error("task_left_behind", kind=self._name)
            ways.count("left_behind", self._name)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()  # asked for, so that asyncio does not tell it again
        if self._asked:
            return
        log.critical("task_ended", kind=self._name, exc_info=error)
        ways.count("ended", self._name)
        ways.end_process()


def watch(name: str, work: Coroutine[Any, Any, None]) -> Watched:
    """Start it as a task of the running loop."""
    return Watched(name, asyncio.create_task(work, name=name))


async def keep_doing(name: str, turn: Callable[[], Awaitable[object]]) -> None:
    """Until cancelled. A turn waits for its own occasion; one that fails is told, counted, and followed by a pause.

    A CancelledError that nobody sent to this task (a future that it awaits was cancelled) is a failure like others.
    """
    failures = 0
    while True:
        try:
            await turn()
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            log.warning("task_failed", kind=name, error="CancelledError")
        except Exception as error:  # a loop that dies takes with it what its process promises
            log.warning("task_failed", kind=name, exc_info=error)
        else:
            failures = 0
            continue
        ways.count("failed", name)
        await asyncio.sleep(PAUSES_S[min(failures, len(PAUSES_S) - 1)])
        failures += 1


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
