"""Every request has a deadline: who waits longer has gone, and what they wait for may hold rows that others want.

When it passes, the request's task is cancelled where it waits and answers 503. That cancels its own wait only: a batch
that its row was gathered into goes on for the neighbours. Nobody knows then whether the row was committed, so the
answer says to send the same request again with the same key.
"""

import asyncio

import structlog

from gateway import metrics
from gateway.database.absence import RetryWithSameKey, absence
from gateway.database.deadlines import TaskDeadlines, running
from gateway.problem import UnexpectedFailure
from gateway.refusal import Refusal

log = structlog.get_logger(__name__)


class DeadlinePassed(RetryWithSameKey):
    """It took longer than a request may. Whether it was carried out is not known."""

    outcome = "deadline"


class Deadlines(TaskDeadlines):
    """One instance a worker. `stop` it when the answer is on its way: a slow reader is the server's to limit."""

    def refusal_of(self, error: BaseException, *, operation: str, interaction_id: str) -> Refusal:
        """What a failure that no rule has raised means to the caller: passed, away, or our bug, which the log explains.

        Raises the cancellation itself where it is none of ours.
        """
        struck = self.stop()
        found: Refusal | None = None
        if isinstance(error, asyncio.CancelledError):
            if not struck or running().cancelling():
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
