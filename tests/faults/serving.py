"""A real `parasol serve` for the fault tests: its processes by what they run, its answers, its orderly end."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from gateway.crew import LEAVE_S
from gateway.serve import is_ready

PATIENCE_S = 40.0
EXIT_S = LEAVE_S + 2.0  # two more for the interpreter on a busy machine


@dataclass(frozen=True, slots=True)
class Serving:
    """A serving gateway: its supervisor, its address, its home."""

    process: "subprocess.Popen[bytes]"
    address: str
    home: Path

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def of(self, module: str) -> list[psutil.Process]:
        return [child for child in self.children() if module in _command(child)]

    def workers(self) -> set[int]:
        return {child.pid for child in self.of("gateway.worker")}

    def postmaster(self) -> int:
        return int((self.home / "postgres" / "postmaster.pid").read_text().splitlines()[0])

    def get(self, path: str) -> httpx.Response:
        """On a connection of its own; to read the certificates of the world for it takes long on a busy machine."""
        return httpx.get(self.address + path, timeout=10, trust_env=False, verify=False)

    def is_ready(self) -> bool:
        return is_ready(self.address)

    def log(self) -> str:
        """Nothing where it was sent elsewhere."""
        written = self.home.parent / "log"
        return written.read_text(errors="replace") if written.exists() else ""

    def end(self) -> float:
        """By SIGTERM; the seconds that it took."""
        began = time.monotonic()
        self.process.terminate()
        self.process.wait(PATIENCE_S)
        return time.monotonic() - began


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def eventually(
    question: Callable[[], bool], within_s: float = PATIENCE_S, *, seen: Callable[[], object] = lambda: ""
) -> None:
    """Wait for a state that other processes bring about in their own time; `seen` is told where it does not come."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if question():
                return
        except (httpx.HTTPError, ValueError, StopIteration, psutil.Error, OSError, IndexError):
            pass
        time.sleep(0.05)
    pytest.fail(f"not within {within_s} s {seen()}")


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def serving(folder: Path, *, workers: int = 2, more: Mapping[str, str] | None = None) -> Iterator[Serving]:
    """The whole gateway in a sandbox of its own, ready."""
    with starting(folder, workers=workers, more=more) as served:
        eventually(lambda: served.is_ready() or served.process.poll() is not None, seen=served.log)
        assert served.process.poll() is None, served.log()
        yield served


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def starting(
    folder: Path, *, workers: int = 2, more: Mapping[str, str] | None = None, port: int = 0, log: int | None = None
) -> Iterator[Serving]:
    """The same, from its very beginning. `port`: of an earlier life; `log`: a descriptor in the place of a file."""
    folder.chmod(0o755)
    port = port or free_port()
    environ = {
        **os.environ,
        "PARASOL_DATA_DIR": str(Path(__file__).parents[2]),
        "PARASOL_DRAIN_S": "0.3",
        **(more or {}),
    }
    command = [sys.executable, "-m", "gateway.cli", "serve", "--sandbox", "--home", str(folder / "home"),
               "--port", str(port), "--workers", str(workers)]  # fmt: skip
    with ExitStack() as stack:
        out = stack.enter_context((folder / "log").open("ab")) if log is None else log
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environ)
    served = Serving(process, f"http://127.0.0.1:{port}", folder / "home")
    try:
        yield served
    finally:
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
            if child.status() == psutil.STATUS_STOPPED:  # a test that failed has left it so
                child.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(PATIENCE_S)
