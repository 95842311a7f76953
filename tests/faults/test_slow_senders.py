"""Connections that send headers and then nothing, against real workers: everybody else is served, and they end."""

import json
import os
import resource
import selectors
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from gateway.admission.bodies import PATIENCE_S, WAITING_LIMIT
from gateway.demo.client import PartnerClient
from gateway.worker import allow_files
from tests.conftest import memory_folder
from tests.faults.serving import serving

STALLED = 1_200
WORKERS = 2
STRANGER = "127.0.0.2"  # an address of its own: what it is refused costs nobody else anything
OTHERS_S = 5.0  # how long anybody else may have to wait while they hang there
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


def stalled(port: int, count: int, stack: ExitStack) -> list[socket.socket]:
    """Connections whose headers promise a body that never comes."""
    head = (b"POST /oauth/token HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            b"Content-Length: 100\r\n\r\n")  # fmt: skip
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


async def test_twelve_hundred_bodies_that_never_come_leave_others_served(served: tuple[str, int, Path]) -> None:
    address, port, home = served
    with ExitStack() as stack:
        connections = stalled(port, STALLED, stack)
        limits = httpx.Limits(max_keepalive_connections=0)  # every call is a new connection, and meets either worker
        async with httpx.AsyncClient(limits=limits, timeout=OTHERS_S, trust_env=False) as http:
            client = PartnerClient(http, json.loads((home / "sandbox" / "parkco.json").read_text()))
            for _ in range(6):
                token = await client.grant(grant_type="client_credentials", scope="discounts")
                assert (await client.call("GET", "/partner/v1/campaigns", token=token)).status_code == 200
                assert (await http.get(f"{address}/readyz")).status_code == 200
        found = answers(connections, within_s=PATIENCE_AND_MORE_S)
    assert len(found) == STALLED, "some hang there still"
    assert set(found) == {b"HTTP/1.1 408 Request Timeout"}
    assert STALLED > WAITING_LIMIT * WORKERS, "or nobody had to give up a place"


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
