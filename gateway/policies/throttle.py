"""Rates for keys that a stranger chooses (addresses): GCRA in a mapped file of fixed size, shared by the workers.

A key belongs to one of 8,192 sets of eight entries, by a keyed hash, so nobody can aim at a neighbour's set. An entry
whose time has passed says no more than an empty one: its place is free. When all eight are busy the one that will be
free first is given up. Nothing grows, nothing needs sweeping, and a refused request writes nothing, unless the clock
has gone back: then a time is cut to that of a full bucket, or it would stay full until the clock is there again.
"""

import mmap
import os
import struct
from hashlib import blake2b
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

import structlog

from gateway.policies.limits import decide, interval_ns, lock_record, open_table, unlock_record
from gateway.policies.policy import Rate

SETS, WAYS = 8_192, 8  # 65,536 busy addresses at once; 1 MiB on disk
_MAGIC = b"parasol throttle"
_ENTRY = struct.Struct("=Qq")  # hash of the key, theoretical arrival time in epoch nanoseconds
_SET_BYTES = WAYS * _ENTRY.size
_FILE_BYTES = (SETS + 1) * _SET_BYTES  # the first set's place holds the magic
_NS_PER_MS = 1_000_000
log = structlog.get_logger(__name__)


def neighbourhood(address: str) -> str:
    """What one caller may have of addresses: an IPv4 one, or the 64 bits of IPv6 that every household gets whole."""
    try:
        plain = ip_address(address)
    except ValueError:
        return address
    if isinstance(plain, IPv4Address):
        return str(plain)
    return str(plain.ipv4_mapped or ip_network((plain, 64), strict=False))


class Throttle:
    """`wait_ms` says how long to stay away; 0 = go on. Without a path the table is this process's own."""

    def __init__(self, path: Path | None, *, secret: bytes) -> None:
        self._secret = secret
        self._fd = -1
        if path is None:
            self._map = mmap.mmap(-1, _FILE_BYTES)
        else:
            self._fd, self._map = open_table(path, magic=_MAGIC, size=_FILE_BYTES)

    def close(self) -> None:
        self._map.close()
        if self._fd >= 0:
            os.close(self._fd)

    def wait_ms(self, key: str, rate: Rate, *, now_ms: int, take: bool = True) -> int:
        """Milliseconds until the next one would be let through; 0: this one is, and with `take` it has been counted."""
        digest, offset = self._find(key)
        if self._fd >= 0 and not lock_record(self._fd, offset, size=_SET_BYTES):
            log.warning("rate_limit_skipped")  # capacity is at stake: let the request through
            return 0
        try:
            return self._decide(digest, offset, rate=rate, now_ns=now_ms * _NS_PER_MS, take=take)
        finally:
            if self._fd >= 0:
                unlock_record(self._fd, offset, size=_SET_BYTES)

    def give_back(self, key: str, rate: Rate) -> None:
        """One that was counted turned out to be none of those that the rate is for."""
        digest, offset = self._find(key)
        if self._fd >= 0 and not lock_record(self._fd, offset, size=_SET_BYTES):
            return
        try:
            for place in range(offset, offset + _SET_BYTES, _ENTRY.size):
                owner, time_ns = _ENTRY.unpack_from(self._map, place)
                if owner == digest:
                    _ENTRY.pack_into(self._map, place, digest, time_ns - interval_ns(rate))
        finally:
            if self._fd >= 0:
                unlock_record(self._fd, offset, size=_SET_BYTES)

    def _find(self, key: str) -> tuple[int, int]:
        """The key's hash, and where its set begins."""
        digest = int.from_bytes(blake2b(key.encode(), digest_size=8, key=self._secret[:64]).digest(), "big")
        return digest, (1 + digest % SETS) * _SET_BYTES

    def _decide(self, digest: int, offset: int, *, rate: Rate, now_ns: int, take: bool) -> int:
        place, before = self._place(digest, offset, now_ns=now_ns)
        wait_ns, after = decide(before, rate, now_ns=now_ns)
        if (wait_ns == 0 and take) or (wait_ns and after < before):  # the latter: our clock has gone back since
            _ENTRY.pack_into(self._map, place, digest, after)
        return -(-wait_ns // _NS_PER_MS)

    def _place(self, digest: int, offset: int, *, now_ns: int) -> tuple[int, int]:
        """Where the key's entry is or goes, and the time that it holds. The one that frees first is given up."""
        free, frees_at = offset, None
        for place in range(offset, offset + _SET_BYTES, _ENTRY.size):
            owner, time_ns = _ENTRY.unpack_from(self._map, place)
            if owner == digest:
                return place, time_ns
            if frees_at is None or time_ns < frees_at:
                free, frees_at = place, time_ns
        return free, now_ns
