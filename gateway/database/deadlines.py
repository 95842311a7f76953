"""Until when a running task may wait: one timer looks at all of them together.

A timer for each (`asyncio.timeout`) costs ten times as much, and hardly any is ever late (ADR 0023, ADR 0030).
"""

import asyncio
import time

LOOK_S = 0.25  # between looks at the clock: a deadline is late by that much at most


class TaskDeadlines:
    """What it knows of a wait is its task and until when it may last. Who is late is cancelled where it waits."""

    def __init__(self) -> None:
        self._ends_at_s: dict[asyncio.Task[object], float] = {}
        self._strikes: dict[asyncio.Task[object], int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self, seconds: float) -> None:
        """From now on the running task has so much time; called again, it has so much anew."""
        self._ends_at_s[running()] = time.monotonic() + seconds
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def stop(self) -> bool:
        """No more waiting. Whether the running task was late; our cancellations are taken back, others' are left."""
        task = running()
        self._ends_at_s.pop(task, None)
        strikes = self._strikes.pop(task, 0) if self._strikes else 0
        for _ in range(strikes):
            task.uncancel()
        return strikes > 0

    def _look(self) -> None:
        """Whoever is late is cancelled, again at each look: a cancellation can be lost on its way (Python 3.11)."""
        now_s = time.monotonic()
        for task in [task for task, ends_at_s in self._ends_at_s.items() if ends_at_s <= now_s]:
            self._strikes[task] = self._strikes.get(task, 0) + 1
            task.cancel()
        waiting = bool(self._ends_at_s)
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look) if waiting else None


def running() -> "asyncio.Task[object]":
    """The task that runs now. Everything that has a deadline is one."""
    task = asyncio.current_task()
    assert task is not None, "the server runs each request as a task"
    return task
