"""The metrics page on its own port: a page for a scrape, and no harm from anything else that is sent there."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.metrics.listener import CONNECTIONS, REQUEST_LIMIT, MetricsListener

PAGE = b"# HELP x y\nx 1.0\n"


async def page() -> bytes:
    return PAGE


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = await MetricsListener(page).serve("127.0.0.1", 0)
    yield int(server.sockets[0].getsockname()[1])
    server.close()
    await server.wait_closed()


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_a_scrape_gets_the_page(port: int) -> None:
    answer = await ask(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n")
    assert answer.endswith(b"\r\n\r\n" + PAGE)


@pytest.mark.parametrize(
    ("request_line", "status"),
    [(b"HEAD /metrics HTTP/1.1", b"200"), (b"GET /metrics?name=x HTTP/1.1", b"200"), (b"GET / HTTP/1.1", b"404"),
     (b"POST /metrics HTTP/1.1", b"405"), (b"GET /partner/v1/campaigns HTTP/1.1", b"404"), (b"\xff\x00", b"404")],
)  # fmt: skip
async def test_nothing_else_is_here(port: int, request_line: bytes, status: bytes) -> None:
    answer = await ask(port, request_line + b"\r\n\r\n")
    assert answer.split(b" ")[1] == status
    assert answer.endswith(PAGE) is (status == b"200" and request_line.startswith(b"GET"))


async def test_what_has_no_end_is_cut_off(port: int) -> None:
    assert await ask(port, b"x" * (4 * REQUEST_LIMIT)) == b""


async def test_connections_that_say_nothing_do_not_pile_up(port: int) -> None:
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS)]
    assert await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n") == b""
    for _, writer in silent:
        writer.close()
        await writer.wait_closed()

    async def answered() -> bytes:
        while not (answer := await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")):
            pass
        return answer

    assert (await asyncio.wait_for(answered(), 5)).endswith(PAGE)
