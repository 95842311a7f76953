"""Connections that send headers and then nothing, against real workers: everybody else is served, and they end."""

import asyncio
import json
import os
import resource
import selectors
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from gateway.admission.bodies import PATIENCE_S, WAITING_LIMIT
from gateway.demo.client import PartnerClient
from gateway.worker import HEADERS_MS, allow_files
from tests.conftest import memory_folder
from tests.faults.serving import serving

STALLED = 1_200
WORKERS = 2
STRANGER = "127.0.0.2"  # an address of its own: what it is refused costs nobody else anything
OTHERS_S = 5.0  # how long anybody else may have to wait while they hang there
MEASURED_S = 6.0  # well below the deadline of either kind
LEAST_RATIO = 0.6  # of what was served before; 0 is what it was without the deadlines and caps
PATIENCE_AND_MORE_S = PATIENCE_S * 1.25 + 5


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, int, Path]]:
    """Two workers on loopback: the address, the port, the home."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allow_files(STALLED + 512)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="parasol-slow-", dir=memory_folder()) as folder,
            serving(Path(folder), workers=WORKERS) as gateway,
        ):
            yield gateway.address, int(gateway.address.rpartition(":")[2]), gateway.home
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


NO_BODY = (b"POST /oauth/token HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/x-www-form-urlencoded\r\n"
           b"Content-Length: 100\r\n\r\n")  # fmt: skip
NO_HEADERS = b"GET /partner/v1/campaigns HTTP/1.1\r\nHost: gateway\r\nX-Slow: "


def stalled(port: int, count: int, stack: ExitStack, *, head: bytes = NO_BODY) -> list[socket.socket]:
    """Connections that promise more than ever comes."""
    made = []
    for _ in range(count):
        connection = stack.enter_context(
            socket.create_connection(("127.0.0.1", port), timeout=OTHERS_S, source_address=(STRANGER, 0))
        )
        connection.sendall(head)
        made.append(connection)
    return made


def answers(connections: list[socket.socket], *, within_s: float) -> list[bytes]:
    """The first line that each of them got, once all of them are closed by the server or the time is over."""
    first: dict[int, bytes] = {}
    deadline = time.monotonic() + within_s
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                try:
                    got = os.read(key.fd, 4096)
                except OSError:
                    got = b""
                first.setdefault(key.fd, got.partition(b"\r\n")[0])
                selector.unregister(key.fileobj)
    return list(first.values())


@asynccontextmanager
async def partner(home: Path) -> AsyncIterator[PartnerClient]:
    """Every call of it is a new connection, and meets either worker."""
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(limits=limits, timeout=OTHERS_S, trust_env=False) as http:
        yield PartnerClient(http, json.loads((home / "sandbox" / "parkco.json").read_text()))


async def test_twelve_hundred_bodies_that_never_come_leave_others_served(served: tuple[str, int, Path]) -> None:
    address, port, home = served
    with ExitStack() as stack:
        connections = stalled(port, STALLED, stack)
        async with partner(home) as client:
            for _ in range(6):
                token = await client.grant(grant_type="client_credentials", scope="discounts")
                assert (await client.call("GET", "/partner/v1/campaigns", token=token)).status_code == 200
                assert (await client.http.get(f"{address}/readyz")).status_code == 200
        found = answers(connections, within_s=PATIENCE_AND_MORE_S)
    assert len(found) == STALLED, "some hang there still"
    assert set(found) == {b"HTTP/1.1 408 Request Timeout"}
    assert STALLED > WAITING_LIMIT * WORKERS, "or nobody had to give up a place"


async def test_twelve_hundred_headers_that_never_end_leave_others_served(served: tuple[str, int, Path]) -> None:
    _, port, home = served
    with ExitStack() as stack:
        connections = stalled(port, STALLED, stack, head=NO_HEADERS)
        async with partner(home) as client:
            for _ in range(6):
                token = await client.grant(grant_type="client_credentials", scope="discounts")
                assert (await client.call("GET", "/partner/v1/campaigns", token=token)).status_code == 200
        found = answers(connections, within_s=HEADERS_MS / 1000 + 10)
    assert len(found) == STALLED, "some hang there still"
    assert set(found) <= {b"", b"HTTP/1.1 408 Request Timeout"}


async def served_in(client: PartnerClient, seconds: float) -> int:
    """How many reads four callers got in that time; a refused one or one that failed ends the test."""
    token = await client.grant(grant_type="client_credentials", scope="discounts")
    ends = time.monotonic() + seconds

    async def caller() -> int:
        got = 0
        while time.monotonic() < ends:
            assert (await client.call("GET", "/partner/v1/campaigns", token=token)).status_code == 200
            got += 1
        return got

    return sum(await asyncio.gather(*(caller() for _ in range(4))))


@pytest.mark.long
@pytest.mark.parametrize("head", [NO_BODY, NO_HEADERS], ids=["bodies", "headers"])
async def test_as_many_are_served_while_twelve_hundred_hang_as_before(
    served: tuple[str, int, Path], head: bytes
) -> None:
    """As a ratio of the same callers before; a connection that hangs costs the others nothing but its arrival."""
    _, port, home = served
    with ExitStack() as stack:
        async with partner(home) as client:
            before = await served_in(client, MEASURED_S)
            connections = stalled(port, STALLED, stack, head=head)
            during = await served_in(client, MEASURED_S)
        answers(connections, within_s=HEADERS_MS / 1000 + 10)
    print(f"served in {MEASURED_S:.0f} s: {before} before, {during} while {STALLED} hang: {during / before:.2f}")
    assert during > before * LEAST_RATIO


def test_headers_that_never_end_are_cut_off(served: tuple[str, int, Path]) -> None:
    with ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", served[1])))
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: gateway\r\nX-Slow: ")
        connection.settimeout(30)
        answer = connection.recv(4096)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408")


def test_a_body_in_drops_has_one_deadline_for_all_of_it(served: tuple[str, int, Path]) -> None:
    with ExitStack() as stack:
        (connection,) = stalled(served[1], 1, stack)
        selector = stack.enter_context(selectors.DefaultSelector())
        selector.register(connection, selectors.EVENT_READ)
        started = time.monotonic()
        while not selector.select(0.5) and time.monotonic() - started < PATIENCE_AND_MORE_S:
            connection.sendall(b"x")
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")
