"""Waiting for what the back office does: ask again until it is done, with patience that ends."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
PAUSE_S = 0.1


class NeverHappened(Exception):
    """It did not come to pass in time."""


async def until(look: Callable[[], Awaitable[T | None]], *, what: str, patience_s: float = 30) -> T:
    """The first answer that is not None. Raises NeverHappened."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        found = await look()
        if found is not None:
            return found
        await asyncio.sleep(PAUSE_S)
    raise NeverHappened(f"after {patience_s:.0f} s it is still not so that {what}")
