"""Can this process listen there? Asked before anything is started, and answered with what to do."""

import errno
import socket


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
    """Raises PortBusy or AddressUnusable. Needed because workers share the port and would share it with a stranger."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise AddressUnusable(f"{host} is not an address: {error.strerror}. Try --host 127.0.0.1") from None
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
                probe.listen()
            except OSError as error:
                raise _reason(error, host, port) from None


def _reason(error: OSError, host: str, port: int) -> CannotServe:
    if error.errno == errno.EADDRINUSE:
        return PortBusy(host, port)
    if error.errno == errno.EACCES:
        return AddressUnusable(f"Port {port} is for root only; choose one from 1024 on with --port")
    return AddressUnusable(f"Cannot listen on {host}:{port}: {error.strerror}. Try --host 127.0.0.1")
