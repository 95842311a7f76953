"""What counting costs, and a scrape of 28,000 lines from two workers: `python -m bench.metrics_page`."""

import asyncio
import os
import statistics
import sys
import tempfile
import time
import timeit
from pathlib import Path

from gateway import metrics

WORKERS, SCRAPES = 2, 8
PARTNERS, OPERATIONS, OUTCOMES = 60, 50, ("ok", "scope", "policy_amount", "schema")  # far above the limit of series
METHODS, STATUSES = 40, 35  # histograms: 1,400 series of 17 lines
ROUNDS = 20_000


def fill() -> None:
    """As many series as the limits let in: 4,000 of a counter and 1,400 of a histogram."""
    for partner in range(PARTNERS):
        for operation in range(OPERATIONS):
            for outcome in OUTCOMES:
                metrics.count("parasol_requests_total", partner=f"p{partner}", operation=f"O{operation}", code="200",
                              outcome=outcome)  # fmt: skip
    for method in range(METHODS):
        for status in range(STATUSES):
            metrics.observe("http_server_request_duration_seconds", 0.01, http_request_method=f"M{method}",
                            http_response_status_code=str(status))  # fmt: skip


async def work(hub_path: str) -> None:
    """A worker whose loop does nothing but look at the clock, until its input ends."""
    fill()
    late_s: list[float] = []
    async with metrics.reporting(hub_path):
        print("filled", flush=True)
        ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        while not ended.done():
            due = time.perf_counter() + 0.001
            await asyncio.sleep(0.001)
            late_s.append(time.perf_counter() - due)
    late_s.sort()
    p99_ms, most_ms = late_s[int(len(late_s) * 0.99)] * 1e3, late_s[-1] * 1e3
    print(f"  a worker's loop meanwhile: late by {p99_ms:.2f} ms at the 99th percentile, {most_ms:.1f} ms at the most")


async def scrape(hub_path: str) -> None:
    spent_s: list[float] = []
    async with metrics.reporting(hub_path):
        for _ in range(SCRAPES):
            started = time.perf_counter()
            page = await metrics.page()
            spent_s.append(time.perf_counter() - started)
    lines = page.count(b"\n")
    print(f"a scrape of {lines:,} lines, {WORKERS} workers: {statistics.median(spent_s) * 1e3:.0f} ms at the median")


def count_costs() -> None:
    def one() -> None:
        metrics.count("parasol_refusals_total", reason="scope")

    def four() -> None:
        metrics.count("parasol_requests_total", partner="p", operation="GetBalances", code="200", outcome="ok")

    def seen() -> None:
        metrics.observe("http_server_request_duration_seconds", 0.012, http_request_method="GET",
                        http_response_status_code="200")  # fmt: skip

    for name, step in (("count, 1 label", one), ("count, 4 labels", four), ("observe, 2 labels", seen)):
        print(f"{name}: {min(timeit.repeat(step, number=ROUNDS, repeat=15)) / ROUNDS * 1e6:.2f} µs")


async def main() -> None:
    count_costs()
    with tempfile.TemporaryDirectory(prefix="parasol-bench-") as folder:
        path = str(Path(folder) / "hub")
        hub = await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway.metrics.hub", path, str(os.getpid()))
        workers = [
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "bench.metrics_page",
                path,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            for _ in range(WORKERS)
        ]
        for worker in workers:
            assert worker.stdout is not None
            await worker.stdout.readuntil(b"filled\n")
        await asyncio.sleep(1)  # the workers look for the hub twice a second
        await scrape(path)
        for worker in workers:
            print((await worker.communicate(b""))[0].decode(), end="")
        hub.terminate()
        await hub.wait()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]) if len(sys.argv) > 1 else main())
