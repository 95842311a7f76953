"""Gathered writes: the requests of a worker that arrive while a batch is being decided form the next batch.

No timer and no tuning: an idle gatherer starts at once, a busy one grows its batches (group commit). Every caller gets
the answer of its own row, and only after the batch's transaction has committed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from gateway.database.absence import is_shared_fate
from gateway.refusal import Refusal

Q = TypeVar("Q")
R = TypeVar("R")

MAX_BATCH = 256  # rows: about 10 ms of work, so that the last caller does not wait long
MAX_WAITING = 8_192  # requests: beyond it the worker is overloaded and says so instead of queueing


class Overloaded(Refusal):
    """Too many requests wait for the database already."""

    status, code, ob_code, outcome = 503, "overloaded", "D003", "overloaded"
    retry_after_s = 1
    title = "Too many requests are waiting; try again in a moment"


class Gatherer(Generic[Q, R]):
    """Hands `decide` lists of requests; `decide` commits them and returns an answer or a Refusal for each, in order."""

    def __init__(
        self, decide: Callable[[Sequence[Q]], Awaitable[Sequence[R | Refusal]]], *, max_batch: int = MAX_BATCH
    ) -> None:
        self._decide = decide
        self._max_batch = max_batch
        self._waiting: list[tuple[Q, asyncio.Future[R]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, request: Q) -> R:
        """The answer of this request's own row. Raises its Refusal, Overloaded, or what broke the transaction."""
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded()
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        if self._worker is None:
            self._worker = asyncio.create_task(self._run())
        return await answer

    async def drain(self) -> None:
        """Wait until everything submitted so far is answered."""
        if self._worker is not None:
            await self._worker

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._max_batch], self._waiting[self._max_batch :]
                await self._answer(
                    [entry for entry in batch if not entry[1].done()]
                )  # the others' deadlines have passed
        finally:
            self._worker = None

    async def _answer(self, batch: list[tuple[Q, "asyncio.Future[R]"]]) -> None:
        if not batch:
            return
        try:
            results = await self._decide([request for request, _ in batch])
        except Exception as error:  # noqa: BLE001 - the callers get it, each as its own
            await self._isolate(batch, error)
            return
        assert len(results) == len(batch), "a batch answers each of its rows"
        for (_, answer), result in zip(batch, results, strict=True):
            if answer.done():  # the caller has gone; the row is committed all the same, its key finds it again
                continue
            if isinstance(result, Refusal):
                answer.set_exception(result)
            else:
                answer.set_result(result)

    async def _isolate(self, batch: list[tuple[Q, "asyncio.Future[R]"]], error: Exception) -> None:
        """One row that breaks the statement must not take its neighbours down: each is tried alone. A database that is
        not there is all rows' failure, and would be so once more for each."""
        if len(batch) == 1 or is_shared_fate(error):
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
            return
        for entry in batch:
            if not entry[1].done():  # its deadline may have passed while it waited for the others
                await self._answer([entry])
