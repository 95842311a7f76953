"""Where drills are held: a real gateway with two workers in a sandbox, and the means to hurt it."""

import os
import signal
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import httpx
import psutil

from gateway.database.embedded import start_embedded
from gateway.demo.stage import Stage, open_stage
from tests.faults.serving import Serving, free_port, starting

CLOCK_HOOK = Path(__file__).parent / "clock"  # its sitecustomize.py
CLIENT_TIMEOUT_S = 35.0  # a payment may take 30


@dataclass(slots=True)
class Ground:
    """A gateway that can be left and started again with the same home and address."""

    folder: Path
    port: int = field(default_factory=free_port)
    log: int | None = None  # the writing end of a pipe, where the log goes to one
    log_reader: int = -1
    environ: dict[str, str] = field(default_factory=dict)  # of the gateway's processes
    url: str = ""
    _stack: ExitStack = field(default_factory=ExitStack)
    _serving: Serving | None = None

    @property
    def clock(self) -> Path:
        return self.folder / "clock"

    @property
    def serving(self) -> Serving:
        assert self._serving is not None, "start it first"
        return self._serving

    def start(self) -> None:
        """Does not wait until it is ready."""
        self._serving = self._stack.enter_context(
            starting(self.folder, port=self.port, log=self.log, more={"PARASOL_LOG_LEVEL": "info", **self.environ})
        )

    def follow_a_clock_of_ours(self) -> None:
        """Before its start: its Python processes read the true time plus what `move_clock` has last said."""
        self.clock.write_bytes(bytes(8))
        path = os.pathsep.join(filter(None, (str(CLOCK_HOOK), os.environ.get("PYTHONPATH"))))
        self.environ = {"PYTHONPATH": path, "DRILL_CLOCK": str(self.clock)}

    def move_clock(self, offset_s: int) -> None:
        with self.clock.open("r+b") as file:  # in its place, as it is mapped
            file.write(struct.pack("=q", offset_s * 10**9))

    def now_s(self) -> float:
        """What the gateway's processes read."""
        (offset_ns,) = struct.unpack("=q", self.clock.read_bytes()) if self.clock.exists() else (0,)
        return time.time() + offset_ns / 1e9

    def look_up_database(self) -> None:
        cluster = start_embedded(self.folder / "home")
        self.url = cluster.get_uri()
        cluster.cleanup()

    def leave(self) -> None:
        self._stack.close()

    def postgres(self) -> list[psutil.Process]:
        postmaster = psutil.Process(self.serving.postmaster())
        return [postmaster, *postmaster.children(recursive=True)]

    @asynccontextmanager
    async def owner(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """The database as who installs it sees it, past the gateway."""
        conn = await asyncpg.connect(self.url)
        try:
            yield conn
        finally:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await conn.close(timeout=2.0)

    @asynccontextmanager
    async def stage(self) -> AsyncIterator[Stage]:
        async with httpx.AsyncClient(timeout=CLIENT_TIMEOUT_S, trust_env=False, verify=False) as http:
            yield open_stage(http, url=self.serving.address, home=self.serving.home)


@contextmanager
def stopped(processes: list[psutil.Process]) -> Iterator[None]:
    """They stand still, as on a host that hangs."""
    try:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
