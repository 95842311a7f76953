"""Long work on the event loop, in slices: everybody else gets a turn in between."""

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

SLICE_S = 0.002  # nobody's request waits longer for thousands of partners; one document takes some 0.2 ms


class Turns:
    """Begin one with the work, and take a turn after each small piece of it."""

    def __init__(self) -> None:
        self._began_s = time.perf_counter()

    async def take(self) -> None:
        """Let the others run when a slice has been used."""
        if time.perf_counter() - self._began_s > SLICE_S:
            await self.give()

    async def give(self) -> None:
        await asyncio.sleep(0)
        self._began_s = time.perf_counter()


@contextmanager
def lasting() -> Iterator[None]:
    """What is made here stays: the cyclic collector does not walk through it in between (0.1 s at thousands of
    partners), nor ever after in a process that has set aside what it started with."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if gc.get_freeze_count():
            gc.freeze()
        if was_on:
            gc.enable()
