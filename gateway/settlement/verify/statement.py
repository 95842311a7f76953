"""One statement's file (§10): read event by event, all of it derived again, every difference told as a sentence."""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from operator import itemgetter
from typing import Any

from .canonical import Canonical, Refused, canonical, integer, listed, members, shown, string
from .found import Found, read_header, read_opening
from .proof import Key, base64, check_jws, leaf_hash, read_key
from .reckoning import Reckoning
from .sealed import check_following, check_period, check_place, read_head, read_place
from .terms import Version, read_contracts

FORMAT = "parasol-statement-1"
EVENT = frozenset(
    (
        "amount_minor", "business_day", "campaign", "contract", "contract_version", "currency", "data", "event_id",
        "idempotency_key", "occurred_at_ms", "partner", "recorded_at_ms", "subject_token", "type",
    )
)  # fmt: skip
_TEXTS, _NUMBERS = ("event_id", "type", "business_day"), ("occurred_at_ms", "recorded_at_ms", "amount_minor")
_TYPES = (str, str, str, int, int, int)
_typed = itemgetter(*_TEXTS, *_NUMBERS)
_LINE_SHOWN = 300  # characters of a line in a sentence
_BLOCK = 3 << 20  # bytes signed at a time; a multiple of 3, so that base64url needs no joint


def read_statement(raw: bytes, *, name: str, event_ids: set[str]) -> Found:
    """`event_ids`: those of the files read before; this file's are added."""
    found = Found(name, sha256(raw).hexdigest())
    try:
        _Reading(raw, found, event_ids).run()
    except Refused as refusal:
        found.tell(str(refusal))
    except RecursionError:
        found.tell("the file is nested too deeply")
    except MemoryError:
        found.tell("this computer's memory is too small for what the file holds")
    return found


class _Reading:
    """The parts of the file in the order of their bytes; the tail first, as sums start from the opening."""

    def __init__(self, raw: bytes, found: Found, event_ids: set[str]) -> None:
        self.raw = raw
        self.found = found
        self.event_ids = event_ids
        self.spoiled: set[str] = set()
        self._signature_bytes = (0, 0)
        try:
            self.text = Canonical(raw.decode())
        except UnicodeDecodeError as error:
            raise Refused(f"byte {error.start}: not UTF-8") from None

    def run(self) -> None:
        found, text = self.found, self.text
        tail_at, signature = self._tail()
        text.at = 0
        text.expect('{"closing":')
        found.closing = text.value()
        text.expect(',"contracts":')
        versions = read_contracts(text.value(), currency=found.header["currency"])
        reckoning = Reckoning(
            found.header["partner"], found.header["currency"], versions,
            ranks=dict(found.opening["ranks"]), accrued=dict(found.opening["accrued"]),
        )  # fmt: skip
        text.expect(',"days":[')
        head_tokens = self._days(reckoning)
        text.expect(f',"format":"{FORMAT}","keys":')
        keys = self._keys(text.value())
        self._signatures(keys, head_tokens, signature)
        text.expect(',"lines":[')
        self._lines(reckoning.lines)
        if text.at != tail_at:
            raise Refused(f"at character {text.at}: `opening` is expected after the lines")
        self._totals(reckoning, versions[-1])

    # --- the ends of the file ---------------------------------------------------------------------------------
    def _tail(self) -> tuple[int, Any]:
        """opening, signature, statement, totals; the place of the tail, and the signature."""
        text, found = self.text, self.found
        at = text.at = text.text.rfind(',"opening":')
        if at < 0:
            raise Refused("the file is not a statement: it has no opening")
        text.expect(',"opening":')
        opening = text.value()
        start = len(text.text[text.at :].encode())
        text.expect(',"signature":')
        signature = text.value()
        end = len(text.text[text.at :].encode())
        self._signature_bytes = (len(self.raw) - start, len(self.raw) - end)
        text.expect(',"statement":')
        found.header = read_header(text.value())
        text.expect(',"totals":')
        found.totals = text.value()
        text.expect("}\n")
        if text.at != len(text.text):
            raise Refused(f"at character {text.at}: there is more after the end")
        found.opening = read_opening(opening, first=found.header["previous"] is None)
        return at, signature

    def _totals(self, reckoning: Reckoning, latest: Version) -> None:
        """§8 and §9, from what was derived, never from what the file says."""
        found = self.found
        net = reckoning.bank_owes_minor - reckoning.partner_owes_minor
        due = net + found.opening["carried_minor"]
        payable = due if due > 0 and due >= latest.min_pay_minor else 0
        totals = {
            "bank_owes_minor": reckoning.bank_owes_minor, "partner_owes_minor": reckoning.partner_owes_minor,
            "net_minor": net, "carried_in_minor": found.opening["carried_minor"],
            "payable_minor": payable, "carried_out_minor": due - payable,
        }  # fmt: skip
        closing = {"accrued": reckoning.accrued, "carried_minor": due - payable, "ranks": reckoning.ranks}
        self._compare("totals", found.totals, totals)
        self._compare("closing", found.closing, closing)

    def _compare(self, of: str, told: Any, derived: Mapping[str, Any]) -> None:
        if canonical(told) == canonical(derived):
            return
        if not isinstance(told, dict):
            self.found.tell(f"{of} is {shown(told)}, expected is an object")
            return
        for name in sorted({*told, *derived}):
            mine, theirs = derived.get(name, "nothing"), told.get(name, "nothing")
            if isinstance(mine, dict):
                self._compare(f"{of}.{name}", theirs, mine)
            elif canonical(mine) != canonical(theirs):
                self.found.tell(f"{of}: {shown(name)} is {shown(theirs)}, expected {shown(mine)}")

    # --- days -----------------------------------------------------------------------------------------------
    def _days(self, reckoning: Reckoning) -> list[tuple[str, Any, str]]:
        """Every day of the list; (day, JWS, canonical head) for when the keys are known."""
        text, found, tokens = self.text, self.found, list[tuple[str, Any, str]]()
        if text.follows("]"):
            return []
        while True:
            text.expect('{"events":[')
            leaves, first_of = self._events(reckoning)
            text.expect(',"head":')
            head = read_head(text.value())
            found.days_with_events += bool(leaves)
            signed, day = text.written, head["business_day"]
            text.expect(',"head_jws":')
            tokens.append((day, text.value(), signed))
            with found.telling(f"day {day}"):
                place = read_place(text)
                check_place(place, head, leaves=leaves, partner=found.header["partner"])
                check_period(head, found.header)
                if found.heads:
                    check_following(found.heads[-1], head)
            for other in sorted(first_of.keys() - {day}):
                found.tell(f"event {shown(first_of[other])}: its business_day is {shown(other)}, expected {day}")
            found.heads.append(head)
            if not text.follows(","):
                text.expect("]")
                return tokens

    def _events(self, reckoning: Reckoning) -> tuple[list[bytes], dict[str, str]]:
        """Leaf hashes, and the business days that events name, each with the first event that names it."""
        text, leaves, first_of = self.text, list[bytes](), dict[str, str]()
        if text.follows("]"):
            return leaves, first_of
        while True:
            event = text.value()
            leaves.append(leaf_hash(text.written))
            self.found.event_count += 1
            try:
                self._envelope(event, reckoning.partner)
                first_of.setdefault(event["business_day"], event["event_id"])
                reckoning.take(event)
            except Refused as refusal:
                self._spoil(event, refusal)
            if not text.follows(","):
                text.expect("]")
                return leaves, first_of

    def _spoil(self, event: Any, refusal: Refused) -> None:
        """The event is told by its id, or by its place; what lines it has is not asked any more."""
        name = event.get("event_id") if isinstance(event, dict) else None
        if isinstance(name, str):
            self.spoiled.add(name)
        self.found.tell(f"event {shown(name or f'number {self.found.event_count}')}: {refusal}")

    def _envelope(self, event: Any, partner: str) -> None:
        if type(event) is not dict or event.keys() != EVENT:
            members(event, " ".join(sorted(EVENT)), of="an event")
        event_id = event["event_id"]
        if tuple(map(type, _typed(event))) != _TYPES:
            for name in _TEXTS:
                string(event[name], name)
            for name in _NUMBERS:
                integer(event[name], name)
        if event["partner"] != partner:
            raise Refused(f"its partner is {shown(event['partner'])}, expected {shown(partner)}")
        if event_id in self.event_ids:
            raise Refused("it is there twice")
        self.event_ids.add(event_id)

    # --- keys, signatures, lines -----------------------------------------------------------------------------------
    def _keys(self, value: Any) -> dict[str, Key]:
        keys: dict[str, Key] = {}
        for jwk in listed(value, "keys"):
            with self.found.telling("keys"):
                key = read_key(jwk)
                if key.kid in keys:
                    raise Refused(f"key {shown(key.kid)} is there twice")
                keys[key.kid] = key
        return keys

    def _signatures(self, keys: dict[str, Key], heads: list[tuple[str, Any, str]], signature: Any) -> None:
        """Who signed the statement comes first in `signers`."""
        used: dict[str, Key] = {}
        with self.found.telling("the statement's signature"):
            key = check_jws(signature, self._signed(), typ="parasol-statement", middle="", keys=keys)
            used[key.kid] = key
        for day, token, head in heads:
            with self.found.telling(f"the signature of the head of {day}"):
                signed = base64(head.encode())
                key = check_jws(token, [signed], typ="parasol-day-head", middle=signed.decode(), keys=keys)
                used[key.kid] = key
        self.found.signers = list(used.values())
        if idle := keys.keys() - used.keys():
            self.found.tell(f"keys: no valid signature names {', '.join(map(shown, sorted(idle)))}")

    def _signed(self) -> Iterator[bytes]:
        """The file without its signature and newline, base64url, in pieces: no second copy in memory."""
        raw, start, end = memoryview(self.raw), *self._signature_bytes
        whole = start - start % 3  # so that base64url has no joint before the last, small piece
        for at in range(0, whole, _BLOCK):
            yield base64(raw[at : min(at + _BLOCK, whole)])
        yield base64(bytes(raw[whole:start]) + bytes(raw[end:-1]))

    def _lines(self, expected: list[str]) -> None:
        """§7: exactly the lines that the events lead to, in their order."""
        text, found, place = self.text, self.found, 0
        while not text.follows("]"):
            if found.line_count:
                text.expect(",")
            found.line_count += 1
            if place < len(expected) and text.follows(expected[place]):
                place += 1
            else:
                place += self._other_line(text.value(), expected[place] if place < len(expected) else None)
        if place < len(expected):
            missing = f"{len(expected) - place} missing, the first is {shown(expected[place], limit=_LINE_SHOWN)}"
            found.tell(f"lines: after line {found.line_count} there are {missing}")

    def _other_line(self, line: Any, expected: str | None) -> int:
        """Tells how a line differs; by how many expected ones to move on. Raises Refused where their order is lost."""
        number = self.found.line_count
        members(line, "amount_minor contract contract_version event_id kind term", of=f"line {number}")
        if string(line["event_id"], f"line {number}: event_id") in self.spoiled:
            return 0  # its event was refused already, so that nothing is expected of it
        wanted = json.loads(expected) if expected else {}
        if (line["event_id"], line["kind"]) != (wanted.get("event_id"), wanted.get("kind")):
            mine = f"expected {shown(expected, limit=_LINE_SHOWN)}" if expected else "no event leads to it"
            raise Refused(
                f"line {number}: {mine}, found {shown(line, limit=_LINE_SHOWN)}; later lines are not compared"
            )
        for name in wanted:
            if canonical(line[name]) != canonical(wanted[name]):
                self.found.tell(
                    f"line {number} (event {shown(line['event_id'])}): {name} is {shown(line[name])}, "
                    f"expected {shown(wanted[name])}"
                )
        return 1
