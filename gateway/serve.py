"""`parasol serve`: database, schema, metrics hub, back office and workers started, watched and stopped as one.

The order of starting is the order of dependence, the order of stopping its reverse; PostgreSQL goes last. Every child
is ended by its own pid, and ends by itself should this process be killed.
"""

import asyncio
import fcntl
import http.client
import importlib
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import msgspec
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

from gateway import log
from gateway.companion import Companion
from gateway.database.embedded import start_embedded
from gateway.database.migrate import check_home
from gateway.database.roles import GATEWAY, logged_in_as
from gateway.lifeline import end_with_parent
from gateway.port import CannotServe, check_port
from gateway.provision import check_provisioned, provision
from gateway.settings import Settings, read_settings, to_environment

APPLICATION = "gateway.app:create"
SOCKET_PATH_LIMIT = 100  # bytes: a Unix socket's address has 108 on Linux, 104 on macOS
HEADERS_MS = 20_000  # a request's headers have that long; an idle connection ends then, too (ops/envoy.yaml: 15 s)
BACKLOG = 1_024  # connections of a worker that wait to be accepted
CONNECTIONS = 8_192  # of a worker: idle ones and slow senders cost little, and must not keep others out
SPARE_FILES = 512  # descriptors beside the connections: database, logs, maps
WORKER_STOP_S = 15  # a worker's open requests have that long to end
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
    """Blocks until SIGTERM or SIGINT, or until the workers cannot be kept alive. Raises CannotServe before that."""
    check_port(host, port)
    if settings.metrics_port:
        check_port(settings.metrics_host, settings.metrics_port)
    signal.signal(signal.SIGTERM, _leave)
    multiprocessing.set_start_method("spawn", force=True)  # a fork would copy this process's threads' locks
    with ExitStack() as stack:
        stack.enter_context(sole_user(settings.home_path))
        settings = stack.enter_context(with_database(settings))
        if settings.sandbox:
            asyncio.run(provision(settings))
        else:
            check_home(settings.owner_url)
            asyncio.run(check_provisioned(settings))
        settings = msgspec.structs.replace(settings, migrate_url="")  # who serves has no use for the owner's address
        settings = stack.enter_context(with_companions(settings))
        os.environ.update(to_environment(settings))
        address = local_address(host, port)
        threading.Thread(target=_announce, args=(address, on_ready), daemon=True).start()
        _serve_workers(settings, host=host, port=port, application=application)


@contextmanager
def sole_user(home: Path) -> Iterator[None]:
    """Hold the home folder; the lock goes with the process, however it ends."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "serve.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeInUse(home) from None
        yield


@contextmanager
def with_database(settings: Settings) -> Iterator[Settings]:
    """The settings with a database that is there: the given one, or in a sandbox an embedded one of its own."""
    if settings.database_url:
        yield settings
        return
    if not settings.sandbox:
        raise DatabaseMissing
    cluster = start_embedded(settings.home_path)
    try:
        url = cluster.get_uri()
        yield msgspec.structs.replace(settings, database_url=logged_in_as(url, GATEWAY), migrate_url=url)
    finally:
        cluster.cleanup()


@contextmanager
def with_companions(settings: Settings) -> Iterator[Settings]:
    """The settings of a worker that feeds the metrics hub and leaves the chores to the back office; both running."""
    with ExitStack() as stack:
        socket_path = _socket_path(settings.home_path, stack)
        settings = msgspec.structs.replace(settings, metrics_socket=socket_path, chores="elsewhere")
        back_office = msgspec.structs.replace(settings, chores="inline")
        for name, arguments, own in (
            ("metrics-hub", ["gateway.metrics.hub", socket_path], settings),
            ("back-office", ["gateway.backoffice"], back_office),
        ):
            command = [sys.executable, "-m", *arguments, str(os.getpid())]
            companion = Companion(name, command, environ=to_environment(own))
            companion.start()
            stack.callback(companion.stop)
        yield settings


def local_address(host: str, port: int) -> str:
    """What to type on this machine to reach a server that listens on `host`."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound, but avoided
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def open_worker(application: str, parent: int) -> Any:
    """Runs in each worker: the ASGI application from its factory, `module:function`."""
    end_with_parent(parent)
    log.configure(read_settings().log_level)
    module, _, factory = application.partition(":")
    return getattr(importlib.import_module(module), factory)()


def _serve_workers(settings: Settings, *, host: str, port: int, application: str) -> None:
    """Each worker listens on the port itself (SO_REUSEPORT); a dead one is replaced, one that dies again ends all."""
    allow_files(CONNECTIONS + SPARE_FILES)
    server = Granian(
        application,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        workers=settings.workers,
        factory=True,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=HEADERS_MS),
        backlog=BACKLOG,
        backpressure=CONNECTIONS,
        websockets=False,
        respawn_failed_workers=True,
        workers_kill_timeout=WORKER_STOP_S,
        log_level=LogLevels.warning,
        log_dictconfig={"version": 1, "disable_existing_loggers": False},  # our handler writes them as JSON lines
    )
    server.serve(target_loader=partial(open_worker, application, os.getpid()), wrap_loader=False)


def allow_files(wanted: int) -> None:
    """Raise the limit of open files, which the workers inherit, as far as this process may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


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


def _leave(signum: int, _: object) -> NoReturn:
    """SIGTERM while starting: unwind, so that what was started is stopped. The server's own handler replaces this."""
    sys.exit(128 + signum)
