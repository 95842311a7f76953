"""What parts hand over about events far apart: short entries, apart by the first byte of the hash they begin with.

A part's entries are one piece of bytes, which costs nothing beside itself however many parts there are.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

BUCKETS = 256
Sorting = list[list[bytes]]  # a list for each first byte


def sorting() -> Sorting:
    return [[] for _ in range(BUCKETS)]


@dataclass(frozen=True, slots=True)
class Buckets:
    """The entries of one part: first those whose hash begins with 0; within a bucket in the order of recording."""

    entries: bytes
    ends: "array[int]"

    @classmethod
    def of(cls, lists: Sorting) -> "Buckets":
        ends = array("I", accumulate(sum(map(len, entries)) for entries in lists))
        return cls(b"".join(chain.from_iterable(lists)), ends)

    def bucket(self, number: int) -> bytes:
        return self.entries[self.ends[number - 1] if number else 0 : self.ends[number]]


def bucket_of(parts: Sequence[Buckets], number: int) -> bytes:
    """Of all parts, in their order."""
    return b"".join([each.bucket(number) for each in parts])
