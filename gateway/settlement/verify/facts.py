"""What the events that settlement reads must say (§2, §4–§7), each for itself, and the lines that they lead to (§8).

Raises a sentence where an event disagrees with the terms it names; such an event has no lines, and the statement is
refused. The hot part: ten million events pass through here.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from .canonical import HEX, INT_LIMIT, Refused, integer, same, shown, string
from .terms import WHOLE, Discount, Version, require_conditions

if TYPE_CHECKING:
    from .part import Event, PartReading

TIME_LIMIT = 253_370_764_800_000  # ms; 9999-01-01: every local date of an earlier instant exists
_MOST = INT_LIMIT - 1
_OF_DOCUMENT = ("sha256", "start_ms", "end_ms")
REDEMPTION = struct.Struct(">12sI16s")  # hash of the redemption's id, event number, digest of its facts
REVERSAL = struct.Struct(">12sI16sqq12s")  # the same, reversed before, reversed now, hash of the original event's id
ACCRUED = struct.Struct(">16sIHqq")  # k of the entry, event number, capped term, share, worth told


@dataclass(frozen=True, slots=True)
class TermsOfFile:
    """What a part is read by; small, as it travels to every process."""

    partner: str
    currency: str
    versions: tuple[Version, ...]
    by_number: dict[int, Version] = field(default_factory=dict)
    descending: tuple[Version, ...] = ()
    capped_terms: dict[tuple[int, str], int] = field(default_factory=dict)

    @classmethod
    def of(cls, partner: str, currency: str, versions: list[Version]) -> "TermsOfFile":
        capped = [(v.number, goal) for v in versions for goal, c in v.commissions.items() if c.cap_minor is not None]
        return cls(
            partner, currency, tuple(versions), {each.number: each for each in versions},
            tuple(reversed(versions)), {name: place for place, name in enumerate(capped)},
        )  # fmt: skip


class Recorded(NamedTuple):
    """What a `contract.effective` says of a version, and where and when it was recorded."""

    number: int  # of the event
    event_id: str
    recorded_ms: int
    day: str
    version: int
    contract: str
    sha256: str
    start_ms: int


# --- which version ------------------------------------------------------------------------------------------------
def _version(reading: "PartReading", event: "Event", *, number: int) -> Version:
    """The version that the event names, if it can be the one in force (§4); what was known is asked by reckoning."""
    instant = event.occurred_at_ms
    if not 0 <= instant < TIME_LIMIT:
        raise Refused(f"occurred_at_ms is {shown(instant)}, expected is 0 to {TIME_LIMIT}")
    if instant > reading.latest[0]:
        reading.latest = (instant, event.event_id)
    named = event.contract_version
    found = reading.found
    for version in reading.terms.descending:
        if version.start_ms <= instant < version.end_ms:
            if version.number == named and version.contract == event.contract:
                if version.currency != event.currency:
                    raise Refused(f"its currency is {event.currency}, version {named} is in {version.currency}")
                if version.number not in found.named:
                    found.named[version.number] = (number, event.event_id)
                return version
            found.passed_over[version.number, named or 0] = (number, event.event_id)
    if named not in reading.terms.by_number:
        raise Refused(f"contract {shown(event.contract)} version {shown(named)} has no document in the file")
    raise Refused(f"contract {shown(event.contract)} version {shown(named)} was not in force at {instant}")


def version_recorded(reading: "PartReading", event: "Event", *, number: int) -> None:
    """A `contract.effective`: the document, where it is in the file, is the one that was recorded (§4)."""
    named, data = integer(event.contract_version, "contract_version", low=1), event.data
    name = string(event.contract, "contract")
    same("amount_minor", event.amount_minor, 0)
    version = reading.terms.by_number.get(named)
    if version is None:
        string(event.currency, "currency", pattern="[A-Z]{3}")
        start_ms = integer(data.get("start_ms"), "start_ms", low=0)
        integer(data.get("end_ms"), "end_ms", low=start_ms + 1)
    else:
        told = {"contract": name, "currency": event.currency} | {each: data.get(each) for each in _OF_DOCUMENT}
        for member, value in told.items():
            same(member, value, getattr(version, member))
    digest = string(data.get("sha256"), "sha256", pattern=HEX)
    reading.found.effective.append(
        Recorded(number, event.event_id, event.recorded_at_ms, event.business_day, named, name, digest,
                 data["start_ms"])
    )  # fmt: skip


# --- redemptions --------------------------------------------------------------------------------------------------
def redemption(reading: "PartReading", event: "Event", *, number: int, key: bytes) -> None:
    data, version = event.data, _version(reading, event, number=number)
    name, discount = _discount(version, data)
    order, given = data.get("order_minor"), data.get("discount_minor")
    if type(order) is not int or type(given) is not int or not 0 <= order <= _MOST:
        order, given = _amount(data, "order_minor"), _amount(data, "discount_minor")
    if not 0 < given <= discount.off(order):
        most = discount.off(order)
        raise Refused(f"discount_minor is {shown(given)}, the terms give 1 to {most} for an order of {order}")
    if data.get("payable_minor") != order - given or type(data["payable_minor"]) is not int:
        same("payable_minor", data.get("payable_minor"), order - given)
    if event.amount_minor != given:
        same("amount_minor", event.amount_minor, given)
    if discount.when is not None:
        require_conditions(discount.when, data, order=order, version=version, instant_ms=event.occurred_at_ms)
    redemption_id, seed = _seed(data)
    offset, left = int.from_bytes(seed[:4]), _cap_left(data, discount)
    legs = discount.split(given, offset=offset, cap_left=left)
    _same_legs("legs", data.get("legs"), legs)
    for share in discount.capped:
        record = (number, version.number, left[share.party], legs[share.party])
        reading.found.capped.setdefault((name, share.party), []).append(record)
    _tally(reading, discount, given=given, offset=offset, legs=legs)
    digest = _facts(key, seed, discount=discount, given=given, left=left)
    named = sha256(redemption_id.encode()).digest()
    reading.redemptions[named[0]].append(named[:12] + number.to_bytes(4) + digest)
    reading.line(event, "discount_paid", term=name, amount=given)
    reading.line(event, "discount_funding", term=name, amount=-legs.get("partner", 0))


def reversal(reading: "PartReading", event: "Event", *, number: int, key: bytes) -> None:
    data, version = event.data, _version(reading, event, number=number)
    name, discount = _discount(version, data)
    original_id = string(data.get("original_event_id"), "original_event_id")
    whole, before = _amount(data, "original_discount_minor"), _amount(data, "reversed_before_minor")
    now = _amount(data, "reversed_minor")
    if now == 0 or before + now > whole:
        raise Refused(f"reversed_minor is {now} after {before}, but {whole} was given")
    same("amount_minor", event.amount_minor, -now)
    redemption_id, seed = _seed(data)
    offset, left = int.from_bytes(seed[:4]), _cap_left(data, discount)
    first, held, kept = (
        discount.split(minor, offset=offset, cap_left=left) for minor in (whole, whole - before, whole - before - now)
    )
    _same_legs("original_legs", data.get("original_legs"), first)
    legs = {party: kept[party] - held[party] for party in kept}
    _same_legs("legs", data.get("legs"), legs)
    original = sha256(original_id.encode()).digest()
    digest = _facts(original, seed, discount=discount, given=whole, left=left)
    named = sha256(redemption_id.encode()).digest()
    reading.reversals[named[0]].append(REVERSAL.pack(named[:12], number, digest, before, now, original[:12]))
    reading.line(event, "discount_paid", term=name, amount=-now)
    reading.line(event, "discount_funding", term=name, amount=-legs.get("partner", 0))


def _discount(version: Version, data: Mapping[str, Any]) -> tuple[str, Discount]:
    name = data.get("discount")
    discount = version.discounts.get(name) if isinstance(name, str) else None
    if discount is None:
        raise Refused(f"version {version.number} of the contract has no discount {shown(name)}")
    return str(name), discount


def _seed(data: Mapping[str, Any]) -> tuple[str, bytes]:
    """The redemption's id, and the digest of the seed that ends with it (§6)."""
    redemption_id, seed = data.get("redemption_id"), data.get("seed")
    if type(redemption_id) is not str or not redemption_id:
        raise Refused(f"redemption_id is {shown(redemption_id)}, expected is a text")
    if type(seed) is not str or not seed.endswith("|" + redemption_id):
        raise Refused(f"seed is {shown(seed)}, expected is a text that ends with |{shown(redemption_id)}")
    return redemption_id, sha256(seed.encode()).digest()


def _facts(event: bytes, seed: bytes, *, discount: Discount, given: int, left: Mapping[str, int]) -> bytes:
    """What a reversal repeats of its original, in 16 bytes: hashes of a fixed length, and then numbers."""
    told = b"%b%b%b%d" % (event, seed, discount.mark, given)
    for minor in left.values():
        told += b" %d" % minor
    return sha256(told).digest()[:16]


def _tally(
    reading: "PartReading", discount: Discount, *, given: int, offset: int, legs: Mapping[str, int]
) -> None:  # fmt: skip
    """§6: Σ (leg − exact part) of the first party, and Σ f(1 − f), in 10⁻⁴ and 10⁻⁸ of a minor unit, before caps.

    What one of two parties has more, the other has less."""
    first = discount.fund[0]
    exact = given * first.bps
    if rest := exact % WHOLE:
        if discount.capped:
            legs = discount.split(given, offset=offset, cap_left={share.party: given for share in discount.capped})
        drift = reading.found.drift
        drift[0] += legs[first.party] * WHOLE - exact
        drift[1] += rest * (WHOLE - rest)


def _amount(data: Mapping[str, Any], name: str) -> int:
    """A number of minor units that is not negative."""
    value = data.get(name)
    if type(value) is not int or not 0 <= value <= _MOST:
        return integer(value, name, low=0)
    return value


def _same_legs(name: str, found: Any, expected: Mapping[str, int]) -> None:
    if found == expected:
        for leg in found.values():
            if type(leg) is not int:
                break
        else:
            return
    raise Refused(f"{name} is {shown(found)}, expected {shown(dict(expected))}")


def _cap_left(data: Mapping[str, Any], discount: Discount) -> dict[str, int]:
    """What each capped party had left, and nobody else; whether it is true is asked by reckoning."""
    told = data.get("cap_left_minor")
    if told == {} and not discount.capped:
        return {}
    if type(told) is not dict or told.keys() != {share.party for share in discount.capped}:
        raise Refused(f"cap_left_minor is {shown(told)}, expected is a member for each capped party")
    return {
        share.party: integer(told[share.party], f"cap_left_minor of {share.party}", low=0, high=share.cap_minor or 0)
        for share in discount.capped
    }


# --- commission ---------------------------------------------------------------------------------------------------
def goal(reading: "PartReading", event: "Event", *, number: int, key: bytes) -> None:
    data, version = event.data, _version(reading, event, number=number)
    name = string(data.get("goal"), "goal")
    spend = event.amount_minor
    if spend < 0:
        raise Refused(f"amount_minor of a goal is {spend}, which is negative")
    terms = version.commissions.get(name)
    if terms is None:
        return
    if terms.kind == "CPA":
        told = reading.line(event, "commission", term=name)
        month = version.month(event.occurred_at_ms)
        reading.found.ranked.setdefault((name, month), []).append((number, version.number, told))
        return
    share = terms.of_spend(spend)
    if terms.window_ms is not None:
        anchor = integer(data.get("anchor_at_ms"), "anchor_at_ms", low=0)
        share = share if event.occurred_at_ms <= anchor + terms.window_ms else 0
    if terms.cap_minor is None or share == 0:
        reading.line(event, "commission", term=name, amount=share)
        return
    token = string(event.subject_token, "subject_token, which a cap per customer needs,")
    k = sha256(f"{version.contract} {name} {token}".encode()).digest()
    told = reading.line(event, "commission", term=name)
    place = reading.terms.capped_terms[version.number, name]
    reading.accrued[k[0]].append(ACCRUED.pack(k[:16], number, place, share, told))
