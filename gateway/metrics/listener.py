"""The metrics page on a port of its own, where no customer or partner comes: the least of HTTP that a scrape needs."""

import asyncio
from collections.abc import Awaitable, Callable

REQUEST_S = 5.0  # for a scraper's few header lines, and for it to take the page
REQUEST_LIMIT = 8 * 1024  # bytes
CONNECTIONS = 32  # at once; Prometheus needs one
PAGE_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricsListener:
    """One request a connection. Whatever is sent here ends in an answer or in a closed connection."""

    def __init__(self, page: Callable[[], Awaitable[bytes]]) -> None:
        self._page = page
        self._open = 0

    async def serve(self, host: str, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._meet, host, port, limit=REQUEST_LIMIT)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= CONNECTIONS:
                async with asyncio.timeout(REQUEST_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(await self._answer(head))
                    await writer.drain()
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            pass  # slow, broken or not HTTP: closed without a word
        finally:
            self._open -= 1
            writer.close()

    async def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if path != b"/metrics":
            return _response("404 Not Found", b"")
        if method not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", b"")
        page = await self._page()
        return _response("200 OK", page, silent=method == b"HEAD")


def _response(status: str, body: bytes, *, silent: bool = False) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {PAGE_TYPE}\r\nContent-Length: {len(body)}\r\n"
        "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if silent else body)
