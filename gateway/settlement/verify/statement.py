"""One statement's file: manifest, days, parts in their order; all of it derived again, every difference a sentence."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from .accrued import Touched, Walk, read_entry
from .buckets import BUCKETS
from .canonical import Refused, compare, listed, members, shown, whole_value
from .days import check_day, check_parts
from .download import Download, Hashing, open_download
from .facts import TermsOfFile
from .found import EnoughFaults, Found
from .manifest import Manifest, read_manifest
from .part import PartFound, event_named, require_bytes
from .proof import Key, check_jws, read_key, tree_root
from .reckoning import Reckoning
from .workers import Work
from .workers import check_parts as check_side_by_side

EVENTS_LIMIT = 1 << 31  # event numbers have four bytes


def read_statement(path: Path, *, workers: int) -> Found:
    """Raises OSError and WorkerLost; whatever the file holds ends in sentences."""
    found = Found(str(path))
    hashing = Hashing(path)
    hashing.start()
    with suppress(EnoughFaults):
        try:
            _Reading(found, open_download(path), workers=workers).run()
        except Refused as refusal:
            found.tell(str(refusal))
        except MemoryError:
            found.tell("this computer's memory is too small for what the file holds")
    with suppress(EnoughFaults), found.telling("the file"):
        found.sha256 = hashing.result()
    return found


class _Reading:
    """A file that is a statement by its looks."""

    def __init__(self, found: Found, download: Download, *, workers: int) -> None:
        self.found = found
        self.download = download
        self.workers = workers
        try:
            self.manifest: Manifest = read_manifest(download.manifest)
        except Refused as refusal:
            raise Refused(f"manifest: {refusal}") from None
        found.manifest = self.manifest
        header = self.manifest.header
        self.terms = TermsOfFile.of(header["partner"], header["currency"], self.manifest.versions)
        self.reckoning = Reckoning(self.terms, self.manifest.opening, tell=found.tell, named=self._event_named)
        self.works: list[Work] = []

    def run(self) -> None:
        self._signatures()
        before = None
        for day in self.manifest.days:
            with self.found.telling(f"day {day.name}"):
                check_day(day, self.manifest.header, before=before)
            before = day
        self._plan()
        whole = self._events()
        drift, spread = self.reckoning.drift
        self.found.drift = {"bank": (drift, spread), "partner": (-drift, spread)} if spread else {}
        if whole:  # else the sentences told so far are the reason of every other difference
            self.found.joins = self.reckoning.joins
            self._closing()

    # --- signatures (§12) -----------------------------------------------------------------------------------------
    def _signatures(self) -> None:
        """Who signed the statement comes first in `signers`."""
        keys: dict[str, Key] = {}
        for jwk in self.manifest.keys:
            with self.found.telling("keys"):
                key = read_key(jwk)
                if key.kid in keys:
                    raise Refused(f"key {shown(key.kid)} is there twice")
                keys[key.kid] = key
        used: dict[str, Key] = {}
        with self.found.telling("the statement's signature"):
            signature, signed = self.manifest.signature, self.manifest.signed
            key = check_jws(signature, signed, typ="parasol-statement", detached=True, keys=keys)
            used[key.kid] = key
        for day in self.manifest.days:
            with self.found.telling(f"the signature of the head of {day.name}"):
                key = check_jws(day.head_jws, day.head_bytes, typ="parasol-day-head", detached=False, keys=keys)
                used[key.kid] = key
        self.found.signers = list(used.values())
        if idle := keys.keys() - used.keys():
            self.found.tell(f"keys: no valid signature names {', '.join(map(shown, sorted(idle)))}")

    # --- parts ----------------------------------------------------------------------------------------------------
    def _plan(self) -> None:
        """Every part has its place in the file, its size and its day before any is read."""
        entries, places = self.manifest.parts, self.download.parts
        if len(entries) != len(places):
            raise Refused(f"the manifest names {len(entries)} parts, the file holds {len(places)}")
        event = line = 1
        for entry, place in zip(entries, places, strict=True):
            if entry.size != place.size:
                raise Refused(f"part {entry.number}: it has {place.size} bytes, the manifest says {entry.size}")
            self.works.append(Work(self.download.path, place, entry, event, line))
            if entry.kind == "events":
                event, line = event + entry.count, line + entry.lines
        if event > EVENTS_LIMIT:
            raise Refused(f"the manifest counts {event - 1} events, this program reads {EVENTS_LIMIT} at most")
        self.day_of = check_parts(self.manifest)

    def _events(self) -> bool:
        """Whether every part was read and no event was refused."""
        of_days = [work for work in self.works if work.entry.kind == "events"]
        roots: dict[str, list[bytes]] = {}
        whole = True
        for found in check_side_by_side(of_days, self.terms, workers=self.workers):
            for fault in found.faults:
                whole = False
                self.found.tell(fault)
            day = self.day_of[found.number].name
            if found.root and found.day != day:
                self.found.tell(f"part {found.number}: its day is {shown(found.day)}, expected {day}")
                whole = False
            elif whole:
                self._take(found, roots.setdefault(day, []))
        for sealed in self.manifest.days if whole else ():
            derived = tree_root(roots.get(sealed.name, [])).hex()
            if derived != sealed.root:
                self.found.tell(f"day {sealed.name}: root is {sealed.root}, its events give {derived}")
        return whole

    def _take(self, found: PartFound, roots: list[bytes]) -> None:
        roots.append(found.root)
        self.found.event_count += found.events
        self.found.line_count += found.lines
        self.reckoning.take(found)

    def _event_named(self, number: int) -> str:
        """Reads its part once more: only sentences about refused statements need it."""
        work = next(w for w in reversed(self.works) if w.entry.kind == "events" and w.first_event <= number)
        return event_named(self.download.read(work.place), number - work.first_event)

    # --- the closing (§9–§11) ---------------------------------------------------------------------------------------
    def _closing(self) -> None:
        reckoning, manifest = self.reckoning, self.manifest
        reckoning.finish(manifest.to_day)
        totals = reckoning.totals(manifest.to_day)
        told = manifest.closing if isinstance(manifest.closing, dict) else {}
        derived = told.get("accrued")  # what cannot be derived is told of by itself
        with self.found.telling("accrued"):
            derived = self._accrued()
        closing = reckoning.closing(totals["carried_out_minor"], accrued=derived)
        for fault in chain(compare("totals", manifest.totals, totals), compare("closing", manifest.closing, closing)):
            self.found.tell(fault)
        if reckoning.other_currencies:
            counts = ", ".join(f"{c} {n}" for c, n in sorted(reckoning.other_currencies.items()))
            self.found.notes.append(("currencies", counts))

    def _accrued(self) -> dict[str, Any]:
        """§11: from the opening's root to the closing's, by entries and tokens that are read side by side."""
        opening, replay = self.manifest.opening["accrued"], _Replay(self.reckoning)
        if not any(work.entry.kind == "accrued" for work in self.works):
            replay.nothing_touched()
            return dict(opening)
        touched = replay.touched(entry for part in self._accrued_parts() for entry in part[0])
        before, after = Walk(touched, (token for part in self._accrued_parts() for token in part[1])).roots()
        if before != opening["root"]:
            raise Refused(f"the proof begins at root {before}, the opening has {opening['root']}")
        return {"root": after, "size": opening["size"] + replay.added}

    def _accrued_parts(self) -> Iterator[tuple[list[Any], list[Any]]]:
        for work in self.works:
            entry = work.entry
            if entry.kind != "accrued":
                continue
            try:
                raw = self.download.read(work.place)
                require_bytes(raw, entry)
                entries, kind, proof = members(whole_value(raw), "entries kind proof", of="it")
                if kind != "accrued" or len(listed(entries, "entries")) != entry.count:
                    raise Refused(f"it is not of kind accrued with {entry.count} entries")
                if None in listed(proof, "proof"):
                    raise Refused("null is no token of a proof")
            except Refused as refusal:
                raise Refused(f"part {entry.number}: {refusal}") from None
            yield entries, proof


class _Replay:
    """What the events ask of entries of the accrued tree, bucket by bucket, in the order of recording."""

    def __init__(self, reckoning: Reckoning) -> None:
        self.reckoning = reckoning
        self.added = 0
        terms = reckoning.terms
        self.caps = [int(terms.by_number[v].commissions[goal].cap_minor or 0) for v, goal in terms.capped_terms]

    def nothing_touched(self) -> None:
        for bucket in range(BUCKETS):
            self._refuse_untold(bucket)

    def _refuse_untold(self, bucket: int) -> None:
        for _, number, *_ in self.reckoning.joins.accrued_of(bucket):
            self.reckoning.fault(number, "no accrued entry of the file is that of its customer")

    def touched(self, entries: Iterator[Any]) -> Iterator[Touched]:
        """Entries ascend by k; their buckets are read one by one."""
        last, done = b"", 0
        for bucket, group in groupby(map(read_entry, entries), key=lambda entry: entry[0][0]):
            for unvisited in range(done, bucket):
                self._refuse_untold(unvisited)
            done = max(done, bucket + 1)
            told = list(group)
            for k, key, _ in told:
                if k <= last:
                    raise Refused(f"entry {shown(key)} does not stand where its hash belongs")
                last = k
            yield from self._of_bucket(bucket, told)
        for unvisited in range(done, BUCKETS):
            self._refuse_untold(unvisited)

    def _of_bucket(self, bucket: int, told: list[tuple[bytes, str, int]]) -> Iterator[Touched]:
        accrued: dict[bytes, int] = {k[:16]: before for k, _, before in told}
        asked: set[bytes] = set()
        for k, number, place, share, worth in self.reckoning.joins.accrued_of(bucket):
            if k not in accrued:
                self.reckoning.fault(number, "no accrued entry of the file is that of its customer")
                continue
            asked.add(k)
            expected = min(share, max(self.caps[place] - accrued[k], 0))
            if worth != expected:
                self.reckoning.fault(number, f"commission is {worth}, expected {expected} of {share} under its cap")
            accrued[k] += expected
        for k, key, before in told:
            after = accrued[k[:16]]
            if k[:16] not in asked:
                raise Refused(f"no event touches the entry {shown(key)}")
            self.added += before == 0 and after > 0
            yield Touched(int.from_bytes(k), before, after)
