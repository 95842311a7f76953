"""The metrics hub as its own process: one page for all workers, no counter falls when a worker ends or is killed."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway import metrics

PATIENCE_S = 10.0
WORKER = """
import asyncio, logging, sys
import structlog
from gateway import metrics
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
async def work() -> None:
    async with metrics.reporting(sys.argv[1]):
        for number in range(int(sys.argv[2])):
            metrics.count("parasol_claims_total", outcome="owned")
        metrics.gauge("parasol_config_generation", int(sys.argv[2]))
        print("counted", flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(work())
"""


@pytest.fixture
def socket_path(tmp_path: Path) -> str:
    return str(tmp_path / "hub")


@pytest.fixture
def hub(socket_path: str) -> Iterator[subprocess.Popen[bytes]]:
    process = start_hub(socket_path)
    yield process
    process.terminate()
    process.wait(PATIENCE_S)


def start_hub(socket_path: str, **settings: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "gateway.metrics.hub", socket_path, str(os.getpid())]
    return subprocess.Popen(command, env={**os.environ, **settings})


@asynccontextmanager
async def worker(socket_path: str, claims: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that has counted so many claims and stays until its input ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, socket_path, str(claims),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    assert await process.stdout.readline() == b"counted\n"
    try:
        yield process
    finally:
        process.stdin.close()
        await process.wait()


async def scrape(socket_path: str) -> dict[str, float]:
    """The hub's page, asked for without taking part: what other tests have counted in this process stays here."""
    page = (await metrics._hub_page(socket_path)).decode()
    return {sample.name: sample.value for family in text_string_to_metric_families(page) for sample in family.samples}


async def scrape_until(socket_path: str, **wanted: float) -> dict[str, float]:
    """Processes come and go in their own time; what is waited for is a state, not a moment."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                shown = await scrape(socket_path)
            except (metrics.MetricsHubAway, OSError, asyncio.IncompleteReadError):
                shown = {}  # not there yet, or not there any more
            if all(shown.get(name) == value for name, value in wanted.items()):
                return shown
            await asyncio.sleep(0.05)


async def test_one_page_shows_all_workers(socket_path: str, hub: object) -> None:
    async with AsyncExitStack() as stack:
        for claims in (3, 4):
            await stack.enter_async_context(worker(socket_path, claims))
        shown = await scrape_until(socket_path, parasol_claims_total=7.0)
        assert shown["parasol_config_generation"] == 3.0  # the slowest worker's


async def test_no_counter_falls_when_a_worker_ends(socket_path: str, hub: object) -> None:
    async with worker(socket_path, 3):
        async with worker(socket_path, 4):
            await scrape_until(socket_path, parasol_claims_total=7.0)
        shown = await scrape_until(socket_path, parasol_claims_total=7.0, parasol_config_generation=3.0)
    assert (await scrape_until(socket_path, parasol_claims_total=7.0))["parasol_processes"] <= shown[
        "parasol_processes"
    ]


async def test_a_worker_says_at_its_end_what_nobody_had_asked_for(socket_path: str, hub: object) -> None:
    await scrape_until(socket_path, parasol_build_info=1.0)
    async with worker(socket_path, 5):
        await scrape_until(socket_path, parasol_config_generation=5.0)
    await scrape_until(socket_path, parasol_claims_total=5.0)


async def test_no_counter_falls_when_a_worker_is_killed(socket_path: str, hub: object) -> None:
    async with worker(socket_path, 4) as process:
        await scrape_until(socket_path, parasol_claims_total=4.0)
        process.kill()
        await process.wait()
        assert (await scrape_until(socket_path, parasol_claims_total=4.0))["parasol_claims_total"] == 4.0


async def test_workers_find_a_hub_that_was_killed_and_started_again(socket_path: str) -> None:
    first = start_hub(socket_path)
    async with worker(socket_path, 6):
        await scrape_until(socket_path, parasol_claims_total=6.0)
        first.kill()
        first.wait(PATIENCE_S)
        second = start_hub(socket_path)
        try:
            await scrape_until(socket_path, parasol_claims_total=6.0)
        finally:
            second.terminate()
            second.wait(PATIENCE_S)


async def test_a_scrape_without_its_hub_is_refused_rather_than_shown_as_a_fall(socket_path: str) -> None:
    async with metrics.reporting(socket_path):
        with pytest.raises(metrics.MetricsHubAway):
            await metrics.page()


async def test_a_process_alone_renders_its_own_page() -> None:
    async with metrics.reporting(""):
        metrics.count("parasol_goals_total", goal="account_opened")
        assert b'parasol_goals_total{goal="account_opened"}' in await metrics.page()


async def test_nonsense_on_the_socket_ends_that_connection_only(socket_path: str, hub: object) -> None:
    await scrape_until(socket_path, parasol_build_info=1.0)
    reader, writer = await asyncio.open_unix_connection(socket_path)
    writer.write(b"\xff\xff\xff\xff nonsense")
    assert await reader.read() == b""
    writer.close()
    await scrape_until(socket_path, parasol_build_info=1.0)


async def test_only_this_user_may_connect(socket_path: str, hub: object) -> None:
    await scrape_until(socket_path, parasol_build_info=1.0)
    assert os.stat(socket_path).st_mode & 0o077 == 0


def test_the_hub_shows_its_page_on_a_port_of_its_own(socket_path: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = start_hub(socket_path, PARASOL_METRICS_PORT=str(port))
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False)
                break
            except httpx.ConnectError:
                assert time.monotonic() < deadline, "it never listened"
        assert answer.status_code == 200
        assert "parasol_processes 0.0" in answer.text
    finally:
        process.terminate()
        process.wait(10)
