"""The load generator counts what came back, gives each connection its own requests, and loads only this machine."""

import socket
import threading
from collections.abc import Iterator

import pytest

from bench import load


@pytest.fixture
def echo() -> Iterator[tuple[int, list[bytes]]]:
    """A tiny HTTP server that answers each request line with itself, and closes on `/close`."""
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(server, seen), daemon=True)
        thread.start()
        yield server.getsockname()[1], seen
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _serve(server: socket.socket, seen: list[bytes]) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        with client:
            while request := client.recv(65_536):
                line = request.partition(b"\r\n")[0]
                seen.append(line)
                if b"/close" in line:
                    break
                status = b"404 Not Found" if b"/missing" in line else b"200 OK"
                head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(line))
                client.sendall(head)
                client.sendall(line)  # in two pieces: a reply may come in parts


def _ask(*paths: str) -> load.Script:
    return load.spend([load.get(path, "127.0.0.1") for path in paths])


def test_each_request_of_a_list_is_sent_once_and_in_order(echo: tuple[int, list[bytes]]) -> None:
    port, seen = echo
    report = load.run(load.Target("127.0.0.1", port), [_ask("/1", "/2", "/3")], seconds=5)
    assert seen == [b"GET /1 HTTP/1.1", b"GET /2 HTTP/1.1", b"GET /3 HTTP/1.1"]
    assert (report.requests, report.statuses) == (3, {200: 3})


def test_a_script_is_told_the_reply_to_its_request(echo: tuple[int, list[bytes]]) -> None:
    told: list[bytes] = []

    def script() -> load.Script:
        told.append(load.body_of((yield load.get("/first", "127.0.0.1"))))

    load.run(load.Target("127.0.0.1", echo[0]), [script()], seconds=5)
    assert told == [b"GET /first HTTP/1.1"]


def test_statuses_are_counted_apart(echo: tuple[int, list[bytes]]) -> None:
    report = load.run(load.Target("127.0.0.1", echo[0]), [_ask("/1", "/missing")], seconds=5)
    assert report.statuses == {200: 1, 404: 1}
    assert not report.only(200)


def test_a_connection_closed_without_an_answer_is_counted_and_opened_again(echo: tuple[int, list[bytes]]) -> None:
    report = load.run(load.Target("127.0.0.1", echo[0]), [_ask("/close", "/1")], seconds=5)
    assert report.statuses == {0: 1, 200: 1}
    assert report.reconnects == 1


def test_no_more_than_the_count_is_sent(echo: tuple[int, list[bytes]]) -> None:
    report = load.run(load.Target("127.0.0.1", echo[0]), [load.repeat(load.get("/", "127.0.0.1"))], seconds=5, count=10)
    assert report.requests == 10


@pytest.mark.parametrize("host", ["10.0.0.1", "192.0.2.7", "0.0.0.0"])
def test_another_machine_is_never_loaded(host: str) -> None:
    with pytest.raises(load.LoadRefused):
        load.Target(host, 80)


def test_a_reply_without_a_length_is_refused() -> None:
    with pytest.raises(load.ServerMisbehaved):
        load.is_whole(b"HTTP/1.1 200 OK\r\nserver: x\r\n\r\nbody")


@pytest.mark.parametrize(
    ("reply", "whole"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no", False),
        (b"HTTP/1.1 200 OK\r\ncontent-le", False),
        (b"HTTP/1.1 204 No Content\r\nserver: x\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", False),
    ],
)
def test_a_reply_is_whole_when_its_body_is(reply: bytes, whole: bool) -> None:
    assert load.is_whole(reply) is whole
