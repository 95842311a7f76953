"""Every request has a deadline: who waits longer has gone, and what they wait for may hold rows that others want.

When it passes, the request's task is cancelled where it waits and answers 503. That cancels its own wait only: a batch
that its row was gathered into goes on for the neighbours. Nobody knows then whether the row was committed, so the
answer says to send the same request again with the same key.

One timer looks at all of a worker's requests together: one for each would cost every request four times as much.
"""

import asyncio
import time

import structlog

from gateway import metrics
from gateway.database.absence import RetryWithSameKey, absence
from gateway.problem import UnexpectedFailure
from gateway.refusal import Refusal

LOOK_S = 0.25  # between looks at the clock: a deadline is late by that much at most
log = structlog.get_logger(__name__)


class DeadlinePassed(RetryWithSameKey):
    """It took longer than a request may. Whether it was carried out is not known."""

    outcome = "deadline"


class Deadlines:
    """One instance a worker. What it knows of a request is its task and until when that may run."""

    def __init__(self) -> None:
        self._ends_at_s: dict[asyncio.Task[object], float] = {}
        self._strikes: dict[asyncio.Task[object], int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self, seconds: float) -> None:
        """From now on the running task has so much time; called again, it has so much anew."""
        self._ends_at_s[_running()] = time.monotonic() + seconds
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def stop(self) -> None:
        """The answer is on its way: from here on a slow reader takes the time, which is the server's to limit."""
        task = _running()
        self._ends_at_s.pop(task, None)
        if self._strikes:
            self._forgive(task)

    def refusal_of(self, error: BaseException, *, operation: str, interaction_id: str) -> Refusal:
        """What a failure that no rule has raised means to the caller: passed, away, or our bug, which the log explains.

        Raises the cancellation itself where it is none of ours.
        """
        task = _running()
        self._ends_at_s.pop(task, None)
        struck = self._forgive(task)
        found: Refusal | None = None
        if isinstance(error, asyncio.CancelledError):
            if not struck or task.cancelling():
                raise error
            found = DeadlinePassed("This took longer than a request may; send it again, with its key if it has one")
        else:
            found = absence(error)
        if found is None:
            log.exception("unexpected_failure", operation=operation, interaction_id=interaction_id,
                          error=type(error).__name__)  # fmt: skip
            return UnexpectedFailure()
        log.warning("request_given_up", operation=operation, interaction_id=interaction_id, outcome=found.outcome,
                    error=type(error).__name__)  # fmt: skip
        metrics.count("parasol_refusals_total", reason=found.code)
        return found

    def _forgive(self, task: "asyncio.Task[object]") -> bool:
        """Take our cancellations back, so that only other people's are left; whether there were any."""
        strikes = self._strikes.pop(task, 0)
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


def _running() -> "asyncio.Task[object]":
    task = asyncio.current_task()
    assert task is not None, "the server runs each request as a task"
    return task
