"""How long a request waited for the core bank: the gateway's own overhead is what remains of its time."""

import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, cast

from gateway.corebank.port import CoreBank

_PORT = tuple(name for name in vars(CoreBank) if not name.startswith("_"))
_waited: ContextVar[list[float] | None] = ContextVar("waited_for_the_core_bank", default=None)


def start_waiting() -> list[float]:
    """A fresh clock for this request, seconds in its only place; what the request's tasks wait is added to it."""
    clock = [0.0]
    _waited.set(clock)
    return clock


class MeasuredBank:
    """A core bank whose every call is timed."""

    def __init__(self, bank: CoreBank) -> None:
        for name in _PORT:
            setattr(self, name, _timed(getattr(bank, name)))


def measured(bank: CoreBank) -> CoreBank:
    return cast(CoreBank, MeasuredBank(bank))


def _timed(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @wraps(call)
    async def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return await call(*args, **kwargs)
        finally:
            clock = _waited.get()
            if clock is not None:
                clock[0] += time.perf_counter() - started

    return timed
