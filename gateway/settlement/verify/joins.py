"""What events far apart have to do with each other, in flat memory: few bytes an event, by the first byte of a hash.

Names that are there twice, reversals beside their originals, and what was accrued per customer. A hash of 96 bits for
names can only refuse an honest file, with a chance of one to 10¹⁴ at ten million events; where bytes stand for facts
that must be equal they have 128 bits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from .buckets import BUCKETS, Buckets, bucket_of
from .facts import ACCRUED, REDEMPTION, REVERSAL
from .part import FAR, PartFound

REPEATED = "original_event_id, contract_version, discount, original_discount_minor, cap_left_minor or seed"
NAME = 12  # bytes of a name's hash
_ENTRY = 16  # a name's hash and the number of its event


@dataclass(slots=True)
class Joins:
    """Filled part by part, asked at the end. Faults are (event number, sentence)."""

    far: dict[str, list[Buckets]] = field(default_factory=lambda: {name: [] for name in FAR})

    def take(self, found: PartFound) -> None:
        for name, entries in found.far.items():
            if entries.entries:
                self.far[name].append(entries)

    def of(self, name: str, bucket: int) -> bytes:
        """The entries of one first byte, in the order of recording."""
        return bucket_of(self.far[name], bucket)

    def faults(self) -> Iterator[tuple[int, str]]:
        orphans: dict[bytes, tuple[int, bytes]] = {}
        for bucket in range(BUCKETS):
            for number in _twice(self.of("event_ids", bucket), _ENTRY):
                yield number, "its event_id is there twice"
            redemptions, reversals = self.of("redemptions", bucket), self.of("reversals", bucket)
            for number in _twice(redemptions, REDEMPTION.size):
                yield number, "its redemption is confirmed a second time"
            if reversals:
                yield from _reversals(redemptions, reversals, orphans=orphans)
        for first, group in groupby(sorted(orphans.items()), key=lambda orphan: orphan[0][0]):
            names = _names(self.of("event_ids", first))
            for original, (number, _) in group:
                if original in names:
                    yield number, "its original_event_id is of an event that did not confirm this redemption"

    def accrued_of(self, bucket: int) -> Iterator[tuple[bytes, int, int, int, int]]:
        """(k, event number, capped term, share, worth told), in the order of recording."""
        return ACCRUED.iter_unpack(self.of("accrued", bucket))


def _names(bucket: bytes) -> set[bytes]:
    return {bucket[at : at + NAME] for at in range(0, len(bucket), _ENTRY)}


def _twice(raw: bytes, width: int) -> Iterator[int]:
    """Numbers of the events whose name an earlier one has."""
    if len({raw[at : at + NAME] for at in range(0, len(raw), width)}) * width == len(raw):
        return
    seen: set[bytes] = set()
    for at in range(0, len(raw), width):
        name = raw[at : at + NAME]
        if name in seen:
            yield int.from_bytes(raw[at + NAME : at + _ENTRY])
        seen.add(name)


def _reversals(
    redemptions: bytes, reversals: bytes, *, orphans: dict[bytes, tuple[int, bytes]]
) -> Iterator[tuple[int, str]]:
    """§6: each follows its original, repeats what it said, and goes on where the one before stopped.

    Where the original is in an earlier statement, the first reversal here is what the others go by."""
    originals = {name: (number, facts) for name, number, facts in REDEMPTION.iter_unpack(redemptions)}
    said: dict[bytes, tuple[bytes, int]] = {}
    for name, number, facts, before, now, original in REVERSAL.iter_unpack(reversals):
        confirmed = originals.get(name)
        if confirmed is None:
            other = orphans.setdefault(original, (number, name))
            if other[1] != name:
                yield number, "its original_event_id is that of another redemption's reversal"
        elif confirmed[0] > number:
            yield number, "it stands before the redemption that it reverses"
        begun = (facts, before) if confirmed is None else (confirmed[1], 0)
        expected, reversed_minor = said.get(name, begun)
        if facts != expected:
            yield number, f"{REPEATED} is another one than its redemption has"
        if before != reversed_minor:
            yield number, f"reversed_before_minor is {before}, expected {reversed_minor}"
        said[name] = expected, reversed_minor + now


def across(chain: Sequence[Joins]) -> Iterator[tuple[int, int, str]]:
    """What statements that follow each other say twice, or otherwise than before: (place, event number, sentence)."""
    for bucket in range(BUCKETS):
        seen: set[bytes] = set()
        for place, joins in enumerate(chain):
            raw = joins.of("event_ids", bucket)
            names = {raw[at : at + NAME]: at for at in range(0, len(raw), _ENTRY)}
            for name in names.keys() & seen:
                number = int.from_bytes(raw[names[name] + NAME : names[name] + _ENTRY])
                yield place, number, "its event_id is there twice, the first time in an earlier statement"
            seen |= names.keys()
        yield from _redemptions_across(
            [(each.of("redemptions", bucket), each.of("reversals", bucket)) for each in chain]
        )


def _redemptions_across(chain: Sequence[tuple[bytes, bytes]]) -> Iterator[tuple[int, int, str]]:
    originals: dict[bytes, tuple[int, bytes]] = {}
    reversed_minor: dict[bytes, int] = {}
    for place, (redemptions, reversals) in enumerate(chain):
        for name, number, facts in REDEMPTION.iter_unpack(redemptions):
            if originals.setdefault(name, (place, facts))[0] < place:
                yield place, number, "its redemption was confirmed in an earlier statement"
        for name, number, facts, before, now, _ in REVERSAL.iter_unpack(reversals):
            original = originals.get(name)
            if original is not None and original[0] < place:
                if facts != original[1]:
                    yield place, number, f"{REPEATED} is another one than its redemption has in an earlier statement"
                if before != reversed_minor.get(name, 0):
                    expected = reversed_minor.get(name, 0)
                    yield place, number, f"reversed_before_minor is {before}, earlier statements have {expected}"
            reversed_minor[name] = before + now
