"""Bodies that have not come yet: each has a deadline, all of a worker together have a cap, and nobody waits for them.

A connection that sends headers and then nothing costs a few hundred bytes here and ends by itself. Above the cap the
address with the most waiting bodies loses its oldest one, so that whoever sends promptly is served however many don't.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from gateway.admission.arrival import Arrival, Receive
from gateway.admission.refusals import BodyIncomplete, BodyTooLarge, BodyTooSlow, TooManyFiles
from gateway.call import File, Operation

PATIENCE_S = 10.0  # a JSON body is a few packets; a phone on a bad network needs a second or two
SLOWEST_BYTES_PER_S = 128 * 1024  # a file may take as long as such a line needs for the operation's limit
WAITING_LIMIT = 512  # bodies a worker waits for at once; of JSON at most 32 MiB together
FILES_AT_ONCE = 2  # of a partner, in a worker: each may be 160 MiB, and take a quarter of an hour to come
_SWEEPS = 4  # looks at the clock within the patience: a deadline is late by a quarter of it at most
BODYLESS = frozenset(("GET", "HEAD", "DELETE"))


@dataclass(slots=True, eq=False)
class _Wait:
    """One request whose body is on its way."""

    address: str
    deadline_s: float
    task: "asyncio.Task[object]"
    ended: bool = False

    def end(self) -> None:
        """Its task hangs in `receive`, so that is where the cancellation arrives; `read` makes a refusal of it."""
        self.ended = True
        self.task.cancel()


@dataclass(slots=True)
class _Arriving:
    """A file while it comes: hashed piece by piece, and kept where somebody wants it."""

    keep: bool
    pieces: list[bytes] = field(default_factory=list)
    digest: Any = field(default_factory=sha256)

    def take(self, piece: bytes) -> None:
        self.digest.update(piece)
        if self.keep:
            self.pieces.append(piece)

    def whole(self) -> File:
        return File(_joined(self.pieces), self.digest.digest())


class BodyReader:
    """One instance a worker. One timer looks at all waits together: a timer a request would cost each of them."""

    def __init__(self, *, patience_s: float = PATIENCE_S, waiting_limit: int = WAITING_LIMIT) -> None:
        self._patience_s = patience_s
        self._limit = waiting_limit
        self._waits: dict[_Wait, None] = {}  # in order of arrival
        self._files: Counter[str] = Counter()  # kept ones that are on their way, by partner
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        return len(self._waits)

    async def read(self, arrival: Arrival, receive: Receive, operation: Operation) -> bytes:
        """The whole body, refused as soon as it is known to be above the operation's limit.

        Raises BodyTooLarge, BodyIncomplete, BodyTooSlow.
        """
        pieces: list[bytes] = []
        await self._read(arrival, receive, operation, pieces.append)
        return _joined(pieces)

    async def read_file(self, arrival: Arrival, receive: Receive, operation: Operation, *, keep: bool) -> File:
        """The same of a partner's file; one that is not to be kept costs no memory. Raises TooManyFiles too."""
        arriving = _Arriving(keep)
        if keep and self._files[arrival.partner_id] >= FILES_AT_ONCE:
            raise TooManyFiles()
        self._files[arrival.partner_id] += keep
        try:
            await self._read(arrival, receive, operation, arriving.take)
        finally:
            self._files[arrival.partner_id] -= keep
        return arriving.whole()

    async def _read(
        self, arrival: Arrival, receive: Receive, operation: Operation, take: Callable[[bytes], None]
    ) -> None:
        if arrival.method in BODYLESS:
            return
        declared, limit = arrival.headers.get("content-length"), operation.body_limit
        length = int(declared) if declared is not None and declared.isascii() and declared.isdigit() else None
        if length is not None and length > limit:
            raise BodyTooLarge(f"The body has {length} bytes; the limit is {limit}")
        if length == 0:
            return
        wait = self._begin(arrival.source, limit)
        try:
            await _receive(receive, take, length=length, limit=limit)
        except asyncio.CancelledError:
            if wait.ended and wait.task.uncancel() == 0:
                raise BodyTooSlow() from None
            raise
        finally:
            self._waits.pop(wait, None)

    def _begin(self, address: str, limit: int) -> _Wait:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None, "the server runs each request as a task"
        while len(self._waits) >= self._limit:
            self._shed()
        wait = _Wait(address, loop.time() + self._patience_s + limit // SLOWEST_BYTES_PER_S, task)
        self._waits[wait] = None
        if self._timer is None:
            self._timer = loop.call_later(self._patience_s / _SWEEPS, self._sweep)
        return wait

    def _shed(self) -> None:
        ((address, _),) = Counter(wait.address for wait in self._waits).most_common(1)
        self._end(next(wait for wait in self._waits if wait.address == address))

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        for wait in [wait for wait in self._waits if wait.deadline_s <= loop.time()]:
            self._end(wait)
        self._timer = loop.call_later(self._patience_s / _SWEEPS, self._sweep) if self._waits else None

    def _end(self, wait: _Wait) -> None:
        del self._waits[wait]
        wait.end()


async def _receive(receive: Receive, take: Callable[[bytes], None], *, length: int | None, limit: int) -> None:
    """Stops at Content-Length without asking for the empty last message: each `receive()` costs 12 µs."""
    size, more = 0, True
    while more and size != length:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BodyIncomplete
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(f"The body is above {limit} bytes")
        take(chunk)
        more = message.get("more_body", False)


def _joined(pieces: list[bytes]) -> bytes:
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
