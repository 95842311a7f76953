"""`parasol serve` as real processes: it starts, survives the death of any child, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from gateway.serve import HomeInUse, is_ready, local_address, sole_user

PATIENCE_S = 40.0
TINY_APP = '''
"""The least that a worker serves: who answers, what all count."""
import os
from contextlib import AsyncExitStack
from gateway import metrics
from gateway.settings import read_settings

class Tiny:
    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return await self.live(receive, send)
        metrics.count("parasol_goals_total", goal="visited")
        body = await metrics.page() if scope["path"] == "/metrics" else str(os.getpid()).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def live(self, receive, send):
        async with AsyncExitStack() as stack:
            while (message := await receive())["type"] != "lifespan.shutdown":
                await stack.enter_async_context(metrics.reporting(read_settings().metrics_socket))
                await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
'''
RUNNER = """
import sys
from gateway.serve import serve
from gateway.settings import read_settings
if __name__ == "__main__":
    serve(read_settings(), host="127.0.0.1", port=int(sys.argv[1]), on_ready=print, application="tiny_app:Tiny")
"""


@dataclass(frozen=True, slots=True)
class Served:
    """A serving gateway, its process tree and its address."""

    process: "subprocess.Popen[bytes]"
    address: str

    def worker(self) -> int:
        """The pid of a worker that answers just now; a fresh connection each time, so that each worker has its turn."""
        return int(httpx.get(self.address).text)

    def child(self, module: str) -> psutil.Process:
        return next(child for child in self.children() if module in " ".join(child.cmdline()))

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def visits(self) -> float:
        page = httpx.get(f"{self.address}/metrics").text
        return next(float(line.split()[-1]) for line in page.splitlines() if line.startswith("parasol_goals_total{"))


def eventually(question: Callable[[], bool]) -> None:
    """Wait for a state that other processes bring about in their own time."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if question():
                return
        except (httpx.HTTPError, ValueError, StopIteration, psutil.NoSuchProcess):
            pass
        time.sleep(0.05)
    pytest.fail(f"not within {PATIENCE_S} s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(home: Path) -> Iterator[Served]:
    """The tiny application with the real database, hub and back office around it."""
    code = home.parent / "code"
    code.mkdir(exist_ok=True)
    (code / "tiny_app.py").write_text(TINY_APP)
    (code / "runner.py").write_text(RUNNER)
    port = free_port()
    given = {"sandbox": "true", "workers": "2", "home": str(home), "log_level": "error", "drain_s": "0",
             "data_dir": str(Path(__file__).parents[2])}  # fmt: skip
    environ = {**os.environ, "PYTHONPATH": str(code)} | {f"PARASOL_{k.upper()}": v for k, v in given.items()}
    process = subprocess.Popen([sys.executable, str(code / "runner.py"), str(port)], env=environ)
    served = Served(process, f"http://127.0.0.1:{port}")
    try:
        eventually(lambda: is_ready(served.address) or process.poll() is not None)
        assert process.poll() is None, "it says why on standard error"
        yield served
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One gateway for the tests that leave it well."""
    with serving(tmp_path_factory.mktemp("serve") / "home") as opened:
        yield opened


def test_several_workers_share_the_port_and_one_page_of_metrics(served: Served) -> None:
    eventually(lambda: len({served.worker() for _ in range(10)}) == 2)
    before = served.visits()
    for _ in range(20):
        served.worker()
    assert served.visits() == before + 21  # the page asked before counted itself too


def test_a_killed_worker_is_replaced_and_no_counter_falls(served: Served) -> None:
    victim = served.worker()
    before = served.visits()
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(others := {served.worker() for _ in range(10)}) == 2 and victim not in others)
    eventually(lambda: served.visits() >= before)
    assert served.visits() >= before


@pytest.mark.parametrize("module", ["gateway.metrics.hub", "gateway.backoffice"])
def test_a_killed_companion_is_started_again(served: Served, module: str) -> None:
    victim = served.child(module)
    victim.kill()
    eventually(lambda: served.child(module).pid != victim.pid)
    eventually(lambda: served.visits() > 0)


def test_a_second_gateway_in_the_same_home_is_refused(tmp_path: Path) -> None:
    with sole_user(tmp_path), pytest.raises(HomeInUse, match="--home"), sole_user(tmp_path):
        pass
    with sole_user(tmp_path):  # free again
        pass


def is_resource_tracker(child: psutil.Process) -> bool:
    """Python's own helper of processes that it spawns: it ends when it sees that its parent has, so a moment later."""
    return "multiprocessing.resource_tracker" in " ".join(child.cmdline())


def test_a_terminated_gateway_leaves_no_process_no_socket_and_its_port(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as opened:
        eventually(lambda: len({opened.worker() for _ in range(10)}) == 2)
        children = [child for child in opened.children() if not is_resource_tracker(child)]
        assert len(children) >= 4  # two workers, hub, back office
        opened.process.terminate()
        assert opened.process.wait(PATIENCE_S) == 0
        assert not (tmp_path / "home" / "postgres" / "postmaster.pid").exists()
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert not (tmp_path / "home" / "metrics.sock").exists()
    assert not is_ready(opened.address)


def test_a_killed_gateway_takes_its_children_along_and_the_next_one_its_database(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(home) as first:
        children = first.children()
        os.kill(first.process.pid, signal.SIGKILL)
    ended = [child for child in children if child.name() != "postgres"]
    eventually(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in ended))
    with serving(home) as second:
        assert second.worker() > 0
        cluster = psutil.Process(int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0]))
    eventually(lambda: not cluster.is_running())


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "http://127.0.0.1:80"), ("0.0.0.0", "http://127.0.0.1:80"), ("::", "http://[::1]:80"),
     ("bank.test", "http://bank.test:80")],
)  # fmt: skip
def test_the_address_to_open_is_one_that_can_be_opened(host: str, address: str) -> None:
    assert local_address(host, 80) == address
