"""`parasol run`, which is `make run`: a gateway with its own log file, the demonstration on it, then what to open."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gateway.database.migrate import OldHome
from gateway.port import CannotServe, check_port
from gateway.serve import is_ready, local_address, make_home

PARASOL = (sys.executable, "-m", "gateway.cli")  # this very installation, wherever it is
START_S = 60  # a first start makes a database cluster; a warm one takes about three seconds
STOP_S = 30
POLL_S = 0.05
TAIL_LINES = 15
OLD_HOME = f"parasol: {OldHome()}"  # the last line of a gateway that refuses its home
PAGES = (
    ("/portal", "developer portal: first call, every error"),
    ("/portal/reference/partner.v1", "API reference"),
    ("/console", "operations console; keys are in {home}/sandbox/operators.json"),
    ("/metrics", "metrics of all workers, Prometheus text"),
)


class GatewayEnded(CannotServe):
    """It did not become ready, or ended while it was needed; its log says why."""


@dataclass(frozen=True, slots=True)
class Premises:
    """Where the gateway runs."""

    host: str
    port: int
    home: Path
    workers: int

    @property
    def address(self) -> str:
        return local_address(self.host, self.port)

    @property
    def log(self) -> Path:
        return self.home / "gateway.log"


def run(premises: Premises, *, demo: Sequence[str], stay: bool) -> int:
    """The exit status of the command `demo`; with `stay`, only after Ctrl-C or the gateway's end."""
    check_port(premises.host, premises.port)
    console = Console()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with gateway_running(premises, console) as gateway:
        status = subprocess.call(demo, env={**os.environ, "NO_PROXY": premises.host})  # noqa: S603 - our own command
        if stay:
            show_pages(premises, console)
            _wait(gateway, premises)
    return status


@contextmanager
def gateway_running(premises: Premises, console: Console) -> Iterator["subprocess.Popen[bytes]"]:
    """A ready gateway, ended by its pid when we leave. Raises GatewayEnded with the end of its log."""
    make_home(premises.home)
    command = [*PARASOL, "serve", "--sandbox", "--host", premises.host, "--port", str(premises.port),
               "--home", str(premises.home), "--workers", str(premises.workers)]  # fmt: skip
    with premises.log.open("ab") as log:
        gateway = subprocess.Popen(  # noqa: S603 - our own command
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        with console.status("Starting PostgreSQL and the gateway"):
            _wait_until_ready(gateway, premises)
        yield gateway
    finally:
        gateway.terminate()
        try:
            gateway.wait(STOP_S)
        except subprocess.TimeoutExpired:
            gateway.kill()
            gateway.wait()


def show_pages(premises: Premises, console: Console) -> None:
    table = Table("open", "to see", title=f"The gateway is up at {premises.address}", title_justify="left")
    for path, what in PAGES:
        table.add_row(premises.address + path, what.format(home=premises.home))
    console.print(table)
    console.print(f"Credentials of the demo partners: {premises.home}/sandbox/. Log: {premises.log}. Ctrl-C ends it.")


def _wait_until_ready(gateway: "subprocess.Popen[bytes]", premises: Premises) -> None:
    deadline = time.monotonic() + START_S
    while not is_ready(premises.address):
        if gateway.poll() is not None:
            raise GatewayEnded(_with_log("The gateway ended while starting", premises))
        if time.monotonic() > deadline:
            raise GatewayEnded(_with_log(f"The gateway is not ready after {START_S} s", premises))
        time.sleep(POLL_S)


def _wait(gateway: "subprocess.Popen[bytes]", premises: Premises) -> None:
    try:
        gateway.wait()
    except KeyboardInterrupt:
        return
    raise GatewayEnded(_with_log("The gateway ended", premises))


def _with_log(what: str, premises: Premises) -> str:
    """The gateway's own last sentence, where it ended with one; else the end of its log."""
    lines = premises.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
    if lines and lines[-1] == OLD_HOME:
        return lines[-1].removeprefix("parasol: ")
    return "\n".join((f"{what}. The end of {premises.log}:", *lines))
