"""How late this process's event loop wakes: the one number that shows a blocking call on it."""

import asyncio
import time

from gateway.metrics.series import Registry

PERIOD_S = 0.25  # four wake-ups a second cost nothing and catch a stall of a tenth within a minute


async def watch_event_loop(registry: Registry) -> None:
    """Run as a task for the life of the process."""
    while True:
        due = time.perf_counter() + PERIOD_S
        await asyncio.sleep(PERIOD_S)
        registry.observe("parasol_event_loop_lag_seconds", max(0.0, time.perf_counter() - due))
