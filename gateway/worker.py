"""A worker's process: the application behind Granian, on the listening socket that it inherits from the supervisor.

`python -m gateway.worker APPLICATION PARENT LISTENER PULSE`: `module:factory`, the pid of the process that it ends
with, two descriptors. SIGTERM: the gateway leaves; SIGUSR1: a newer worker has taken over. Open requests may end.
"""

import asyncio
import importlib
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

import structlog
from granian import Granian, net
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

from gateway import log
from gateway.lifeline import READY, beat, end_with_parent, tell
from gateway.port import BACKLOG, accept_nobody
from gateway.settings import Settings, read_settings
from gateway.unready import Leaving, is_ready
from gateway.watched import Watched, keep_doing, watch

HEADERS_MS = 20_000  # a request's headers have that long; an idle connection ends then, too (ops/envoy.yaml: 15 s)
CONNECTIONS = 8_192  # of a worker: idle ones and slow senders cost little, and must not keep others out
SPARE_FILES = 512  # descriptors beside the connections: database, logs, maps
READY_LOOK_S = 0.1
QUEUE_S = 0.3  # after the drain, the supervisor lets nobody new in; whoever waits in the queue is accepted within that
READ_S = 0.3  # and for the request of whoever was accepted last: Granian closes what it has not begun to read
Message = MutableMapping[str, Any]
Application = Callable[..., Awaitable[None]]
logger = structlog.get_logger(__name__)


class Worker:
    """The application as Granian sees it, and how this worker stands: alive, ready, leaving."""

    def __init__(self, application: Application, settings: Settings, *, listener: int, pulse: int) -> None:
        self._application = application
        self._drain_s = settings.drain_s
        self._listener = listener
        self._pulse = pulse
        self._tasks: list[Watched] = []

    def __call__(self, scope: Message, receive: Any, send: Any) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return self._live(scope, receive, send)
        return self._application(scope, receive, send)

    async def _live(self, scope: Message, receive: Any, send: Any) -> None:
        """Granian's own handlers are there by now; of them SIGINT stays, which ends its serving."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._leave, False)
        loop.add_signal_handler(signal.SIGUSR1, self._leave, True)
        self._tasks.append(watch("pulse", beat(self._pulse)))
        try:
            await self._application(scope, receive, partial(self._told, send))
        finally:
            for task in self._tasks:
                await task.end()

    async def _told(self, send: Any, message: Message) -> None:
        await send(message)
        if message["type"] == "lifespan.startup.complete":
            self._tasks.append(watch("readiness", keep_doing("readiness", self._say_ready)))

    async def _say_ready(self) -> None:
        """Once; and only when Granian serves: while it starts, its loop stops before the pause is over."""
        await asyncio.sleep(READY_LOOK_S)
        if await is_ready(self._application):
            tell(self._pulse, READY)
            await asyncio.Event().wait()

    def _leave(self, replaced: bool) -> None:
        if isinstance(self._application, Leaving):
            return
        logger.info("worker_leaves", reason="replaced" if replaced else "asked to")
        self._application = Leaving(self._application, says_ready=replaced)
        loop, accepts_s = asyncio.get_running_loop(), self._drain_s + QUEUE_S
        loop.call_later(accepts_s, accept_nobody, self._listener)
        loop.call_later(accepts_s + READ_S, signal.raise_signal, signal.SIGINT)


def serve_here(application: str, *, listener: int, pulse: int, settings: Settings) -> None:
    """Until SIGTERM or SIGUSR1. Granian starts its workers itself; this is one of them, in this process."""

    def load() -> Worker:
        module, _, factory = application.partition(":")
        return Worker(getattr(importlib.import_module(module), factory)(), settings, listener=listener, pulse=pulse)

    server: Any = Granian(
        application,
        interface=Interfaces.ASGI,
        factory=True,
        http=HTTPModes.http1,
        websockets=False,
        backlog=BACKLOG,
        backpressure=CONNECTIONS,
        http1_settings=HTTP1Settings(header_read_timeout=HEADERS_MS),
        log_level=LogLevels.warning,
        log_dictconfig={"version": 1, "disable_existing_loggers": False},  # our handler writes them as JSON lines
    )

    def serve_in_this_process(worker: Callable[..., None], load: Callable[[], Worker]) -> None:
        """What Granian does where there is no SO_REUSEPORT: a descriptor instead of an address."""
        server._ssp, server._shd, server._sso = None, holder(listener, False, BACKLOG), None
        server._start_ipc()
        server._spawn_worker(idx=0, target=worker, callback_loader=load).inner.run()

    holder = vars(net)["SocketHolder"]
    server._serve = serve_in_this_process  # in the place of starting workers and watching them
    server.serve(target_loader=load, wrap_loader=False)


def allow_files(wanted: int) -> None:
    """Raise this process's limit of open files as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def main() -> None:
    application, parent, listener, pulse = sys.argv[1:]
    end_with_parent(int(parent))
    settings = read_settings()
    log.configure(settings.log_level)
    allow_files(CONNECTIONS + SPARE_FILES)
    serve_here(application, listener=int(listener), pulse=int(pulse), settings=settings)


if __name__ == "__main__":
    main()
