"""The one listening socket: owned by the supervisor, inherited by its workers, closed when the last of them has ended.

Can this process listen there? Asked before anything is started, and answered with what to do.
"""

import ctypes
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager

BACKLOG = 1024  # connections that wait to be accepted
GIVEN_FD = 3  # where systemd's socket activation begins
_SO_ATTACH_FILTER = 26
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)  # one instruction of classic BPF: "return 0", take no byte of the packet


class CannotServe(Exception):
    """Serving cannot start; the text is a sentence that says what to do."""


class PortBusy(CannotServe):
    """Somebody else listens there."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"Port {port} on {host} is in use. Stop what listens there, or take another: "
            f"`make run PORT={port + 1}`, `parasol serve --port {port + 1}`"
        )


class AddressUnusable(CannotServe):
    """The host is not this machine's, or the port needs privileges."""


def check_port(host: str, port: int) -> None:
    """Raises PortBusy or AddressUnusable. For who will start a gateway there in a moment."""
    for family, address in _addresses(host, port):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
                probe.listen()
            except OSError as error:
                raise _reason(error, host, port) from None


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """The socket, bound; the first worker that serves lets it listen, so that nobody waits while we start.

    One that was handed over (LISTEN_FDS, by systemd or whoever restarts us without a refusal) comes before the address.
    Raises PortBusy or AddressUnusable.
    """
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and int(os.environ.get("LISTEN_FDS", "0")) > 0:
        with socket.socket(fileno=GIVEN_FD) as given:
            yield given
        return
    check_port(host, port)
    family, address = _addresses(host, port)[0]
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections have it from their listener
        try:
            listener.bind(address)
        except OSError as error:
            raise _reason(error, host, port) from None
        yield listener


def let_nobody_new_in(listener: socket.socket) -> None:
    """From here on connections are not begun any more, while those that wait can still be accepted.

    Closing the socket instead would reset whoever waits in its queue. Elsewhere than on Linux that is what happens.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(_DROP_ALL)
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))


def accept_nobody(listener: int) -> None:
    """In this process alone: whoever accepts by that descriptor finds nobody waiting; other processes go on.

    Its server must still serve what it has accepted, and would close at once, unread, what it accepts as it stops.
    """
    if sys.platform != "linux":
        return
    with socket.socket(socket.AF_UNIX) as nobody:
        nobody.bind("")  # an address that the kernel makes up and nobody knows
        nobody.listen()
        nobody.setblocking(False)
        os.dup2(nobody.fileno(), listener, inheritable=False)


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[object, ...]]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise AddressUnusable(f"{host} is not an address: {error.strerror}. Try --host 127.0.0.1") from None
    return [(family, address) for family, _, _, _, address in found]


def _reason(error: OSError, host: str, port: int) -> CannotServe:
    if error.errno == errno.EADDRINUSE:
        return PortBusy(host, port)
    if error.errno == errno.EACCES:
        return AddressUnusable(f"Port {port} is for root only; choose one from 1024 on with --port")
    return AddressUnusable(f"Cannot listen on {host}:{port}: {error.strerror}. Try --host 127.0.0.1")
