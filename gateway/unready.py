"""What a worker answers while it is not open (its database is away) and while it leaves."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from gateway.admission.arrival import read_arrival
from gateway.call import Protocol
from gateway.jsonio import encode
from gateway.partners.snapshot import PictureTooOld
from gateway.problem import render
from gateway.templates.language import asked

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[..., Awaitable[None]]
CLOSE = (b"connection", b"close")
PROBE = {
    "type": "http", "method": "GET", "path": "/readyz", "raw_path": b"/readyz", "query_string": b"", "headers": [],
    "http_version": "1.1", "scheme": "http", "root_path": "", "client": ("127.0.0.1", 0), "server": ("127.0.0.1", 0),
    "asgi": {"version": "3.0"},
}  # fmt: skip


class Waiting:
    """In the place of an edge that cannot be built yet: alive, not ready, and nobody is served.

    Whoever has read nothing yet is in the same position as who has not heard for long, and refuses with the same code.
    """

    def __init__(self, missing: str) -> None:
        self._missing = missing

    async def __call__(self, scope: Message, receive: Any, send: Send) -> None:
        if scope["path"] == "/healthz":
            return await _answer(send, 200, encode({"status": "alive"}))
        if scope["path"] == "/readyz":
            return await _answer(send, 503, encode({"status": "not ready", "missing": self._missing}))
        arrival = read_arrival(scope)
        asked.set(arrival)
        refusal = PictureTooOld()
        told = render(refusal, protocol=Protocol.of_path(arrival.path), interaction_id=arrival.interaction_id)
        headers = [(name.encode(), value.encode()) for name, value in told.headers]
        await _answer(send, told.status, told.body, (b"content-type", told.content_type.encode()), *headers)


class Leaving:
    """Around an application that goes: it answers all that comes, and each answer is the last of its connection."""

    def __init__(self, application: Application, *, says_ready: bool) -> None:
        self._application = application
        self._says_ready = says_ready  # a newer worker has the same address: no balancer needs to know

    async def __call__(self, scope: Message, receive: Any, send: Send) -> None:
        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], CLOSE]}
            await send(message)

        if scope["type"] != "http":
            return await self._application(scope, receive, send)
        if scope["path"] == "/readyz" and not self._says_ready:
            return await _answer(send_last, 503, encode({"status": "not ready", "missing": "this worker leaves"}))
        await self._application(scope, receive, send_last)


async def is_ready(application: Application) -> bool:
    """What it says at /readyz, asked from within its own process."""
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await application({**PROBE, "headers": []}, receive, send)
    return statuses == [200]


async def _answer(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    if not headers:
        headers = ((b"content-type", b"application/json"),)
    start = {"type": "http.response.start", "status": status, "headers": [*headers, (b"cache-control", b"no-store")]}
    await send(start)
    await send({"type": "http.response.body", "body": body})
