"""What the house counts. `count`, `observe` and `gauge` for everybody; the table is in `declared.py`.

Each process keeps its own numbers. With several, a hub process adds them up and renders the page; a process alone
renders its own, in a thread.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import msgspec

from gateway import log, watched
from gateway.metrics.exposition import render
from gateway.metrics.feed import Feed
from gateway.metrics.lag import watch_event_loop
from gateway.metrics.series import MetricMisused, Registry
from gateway.metrics.wire import Hello, framed, read_frame
from gateway.refusal import Refusal

__all__ = ["MetricMisused", "MetricsHubAway", "count", "feeding", "gauge", "observe", "page", "probe", "reporting"]

PAGE_TIMEOUT_S = 8.0  # below Prometheus's scrape timeout of 10 s


@dataclass(slots=True)
class _Hub:
    """Where this process's hub listens; nowhere while it renders its own page."""

    path: str = ""


_registry = Registry()
_hub = _Hub()

count = _registry.count
observe = _registry.observe
gauge = _registry.gauge
probe = _registry.probe
log.count_with(_registry.count)
watched.ways.count = lambda outcome, task: count("parasol_tasks_total", task=task, outcome=outcome)


class MetricsHubAway(Refusal):
    """The hub is restarting: a page of one worker's numbers would look like all counters falling."""

    status, code, outcome = 503, "metrics_hub_away", "gateway_error"
    retry_after_s = 1
    title = "The metrics hub is not there at the moment; it restarts by itself, so scrape again"


@contextmanager
def feeding(hub_path: str) -> Iterator[None]:
    """For a process without an event loop: feed the hub at that socket."""
    feed = Feed(_registry, hub_path)
    feed.start()
    try:
        yield
    finally:
        feed.stop()


@asynccontextmanager
async def reporting(hub_path: str) -> AsyncIterator[None]:
    """For a process's life: measure its event loop, and feed the hub at that socket; no hub when it is empty."""
    feed = Feed(_registry, hub_path) if hub_path else None
    _hub.path = hub_path
    lag = watched.watch("event loop's lag", watch_event_loop(_registry))
    if feed is not None:
        feed.start()
    try:
        yield
    finally:
        await lag.end()
        if feed is not None:
            await asyncio.to_thread(feed.stop)
        _hub.path = ""


async def page() -> bytes:
    """The Prometheus text of all processes; of this one alone where there is no hub. Raises MetricsHubAway."""
    if not _hub.path:
        return await asyncio.to_thread(_own_page)
    try:
        async with asyncio.timeout(PAGE_TIMEOUT_S):
            return await _hub_page(_hub.path)
    except (OSError, EOFError, TimeoutError):
        raise MetricsHubAway() from None


def own_count(name: str) -> float:
    """What this process itself has counted, of a counter without labels."""
    return _registry.counters[name].get((), 0)


def _own_page() -> bytes:
    _registry.read_probes()
    return render(_registry)


async def _hub_page(path: str) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(framed(msgspec.msgpack.encode(Hello("page"))))
        return await read_frame(reader)
    finally:
        writer.close()
