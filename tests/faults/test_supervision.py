"""`parasol serve` under attack: whatever process dies or hangs, callers are served, and it ends when it is told to."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from gateway.crew import SILENCE_S
from tests.conftest import memory_folder
from tests.faults.serving import EXIT_S, Serving, eventually, is_gone, serving, starting

CALLERS = 8
HUNG_S = SILENCE_S + 6.0  # to be noticed, and replaced on a busy machine


@pytest.fixture(scope="module")
def served() -> Iterator[Serving]:
    """One gateway with two workers for the tests that leave it well."""
    with tempfile.TemporaryDirectory(prefix="parasol-serve-", dir=memory_folder()) as folder:
        with serving(Path(folder)) as opened:
            yield opened


def both(served: Serving) -> set[int]:
    eventually(lambda: len(served.workers()) == 2 and served.is_ready())
    return served.workers()


class Callers:
    """Some that ask all the time, on connections that they keep as long as they may."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self.enough = False
        self.are_at_it = asyncio.Event()

    async def ask(self, address: str) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
            while not self.enough:
                try:
                    answer = await http.get(address + "/healthz")
                    self.found[str(answer.status_code)] += 1
                    if self.found.total() >= CALLERS:
                        self.are_at_it.set()
                except httpx.HTTPError as error:
                    self.found[type(error).__name__] += 1
                    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                        return


@asynccontextmanager
async def calling(address: str) -> AsyncIterator[Callers]:
    callers = Callers()
    tasks = [asyncio.create_task(callers.ask(address)) for _ in range(CALLERS)]
    try:
        await callers.are_at_it.wait()
        yield callers
    finally:
        callers.enough = True
        await asyncio.gather(*tasks)


async def test_reloading_replaces_every_worker_and_refuses_nobody(served: Serving) -> None:
    before = both(served)
    async with calling(served.address) as callers:
        reload = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.cli", "reload", "--home", str(served.home), stdout=subprocess.PIPE
        )
        said, _ = await reload.communicate()
    assert (reload.returncode, b"new workers" in said) == (0, True), served.log()
    assert set(callers.found) == {"200"}
    assert not before & served.workers()
    assert len(served.workers()) == 2


def test_reloading_where_nobody_serves_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "reload", "--home", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "No gateway serves from" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reload_whose_new_workers_do_not_start_leaves_the_old_ones_and_says_so(served: Serving) -> None:
    before, key = both(served), served.home / "kek"
    usual = key.read_text()
    key.write_text("not a key")  # whoever starts now reads it
    try:
        done = reload_of(served)
    finally:
        key.write_text(usual)
    assert (done.returncode, "old ones stay" in done.stderr) == (2, True), done.stderr + served.log()
    assert "Traceback" not in done.stderr
    assert served.workers() == before
    assert served.is_ready()
    assert reload_of(served).returncode == 0
    assert not before & both(served)


def reload_of(served: Serving) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "gateway.cli", "reload", "--home", str(served.home)]
    return subprocess.run(command, capture_output=True, text=True)


def test_workers_that_die_again_and_again_end_nobody_else(served: Serving) -> None:
    """Two deaths within 5.5 s ended the whole gateway with status 1."""
    for _ in range(3):
        victim = min(both(served))
        os.kill(victim, signal.SIGKILL)
        eventually(lambda victim=victim: victim not in served.workers())  # type: ignore[misc]
        assert served.get("/healthz").status_code == 200  # the other one
    both(served)
    assert served.process.poll() is None


def test_a_hung_worker_is_noticed_and_replaced_and_callers_are_served_meanwhile(served: Serving) -> None:
    victim = min(both(served))
    os.kill(victim, signal.SIGSTOP)
    began = time.monotonic()
    eventually(lambda: victim not in served.workers(), HUNG_S)
    assert time.monotonic() - began > 1.0, "a short pause is not a hang"
    both(served)
    assert '"process_hung"' in served.log()
    for _ in range(10):
        assert served.get("/healthz").status_code == 200


def test_a_killed_postgresql_is_back_and_the_workers_have_waited(served: Serving) -> None:
    workers, killed = both(served), served.postmaster()
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: served.postmaster() != killed and served.is_ready(), 15.0)
    assert served.workers() == workers


def test_a_worker_without_its_database_waits_not_ready_instead_of_dying(served: Serving) -> None:
    """A restart of a worker while the database was away ended the whole gateway."""
    both(served)
    with frozen(served.postmaster()):
        for victim in served.workers():
            os.kill(victim, signal.SIGKILL)
        eventually(lambda: served.get("/readyz").json().get("missing") == "database")
        assert served.get("/healthz").json() == {"status": "alive"}
        refused = served.get("/partner/v1/campaigns")
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (
            503,
            "configuration_stale",
            "1",
        )
    both(served)


async def test_leaving_says_so_first_answers_what_was_sent_and_ends_in_ten_seconds() -> None:
    """No request that was sent on an open connection is reset, and no process stays, PostgreSQL's neither."""
    with tempfile.TemporaryDirectory(prefix="parasol-leave-", dir=memory_folder()) as folder:
        with serving(Path(folder), more={"PARASOL_DRAIN_S": "3"}) as leaving:
            pids, killed = [child.pid for child in leaving.children()], leaving.postmaster()
            os.kill(killed, signal.SIGKILL)  # so that its pid is another than at the start
            eventually(lambda: leaving.postmaster() != killed and leaving.is_ready(), seen=leaving.log)
            pids.append(leaving.postmaster())
            async with calling(leaving.address) as callers:
                ended = asyncio.create_task(asyncio.to_thread(leaving.end))
                await asyncio.to_thread(says_that_it_leaves, leaving)
                assert leaving.get("/healthz").headers["connection"] == "close"
                took = await ended
            assert took < EXIT_S
            assert leaving.process.returncode == 0
            assert set(callers.found) <= {"200", "ConnectError", "ConnectTimeout"}, callers.found
            eventually(lambda: all(is_gone(pid) for pid in pids), 2.0)


def test_leaving_before_it_was_ever_ready_says_so_too_instead_of_refusing_connections() -> None:
    """Who had just said that it was ready was not asked to drain, as its supervisor had not heard of it yet."""
    with tempfile.TemporaryDirectory(prefix="parasol-early-", dir=memory_folder()) as folder:
        with starting(Path(folder), workers=1, more={"PARASOL_DRAIN_S": "3"}) as early:
            eventually(lambda: len(early.workers()) == 1, seen=early.log)
            with frozen(early.postmaster()):
                eventually(lambda: early.get("/readyz").json()["missing"] == "database", seen=early.log)
                early.process.terminate()
                says_that_it_leaves(early)


def says_that_it_leaves(leaving: Serving) -> None:
    """While it drains it serves, but says at /readyz that it leaves; each answer closes its connection."""
    seen: list[tuple[int, str | None]] = []

    def says_so() -> bool:
        answer = leaving.get("/readyz")
        seen.append((answer.status_code, answer.headers.get("connection")))
        return seen[-1] == (503, "close")

    eventually(says_so, 12.0, seen=lambda: f"{seen}\n{leaving.log()}")


@contextmanager
def frozen(postmaster: int) -> Iterator[None]:
    """PostgreSQL with all its server processes, stopped for a while."""
    postgres = psutil.Process(postmaster)
    stopped = [postgres, *postgres.children()]
    for process in stopped:
        process.suspend()
    try:
        yield
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.resume()


@pytest.mark.long
def test_a_gateway_whose_every_process_hangs_ends_in_ten_seconds() -> None:
    with tempfile.TemporaryDirectory(prefix="parasol-hang-", dir=memory_folder()) as folder:
        with serving(Path(folder), workers=1) as hung:
            postgres = psutil.Process(hung.postmaster())
            children = [*hung.children(), *postgres.children(), postgres]
            for child in children:
                child.suspend()
            assert hung.end() < EXIT_S
            eventually(lambda: all(is_gone(child.pid) for child in children), 2.0)
