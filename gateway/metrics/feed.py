"""A process's end of the hub's socket: a thread that answers with the numbers, so that the event loop never does."""

import os
import selectors
import socket
import threading
import time

import msgspec
import structlog

from gateway.metrics.blend import pack
from gateway.metrics.series import Registry
from gateway.metrics.wire import Hello, framed, read_asks

RETRY_S = 0.5  # the hub restarts in about that time
SEND_TIMEOUT_S = 5.0  # a hub that does not read is left; it finds us again
log = structlog.get_logger(__name__)


class Feed:
    """Connects, waits to be asked, sends; connects again when the hub has restarted; leaves with its last numbers."""

    def __init__(self, registry: Registry, path: str) -> None:
        self._registry = registry
        self._path = path
        self._bell, self._wakes = socket.socketpair()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="metrics-feed", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Send the last numbers, so that nothing that was counted is lost, and close."""
        self._ended = True
        self._bell.send(b".")
        self._thread.join(SEND_TIMEOUT_S)
        self._bell.close()
        self._wakes.close()

    def _run(self) -> None:
        while not self._ended:
            try:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(self._path)
                    connection.sendall(framed(msgspec.msgpack.encode(Hello("feed", os.getpid()))))
                    self._answer(connection)
            except OSError as error:
                log.debug("metrics_hub_unreachable", error=type(error).__name__)
                self._pause()

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(SEND_TIMEOUT_S)
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            selector.register(self._wakes, selectors.EVENT_READ)
            while not self._ended:
                ready = {key.fileobj for key, _ in selector.select()}
                if connection in ready and not read_asks(connection):
                    return self._pause()
                self._send(connection)

    def _send(self, connection: socket.socket) -> None:
        """An empty frame ends the numbers. Sleeping for nothing lets the event loop's thread have the interpreter."""
        self._registry.read_probes()
        for frame in pack(self._registry):
            connection.sendall(framed(frame))
            time.sleep(0)
        connection.sendall(framed(b""))

    def _pause(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wakes, selectors.EVENT_READ)
            selector.select(RETRY_S)
