"""A closed-loop HTTP/1.1 load generator: one thread, epoll, keep-alive, made to saturate a server from one core.

Each connection follows a script: a generator that yields request bytes and is sent the whole reply to the last one.
So a script can repeat one request, spend a list of unique proofs, or confirm the very hold it was just given.
"""

import gc
import ipaddress
import re
import select
import socket
import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass

Script = Generator[bytes, bytes, None]

DEFAULT_CONNECTIONS = 64  # enough to keep one core busy, few enough that queueing does not hide the latency
READ_BYTES = 65_536  # one recv takes any reply of this bench whole
MAX_REPLY_BYTES = 4_194_304  # a larger reply is no reply we measure
DRAIN_S = 5.0  # how long open requests may still be answered after the time is up
MAX_RECONNECTS = 1_000  # a server that closes more often than this is broken, not busy
POLL_S = 0.1  # how often the deadline is looked at while no reply comes
NO_ANSWER = b"HTTP/1.1 000 closed\r\n\r\n"  # what a script is told when the server closed instead of answering
BUSY_SHARE = 0.95  # above this share of its core the generator, not the server, may be what is measured
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class LoadRefused(Exception):
    """The load may not be run this way; the text says why."""


class ServerMisbehaved(Exception):
    """The server's answers cannot be counted: closed too often, too large, or not HTTP."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the load goes: a loopback address, never anything else."""

    host: str
    port: int

    def __post_init__(self) -> None:
        if not ipaddress.ip_address(self.host).is_loopback:
            raise LoadRefused(f"{self.host} is not a loopback address; this generator only loads this machine.")


@dataclass(frozen=True, slots=True)
class Report:
    """What one run saw. Latencies are per request, in milliseconds."""

    requests: int
    seconds: float
    statuses: dict[int, int]
    p50_ms: float
    p99_ms: float
    reconnects: int
    generator_share: float  # of one core

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    @property
    def generator_bound(self) -> bool:
        """The generator had no idle time left: the server might have been faster."""
        return self.generator_share >= BUSY_SHARE

    def only(self, *statuses: int) -> bool:
        return self.requests > 0 and set(self.statuses) <= set(statuses)


def repeat(request: bytes) -> Script:
    """The same request for ever."""
    while True:
        yield request


def spend(requests: Iterable[bytes]) -> Script:
    """Each request once, in order: for proofs that must not be seen twice."""
    for request in requests:  # noqa: UP028  an iterator cannot be sent the replies that `yield from` would pass on
        yield request


def body_of(reply: bytes) -> bytes:
    return reply[reply.index(b"\r\n\r\n") + 4 :]


def status_of(reply: bytes) -> int:
    return int(reply[9:12])


def get(path: str, host: str, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """The bytes of a GET."""
    return _request("GET", path, host, headers, b"")


def post(path: str, host: str, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """The bytes of a POST with a JSON body."""
    return _request("POST", path, host, (*headers, ("content-type", "application/json")), body)


def is_whole(reply: bytes) -> bool:
    """Whether head and body are complete. Raises ServerMisbehaved for what is not HTTP/1.1."""
    head_end = reply.find(b"\r\n\r\n")
    if head_end < 0:
        return False
    start = reply.find(b"\r\ncontent-length: ", 0, head_end)  # how most servers spell it: no need for the regex
    if start >= 0:
        return len(reply) >= head_end + 4 + int(reply[start + 18 : reply.index(b"\r", start + 18)])
    if found := _LENGTH.search(reply, 0, head_end):
        return len(reply) >= head_end + 4 + int(found[1])
    if b"chunked" in reply[:head_end].lower():
        return reply.endswith(b"\r\n0\r\n\r\n")
    if reply.startswith((b"HTTP/1.1 204", b"HTTP/1.1 304")):
        return True
    raise ServerMisbehaved(f"This reply has no length: {reply[:80]!r}")


def _request(method: str, path: str, host: str, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    length = [("content-length", str(len(body)))] if method == "POST" else []
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}", *(f"{name}: {value}" for name, value in [*headers, *length])]
    return "\r\n".join([*lines, "", ""]).encode() + body


def run(target: Target, scripts: Sequence[Script], *, seconds: float, count: int | None = None) -> Report:
    """Drive one connection a script until the time is up, `count` requests were sent, or all scripts ended."""
    if not scripts or seconds <= 0:
        raise LoadRefused("A load needs at least one script and some time.")
    gc.collect()
    gc.disable()  # a collection in the middle would be measured as the server's tail
    try:
        return _Run(target, scripts, count).until(seconds)
    finally:
        gc.enable()


class _Connection:
    """One socket, its script, and the reply as far as it has come."""

    __slots__ = ("ask", "held", "script", "sent_at", "sock")

    def __init__(self, script: Script) -> None:
        self.script = script
        self.ask: Callable[[bytes | None], bytes] = script.send  # type: ignore[assignment]  # None starts a generator
        self.sock = socket.socket()
        self.held = b""
        self.sent_at = 0.0


class _Run:
    """The state of one run; `until` is the whole of its life."""

    def __init__(self, target: Target, scripts: Sequence[Script], count: int | None) -> None:
        self._target = target
        self._left = count if count is not None else sys.maxsize
        self._epoll = select.epoll()
        self._open: dict[int, _Connection] = {}
        self._statuses: Counter[bytes] = Counter()
        self._latencies = array("d")
        self._reconnects = 0
        for script in scripts:
            self._connect(_Connection(script))

    def until(self, seconds: float) -> Report:
        cpu_start, start = time.process_time(), time.perf_counter()
        try:
            for connection in list(self._open.values()):
                self._send_next(connection, None)
            self._turn(start + seconds)
            return self._report(time.perf_counter() - start, time.process_time() - cpu_start)
        finally:
            self._close_all()

    def _turn(self, deadline: float) -> None:
        """Follow every reply by the next request; at the deadline stop asking and wait for what is still open."""
        now, poll, opened, took, statuses = (
            time.perf_counter,
            self._epoll.poll,
            self._open,
            self._latencies.append,
            self._statuses,
        )
        while opened:
            for fd, _ in poll(POLL_S):
                connection = opened[fd]
                reply = self._read(connection)
                if reply is None:
                    continue
                moment = now()
                took(moment - connection.sent_at)
                statuses[reply[9:12]] += 1
                if moment >= deadline:
                    self._left = 0
                self._send_next(connection, reply)
            if now() > deadline + DRAIN_S:
                raise ServerMisbehaved(f"{len(opened)} requests had no answer {DRAIN_S} s after the end.")

    def _send_next(self, connection: _Connection, reply: bytes | None) -> None:
        """The script's next request; a connection whose script or share of the count is over is closed."""
        if self._left <= 0:
            return self._close(connection)
        try:
            request = connection.ask(reply)
        except StopIteration:
            return self._close(connection)
        self._left -= 1
        connection.sent_at = time.perf_counter()
        sent = connection.sock.send(request)
        assert sent == len(request), "one open request always fits a loopback socket buffer"

    def _read(self, connection: _Connection) -> bytes | None:
        """The reply once it is whole. A reply nearly always comes in one piece."""
        try:
            chunk = connection.sock.recv(READ_BYTES)
        except ConnectionResetError:
            chunk = b""
        if not chunk:
            return self._reopen(connection)
        reply = connection.held + chunk if connection.held else chunk
        if is_whole(reply):
            connection.held = b""
            return reply
        if len(reply) > MAX_REPLY_BYTES:
            raise ServerMisbehaved(f"A reply is longer than {MAX_REPLY_BYTES} bytes.")
        connection.held = reply
        return None

    def _reopen(self, connection: _Connection) -> bytes:
        """The server closed without an answer: counted as status 000, and the script goes on over a new socket."""
        self._reconnects += 1
        if self._reconnects > MAX_RECONNECTS:
            raise ServerMisbehaved(f"The server closed {self._reconnects} connections without an answer.")
        self._close(connection)
        connection.sock, connection.held = socket.socket(), b""
        self._connect(connection)
        return NO_ANSWER

    def _connect(self, connection: _Connection) -> None:
        sock = connection.sock
        sock.connect((self._target.host, self._target.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        self._open[sock.fileno()] = connection
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _close(self, connection: _Connection) -> None:
        del self._open[connection.sock.fileno()]
        connection.sock.close()  # leaves the epoll set by itself

    def _close_all(self) -> None:
        for connection in list(self._open.values()):
            self._close(connection)
        self._epoll.close()

    def _report(self, seconds: float, cpu_s: float) -> Report:
        ordered = sorted(self._latencies)
        return Report(
            requests=len(ordered),
            seconds=seconds,
            reconnects=self._reconnects,
            generator_share=cpu_s / seconds,
            statuses={int(status): number for status, number in self._statuses.items()},
            p50_ms=_quantile_ms(ordered, 0.50),
            p99_ms=_quantile_ms(ordered, 0.99),
        )


def _quantile_ms(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0.0
