"""Rate limits by GCRA (ITU-T I.371), shared by the workers of a host through a mapped file.

A key has a slot of two words: its hash and its theoretical arrival time. A slot is read and written under a lock of its
own bytes, which the kernel drops when a process dies; a time is one aligned word, so a crash leaves the old or the new.
A refused request writes nothing. Keys come from a closed set (partner, or partner × operation): no slot is ever freed.
"""

import fcntl
import mmap
import os
import struct
from hashlib import blake2b
from pathlib import Path
from time import monotonic_ns

import structlog

from gateway.policies.policy import Rate

SLOTS = 65_536  # 1,000 partners with a limit of their own on 60 operations; 1 MiB on disk
LOCK_PATIENCE_NS = 50_000_000  # a holder needs a microsecond; one that was stopped must not stop everybody
_MAGIC = b"parasol limits 1"
_SLOT = struct.Struct("=Qq")  # hash of the key (0 = free), theoretical arrival time in epoch nanoseconds
_TIME = struct.Struct("=q")
_TIME_AT = 8  # bytes into the slot
_FILE_BYTES = (SLOTS + 1) * _SLOT.size  # the first slot's place holds the magic
_NS, _NS_PER_MS = 1_000_000_000, 1_000_000
log = structlog.get_logger(__name__)


class Limiter:
    """`check` says how long to wait; 0 = go. Without a file the limit is this process's own."""

    def __init__(self, path: Path | None) -> None:
        self._own: dict[str, int] = {}
        self._slots: dict[str, int] = {}
        self._fd = -1
        self._map: mmap.mmap | None = None
        if path is not None:
            self._fd, self._map = open_table(path, magic=_MAGIC, size=_FILE_BYTES)

    def check(self, key: str, rate: Rate, *, now_ms: int) -> int:
        """Milliseconds until the request would be let through; 0: it is, and it has been counted."""
        now_ns = now_ms * _NS_PER_MS
        if self._map is None or (slot := self._slots.get(key) or self._find(key)) == 0:
            wait_ns, self._own[key] = decide(self._own.get(key, 0), rate, now_ns=now_ns)
        else:
            wait_ns = self._check_shared(slot, rate, now_ns=now_ns)
        return -(-wait_ns // _NS_PER_MS)

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
            os.close(self._fd)
            self._map = None

    def _check_shared(self, slot: int, rate: Rate, *, now_ns: int) -> int:
        assert self._map is not None
        if not lock_record(self._fd, slot, size=_SLOT.size):
            log.warning("rate_limit_skipped")  # capacity is at stake, not money: let the request through
            return 0
        try:
            (before,) = _TIME.unpack_from(self._map, slot + _TIME_AT)
            wait_ns, after = decide(before, rate, now_ns=now_ns)
            if wait_ns == 0 or after < before:  # the latter: our clock has gone back since
                _TIME.pack_into(self._map, slot + _TIME_AT, after)
        finally:
            unlock_record(self._fd, slot, size=_SLOT.size)
        return wait_ns

    def _find(self, key: str) -> int:
        """Byte offset of the key's slot, taken now if it has none; 0: the table is full, or its lock is stuck."""
        assert self._map is not None
        digest = int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") or 1
        if not lock_record(self._fd, 0, size=_SLOT.size):
            return 0
        try:
            for step in range(SLOTS):
                offset = (1 + (digest + step) % SLOTS) * _SLOT.size
                (owner,) = struct.unpack_from("=Q", self._map, offset)
                if owner in (0, digest):
                    if owner == 0:
                        struct.pack_into("=Q", self._map, offset, digest)
                    self._slots[key] = offset
                    return offset
        finally:
            unlock_record(self._fd, 0, size=_SLOT.size)
        log.warning("rate_limit_table_full", count=SLOTS)
        return 0


def interval_ns(rate: Rate) -> int:
    """Between two requests at just the rate; rounded up, so never above it."""
    return -(-_NS // rate.per_second)


def decide(arrival_ns: int, rate: Rate, *, now_ns: int) -> tuple[int, int]:
    """(wait, theoretical arrival time after): wait 0 = conforming. The interval is rounded up, so never above the rate.

    A time further ahead than this rate could have made it (clock set back, rate raised) counts as the bucket just full:
    keep what comes back, or it is just full again at the next request.
    """
    step_ns = interval_ns(rate)
    tolerance_ns = step_ns * (rate.burst - 1)
    arrival_ns = min(max(arrival_ns, now_ns), now_ns + tolerance_ns + step_ns)
    wait_ns = arrival_ns - tolerance_ns - now_ns
    return (0, arrival_ns + step_ns) if wait_ns <= 0 else (wait_ns, arrival_ns)


def lock_record(fd: int, offset: int, *, size: int) -> bool:
    """An exclusive lock of those bytes, within our patience. POSIX record locks belong to processes."""
    give_up_ns = 0
    while True:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, size, offset)
        except (BlockingIOError, PermissionError):
            give_up_ns = give_up_ns or monotonic_ns() + LOCK_PATIENCE_NS
            if monotonic_ns() > give_up_ns:
                return False
            os.sched_yield()
        else:
            return True


def unlock_record(fd: int, offset: int, *, size: int) -> None:
    fcntl.lockf(fd, fcntl.LOCK_UN, size, offset)


def open_table(path: Path, *, magic: bytes, size: int) -> tuple[int, mmap.mmap]:
    """The mapped file. One that is not whole (a crash while it was made) or not ours is emptied in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.lockf(fd, fcntl.LOCK_EX, len(magic), 0)
    try:
        if os.fstat(fd).st_size != size or os.pread(fd, len(magic), 0) != magic:
            os.ftruncate(fd, size)
            os.pwrite(fd, bytes(size), 0)
            os.pwrite(fd, magic, 0)  # last: a file with its magic is whole
        return fd, mmap.mmap(fd, size)
    finally:
        unlock_record(fd, 0, size=len(magic))
