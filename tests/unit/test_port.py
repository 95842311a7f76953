"""The one listening socket: bound before anything starts, handed over where somebody has it, left without a reset."""

import os
import socket
import subprocess
import sys

import pytest

from gateway.port import PortBusy, accept_nobody, let_nobody_new_in, listening

GIVEN = """
import os, socket
bound = socket.socket()
bound.bind(("127.0.0.1", 0))
bound.listen()
name = bound.getsockname()
if (own := bound.detach()) != 3:
    os.dup2(own, 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
from gateway.port import listening
with listening("127.0.0.1", 1) as given:
    assert given.getsockname() == name, given
"""


def test_a_port_in_use_is_refused_before_anything_starts() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(PortBusy, match="in use"), listening("127.0.0.1", other.getsockname()[1]):
            pass


def test_a_socket_that_is_handed_over_is_taken_in_the_place_of_the_address() -> None:
    done = subprocess.run([sys.executable, "-c", GIVEN], capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr


def test_who_waits_in_the_queue_is_served_and_nobody_new_gets_in() -> None:
    """Closing the socket in the place of it reset whoever had connected and not been accepted yet."""
    with listening("127.0.0.1", 0) as listener:
        listener.listen()
        address = listener.getsockname()
        with socket.create_connection(address) as early:
            early.sendall(b"a request")
            let_nobody_new_in(listener)
            with pytest.raises(TimeoutError), socket.create_connection(address, timeout=0.2):
                pass
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.recv(100) == b"a request"
                accepted.sendall(b"its answer")
            listener.close()
            assert early.recv(100) == b"its answer"


def test_a_process_that_stops_accepting_leaves_the_queue_to_the_others() -> None:
    """A worker that stops and still accepts closes, unread, what it was sent: a reload reset requests."""
    with listening("127.0.0.1", 0) as listener:
        listener.listen()
        with socket.socket(fileno=os.dup(listener.fileno())) as another:
            accept_nobody(listener.fileno())
            listener.setblocking(False)
            with socket.create_connection(another.getsockname()) as caller:
                with pytest.raises(BlockingIOError):
                    listener.accept()
                accepted, _ = another.accept()
                with accepted:
                    caller.sendall(b"a request")
                    assert accepted.recv(100) == b"a request"
