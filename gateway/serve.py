"""`parasol serve`: database, schema, metrics hub, back office and workers started, watched and stopped as one.

The order of starting is the order of dependence, the order of stopping its reverse; PostgreSQL goes last. Every child
is ended by its own pid, and ends by itself should this process be killed.
"""

import asyncio
import fcntl
import http.client
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO
from urllib.parse import urlsplit

import msgspec

from gateway.crew import Account, Crew, Departure
from gateway.database.embedded import ENDING, start_embedded
from gateway.database.migrate import check_home
from gateway.database.roles import GATEWAY, logged_in_as
from gateway.port import CannotServe, check_port, listening
from gateway.provision import check_provisioned, provision
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.database.cluster import SandboxCluster

APPLICATION = "gateway.app:create"
SOCKET_PATH_LIMIT = 100  # bytes: a Unix socket's address has 108 on Linux, 104 on macOS
DATABASE_S = 9.0  # after the order to leave, PostgreSQL has ended by then: fast, or as after a crash
READY_POLL_S = 0.1
READY_TIMEOUT_S = 2.5  # /readyz gives its database two seconds


class DatabaseMissing(CannotServe):
    """Outside a sandbox nobody starts a database for you."""

    def __init__(self) -> None:
        super().__init__("Set PARASOL_DATABASE_URL to a PostgreSQL, or add --sandbox for an embedded one")


class HomeInUse(CannotServe):
    """Two gateways in one home would share a database and a metrics socket."""

    def __init__(self, home: Path) -> None:
        super().__init__(f"Another gateway uses {home}: stop it, or give this one its own folder with --home")


def serve(
    settings: Settings, *, host: str, port: int, on_ready: Callable[[str], None], application: str = APPLICATION
) -> None:
    """Blocks until SIGTERM or SIGINT. Raises CannotServe before that, and where no worker ever gets ready."""
    if settings.metrics_port:
        check_port(settings.metrics_host, settings.metrics_port)
    departure = Departure()
    with ExitStack() as stack:
        stack.enter_context(_leaving_early())
        listener = stack.enter_context(listening(host, port))
        lock = stack.enter_context(sole_user(settings.home_path))
        settings = stack.enter_context(with_database(settings, kept=True, by_s=lambda: departure.by(DATABASE_S)))
        if settings.sandbox:
            asyncio.run(provision(settings))
        else:
            check_home(settings.owner_url)
            asyncio.run(check_provisioned(settings))
        settings = msgspec.structs.replace(  # who serves has no use for the owner's address
            settings, migrate_url="", metrics_socket=_socket_path(settings.home_path, stack)
        )
        address = local_address(host, port)
        threading.Thread(target=_announce, args=(address, on_ready), daemon=True).start()
        Crew(settings, listener, application=application, account=Account(lock), departure=departure).work()


class HomeUnusable(CannotServe):
    """No folder can be made there, or nothing written into it."""

    def __init__(self, home: Path, error: OSError) -> None:
        super().__init__(f"{home} cannot hold a gateway: {error.strerror}. Name another folder with --home")


def make_home(home: Path) -> None:
    """Raises HomeUnusable."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        (home / "serve.lock").touch()
    except OSError as error:
        raise HomeUnusable(home, error) from None


@contextmanager
def sole_user(home: Path) -> Iterator[TextIO]:
    """Hold the home folder; the lock goes with the process, however it ends. The file says who holds it."""
    make_home(home)
    with (home / "serve.lock").open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeInUse(home) from None
        lock.truncate(0)  # an earlier life's pid may be anybody's by now
        yield lock


@contextmanager
def with_database(
    settings: Settings, *, kept: bool = False, by_s: Callable[[], float] | None = None
) -> Iterator[Settings]:
    """The settings with a database that is there: the given one, or in a sandbox an embedded one of its own.

    `kept`: should its process end, it is started again. `by_s`: when it has to have ended, at the latest.
    """
    if settings.database_url:
        yield settings
        return
    if not settings.sandbox:
        raise DatabaseMissing
    held = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # cut off while it starts, it would run on for nobody
    try:
        with _cluster_of(settings.home_path, by_s=by_s) as cluster:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)  # what came meanwhile is heard here
            if kept:
                cluster.keep()
            url = cluster.url
            yield msgspec.structs.replace(settings, database_url=logged_in_as(url, GATEWAY), migrate_url=url)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


@contextmanager
def _cluster_of(home: Path, *, by_s: Callable[[], float] | None) -> Iterator["SandboxCluster"]:
    started = start_embedded(home)
    from gateway.database.cluster import SandboxCluster  # needs what comes with the sandbox's extra

    cluster = SandboxCluster(started)
    try:
        yield cluster
    finally:
        cluster.stop(by_s() if by_s is not None else None)


def local_address(host: str, port: int) -> str:
    """What to type on this machine to reach a server that listens on `host`."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound, but avoided
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def _socket_path(home: Path, stack: ExitStack) -> str:
    path = str(home.resolve() / "metrics.sock")
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        return path
    return str(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="parasol-"))) / "metrics.sock")


def _announce(address: str, on_ready: Callable[[str], None]) -> None:
    """Says once that the first worker is ready to serve."""
    pause = threading.Event()
    while not is_ready(address):
        pause.wait(READY_POLL_S)
    on_ready(address)


def is_ready(address: str) -> bool:
    """Does /readyz say yes?"""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=READY_TIMEOUT_S)  # past any http_proxy
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def _leaving_early() -> Iterator[None]:
    """While starting, SIGTERM and Ctrl-C unwind; a reload has nothing to do, as the version is the installed one."""
    before = {signum: signal.signal(signum, _leave_early) for signum in ENDING}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:  # the crew has had its own meanwhile
        for signum, way in before.items():
            signal.signal(signum, way)


def _leave_early(signum: int, _: object) -> NoReturn:
    """While starting: unwind, so that what was started is stopped, whoever is impatient; the crew has its own."""
    for impatient in ENDING:
        signal.signal(impatient, lambda *_: None)  # an ignored one that has come already would be complained about
    sys.exit(128 + signum)
