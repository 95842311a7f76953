"""The few words between a process and the metrics hub, over a Unix socket: four bytes of length, then a body."""

import asyncio
import socket
import struct

import msgspec

FRAME_LIMIT = 64 * 1024 * 1024  # bytes: a page on which the largest metrics have reached SERIES_BOUND
ASK = b"?"  # hub to process: send your numbers
_LENGTH = struct.Struct(">I")


class Hello(msgspec.Struct, frozen=True):
    """The first frame. `wants` is "page" (one page comes back) or "feed" (the sender will answer to ASK)."""

    wants: str
    pid: int = 0


def framed(body: bytes) -> bytes:
    return _LENGTH.pack(len(body)) + body


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """Raises asyncio.IncompleteReadError at the end of the stream, ValueError for a frame beyond the limit."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > FRAME_LIMIT:
        raise ValueError(f"a frame of {length} bytes")
    return await reader.readexactly(length)


def read_asks(connection: socket.socket) -> bool:
    """One or more ASKs, in a blocking thread; False at the end of the stream."""
    return bool(connection.recv(64))
