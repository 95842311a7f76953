"""Child processes of a bench: pinned to chosen cores, waited for, their CPU time read, ended by their own pid."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

START_S = 60.0  # a first start may have to initialise a database cluster
STOP_S = 10.0  # a server that needs longer to stop is killed
LOOK_S = 0.05  # how often a starting server is tried


class PeerFailed(Exception):
    """A server of this bench did not start, or ended early; the text holds the end of its log."""


def cores() -> tuple[int, int]:
    """(server core, load core): two different ones, or the same one twice where the machine has only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[-1], usable[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Pinned:
    """One child process and all its children, on the given cores."""

    def __init__(self, command: Sequence[str], *, on: set[int], log: Path, environ: Mapping[str, str]) -> None:
        self._log = log
        mine = os.sched_getaffinity(0)
        os.sched_setaffinity(0, on)  # a child, and every thread it starts, inherits the cores of its parent
        try:
            with log.open("wb") as sink:
                self._child = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env={**os.environ, **environ}
                )
        finally:
            os.sched_setaffinity(0, mine)

    @property
    def pid(self) -> int:
        return self._child.pid

    def cpu_seconds(self) -> float:
        """User and system time of the whole process tree since it started."""
        root = psutil.Process(self.pid)
        return sum(_cpu_seconds(process) for process in [root, *root.children(recursive=True)])

    def wait_for(self, port: int) -> None:
        """Until the port is listened on. Raises PeerFailed when the process ends before, or never does."""
        deadline = time.monotonic() + START_S
        while not _listens(port):
            if self._child.poll() is not None:
                raise PeerFailed(f"{self._child.args!r} ended with {self._child.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise PeerFailed(f"{self._child.args!r} does not listen on {port}:\n{self.log_tail()}")
            time.sleep(LOOK_S)

    def log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        self._child.terminate()
        try:
            self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


@contextmanager
def serving(
    command: Sequence[str], *, port: int, on: set[int], log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[Pinned]:
    """The command as a server on that port, for as long as the block lasts."""
    child = Pinned(command, on=on, log=log, environ=environ or {})
    try:
        child.wait_for(port)
        yield child
    finally:
        child.stop()


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
