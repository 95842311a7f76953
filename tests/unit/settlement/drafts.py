"""Signed statements for tests, written from docs/settlement-rules.md with code of their own: slow, plain, and honest
or not as the test wants. Nothing of the engine, and nothing of the verifier, is used here."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

Json = dict[str, Any]
PARTNER, BANK = "metro", "first-bank"
NOON = 1_735_790_400_000  # 2025-01-02 12:00 in Shanghai
DAY_MS = 86_400_000

CONTRACT: Json = {
    "contract": {"id": "metro-2025", "version": 1, "currency": "CNY", "valid_from": "2025-01-01"},
    "discount": [
        {"id": "ride", "title": "A ride for one fen", "kind": "cap_price", "pay_minor": 1, "max_off_minor": 2000,
         "fund": [{"party": "bank", "bps": 6000}, {"party": "partner", "bps": 4000}]},
        {"id": "tenth", "title": "A tenth", "kind": "percent_off", "bps": 1000,
         "fund": [{"party": "bank", "bps": 3334}, {"party": "partner", "bps": 3333, "cap_minor": 500,
                  "overflow": "network"}, {"party": "network", "bps": 3333}]},
        {"id": "five", "title": "Five off", "kind": "amount_off", "off_minor": 501,
         "fund": [{"party": "bank", "bps": 5000}, {"party": "partner", "bps": 5000}]},
        {"id": "big", "title": "Big orders", "kind": "threshold_off", "min_minor": 1000, "off_minor": 200,
         "fund": [{"party": "bank", "bps": 10000}]},
    ],
    "commission": [
        {"goal": "CARD_ACTIVATED", "kind": "CPA", "tiers": "marginal", "period": "month",
         "steps": [{"from": 0, "minor": 100}, {"from": 2, "minor": 300}]},
        {"goal": "SPEND", "kind": "CPS", "bps": 50, "cap_per_customer_minor": 60, "window": "30d"},
        {"goal": "ACCOUNT_OPENED", "kind": "CPS", "bps": 5},
    ],
    "settle": {"min_pay_minor": 10},
}  # fmt: skip


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


# --- events ----------------------------------------------------------------------------------------------------
def event(number: int, kind: str, *, amount: int, data: Json, **changes: Any) -> Json:
    return {
        "amount_minor": amount, "business_day": "2025-01-02", "campaign": None, "contract": "metro-2025",
        "contract_version": 1, "currency": "CNY", "data": data, "event_id": f"evt_{number:04}",
        "idempotency_key": None, "occurred_at_ms": NOON, "partner": PARTNER, "recorded_at_ms": NOON + number,
        "subject_token": f"idt_{number}", "type": kind,
    } | changes  # fmt: skip


def terms(discount: str, contract: Json = CONTRACT) -> Json:
    return next(each for each in contract["discount"] if each["id"] == discount)


def off(order: int, offer: Json) -> int:
    """§4."""
    price = {
        "cap_price": lambda: order - offer["pay_minor"],
        "amount_off": lambda: offer["off_minor"],
        "percent_off": lambda: int(Fraction(order * offer["bps"], 10_000)),
        "threshold_off": lambda: offer["off_minor"] if order >= offer["min_minor"] else 0,
    }[offer["kind"]]()
    return max(0, min(price, offer.get("max_off_minor", price), order))


def split(amount: int, offer: Json, *, seed: str, cap_left: Json) -> Json:
    """§5, unit by unit: the party whose exact share is furthest above what it has gets the next spare one."""
    exact = {share["party"]: Fraction(abs(amount) * share["bps"], 10_000) for share in offer["fund"]}
    legs = {party: part.numerator // part.denominator for party, part in exact.items()}
    waiting = set(legs)
    while sum(legs.values()) < abs(amount):
        furthest = max(exact[party] - legs[party] for party in waiting)
        equal = [party for party in waiting if exact[party] - legs[party] == furthest]
        first = min(equal, key=lambda party: sha256(f"{seed}|{party}".encode()).hexdigest())
        legs[first] += 1
        waiting.remove(first)
    for share in offer["fund"]:
        while "cap_minor" in share and legs[share["party"]] > cap_left[share["party"]]:
            legs[share["party"]] -= 1
            legs[share["overflow"]] += 1
    return {party: leg if amount > 0 else -leg for party, leg in legs.items()}


def confirmed(number: int, *, discount: str = "ride", order: int = 1999, given: int | None = None, cap: int = 500,
              **changes: Any) -> Json:  # fmt: skip
    offer = terms(discount)
    minor = off(order, offer) if given is None else given
    cap_left = {share["party"]: cap for share in offer["fund"] if "cap_minor" in share}
    data = {
        "redemption_id": f"rdm_{number}", "discount": discount, "order_minor": order, "discount_minor": minor,
        "payable_minor": order - minor, "cap_left_minor": cap_left,
        "legs": split(minor, offer, seed=f"evt_{number:04}", cap_left=cap_left),
    }  # fmt: skip
    return event(number, "redemption.confirmed", amount=minor, data=data, **changes)


def reversed_(number: int, original: Json, *, minor: int, before: int = 0, **changes: Any) -> Json:
    told = original["data"]
    offer, seed, whole = terms(told["discount"]), original["event_id"], told["discount_minor"]
    held, kept = (
        split(amount, offer, seed=seed, cap_left=told["cap_left_minor"])
        for amount in (whole - before, whole - before - minor)
    )
    data = {
        "redemption_id": told["redemption_id"], "original_event_id": seed, "discount": told["discount"],
        "original_discount_minor": whole, "reversed_before_minor": before, "reversed_minor": minor,
        "cap_left_minor": told["cap_left_minor"], "original_legs": told["legs"],
        "legs": {party: kept[party] - held[party] for party in kept},
    }  # fmt: skip
    return event(number, "redemption.reversed", amount=-minor, data=data, **changes)


def goal(number: int, name: str = "CARD_ACTIVATED", *, spend: int = 0, anchor: int = NOON, **changes: Any) -> Json:
    data = {"goal": name, "claim_id": f"clm_{number}", "anchor_at_ms": anchor, "evidence": "batch"}
    return event(number, "goal.reached", amount=spend, data=data, **changes)


# --- lines, totals ----------------------------------------------------------------------------------------------
def line(of: Json, kind: str, amount: int) -> Json:
    return {
        "amount_minor": amount, "contract": of["contract"], "contract_version": of["contract_version"],
        "event_id": of["event_id"], "kind": kind, "term": of["data"].get("discount", of["data"].get("goal")),
    }  # fmt: skip


def redemption_lines(of: Json) -> list[Json]:
    data = of["data"]
    paid = data["discount_minor"] if of["type"] == "redemption.confirmed" else -data["reversed_minor"]
    return [line(of, "discount_paid", paid), line(of, "discount_funding", -data["legs"].get("partner", 0))]


def totals(lines: Sequence[Json], *, carried_in: int, min_pay: int) -> Json:
    amounts = [each["amount_minor"] for each in lines]
    due = sum(amounts) + carried_in
    payable = due if due > 0 and abs(due) >= min_pay else 0
    return {
        "bank_owes_minor": sum(a for a in amounts if a > 0), "partner_owes_minor": -sum(a for a in amounts if a < 0),
        "net_minor": sum(amounts), "carried_in_minor": carried_in, "payable_minor": payable,
        "carried_out_minor": due - payable,
    }  # fmt: skip


def opening(carried: int = 0, *, ranks: Json | None = None, accrued: Json | None = None) -> Json:
    return {"carried_minor": carried, "ranks": ranks or {}, "accrued": accrued or {}}


# --- trees (RFC 6962 §2.1, as it is defined there) ------------------------------------------------------------------
def tree_hash(leaves: Sequence[bytes]) -> bytes:
    if len(leaves) < 2:
        return sha256(b"\0" + leaves[0]).digest() if leaves else sha256(b"").digest()
    k = power_below(len(leaves))
    return sha256(b"\1" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


def audit_path(leaves: Sequence[bytes], m: int) -> list[str]:
    if len(leaves) < 2:
        return []
    k = power_below(len(leaves))
    if m < k:
        return [*audit_path(leaves[:k], m), tree_hash(leaves[k:]).hex()]
    return [*audit_path(leaves[k:], m - k), tree_hash(leaves[:k]).hex()]


def power_below(n: int) -> int:
    """The largest power of two below n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


# --- the bank ---------------------------------------------------------------------------------------------------
@dataclass
class Signatory:
    """A P-256 key; its kid is its thumbprint unless a test says otherwise."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    kid: str = ""

    def __post_init__(self) -> None:
        self.kid = self.kid or self.thumbprint

    @property
    def jwk(self) -> Json:
        numbers = self.key.public_key().public_numbers()
        point = {"x": b64(numbers.x.to_bytes(32)), "y": b64(numbers.y.to_bytes(32))}
        return {"kty": "EC", "crv": "P-256", **point, "kid": self.kid, "use": "sig", "alg": "ES256"}

    @property
    def thumbprint(self) -> str:
        numbers = self.key.public_key().public_numbers()
        point = {"x": b64(numbers.x.to_bytes(32)), "y": b64(numbers.y.to_bytes(32))}
        return b64(sha256(canonical({"crv": "P-256", "kty": "EC", **point})).digest())

    def jws(self, payload: bytes, *, typ: str, **header: Any) -> str:
        head = b64(canonical({"alg": "ES256", "kid": self.kid, "typ": typ} | header))
        r, s = decode_dss_signature(self.key.sign(f"{head}.{b64(payload)}".encode(), ec.ECDSA(SHA256())))
        return f"{head}.{b64(payload)}.{b64(r.to_bytes(32) + s.to_bytes(32))}"

    def detached(self, payload: bytes, **header: Any) -> str:
        head, _, signature = self.jws(payload, typ=header.pop("typ", "parasol-statement"), **header).split(".")
        return f"{head}..{signature}"


SIGNATORY = Signatory()


def sealed_day(day: str, events: Sequence[Json], *, previous: str = "0" * 64, others: int = 2,
               signatory: Signatory = SIGNATORY) -> Json:  # fmt: skip
    """§3, with `others` partners beside ours, on both sides of its name."""
    leaves = [canonical(each) for each in events]
    trees = {f"{'a' if i % 2 else 'z'}-{i}": {"root": f"{i:064x}", "size": 1} for i in range(others)}
    if leaves:
        trees[PARTNER] = {"root": tree_hash(leaves).hex(), "size": len(leaves)}
    names = sorted(trees)
    rows = [canonical({"partner": name, **trees[name]}) for name in names]
    head = {
        "bank": BANK, "business_day": day, "event_count": sum(tree["size"] for tree in trees.values()),
        "previous_head_hash": previous, "root_hash": tree_hash(rows).hex(), "tree_size": len(rows),
    }  # fmt: skip
    index = names.index(PARTNER) if leaves else -1
    return {
        "events": list(events), "head": head, "head_jws": signatory.jws(canonical(head), typ="parasol-day-head"),
        "index": index, "path": audit_path(rows, index) if leaves else [], "root": tree_hash(leaves).hex(),
        "size": len(leaves), "tree_size": len(rows),
    }  # fmt: skip


def head_hash(day: Json) -> str:
    return sha256(canonical(day["head"])).hexdigest()


def statement(
    days: Sequence[Json], lines: Sequence[Json], *, closing: Json, start: Json | None = None, number: int = 1,
    previous: Json | None = None, contracts: Sequence[Json] = (CONTRACT,), period: tuple[str, str] | None = None,
) -> Json:  # fmt: skip
    """§10 without keys and signature. `closing` says ranks and accrued; what is carried is computed."""
    start = start or opening()
    min_pay = contracts[-1].get("settle", {}).get("min_pay_minor", 0)
    sums = totals(lines, carried_in=start["carried_minor"], min_pay=min_pay)
    first, last = period or (days[0]["head"]["business_day"], days[-1]["head"]["business_day"])
    header = {
        "bank": BANK, "currency": "CNY", "from_day": first, "issuer": "https://bank.example", "number": number,
        "partner": PARTNER, "previous": previous, "statement_id": f"stm_{number}", "to_day": last,
    }  # fmt: skip
    return {
        "format": "parasol-statement-1", "statement": header, "contracts": list(contracts), "days": list(days),
        "opening": start, "closing": closing | {"carried_minor": sums["carried_out_minor"]}, "lines": list(lines),
        "totals": sums,
    }  # fmt: skip


def written(document: Json, *, signatory: Signatory = SIGNATORY, keys: Sequence[Json] | None = None) -> bytes:
    """The file: keys, signature, newline."""
    whole = document | {"keys": [signatory.jwk] if keys is None else list(keys)}
    return canonical(whole | {"signature": signatory.detached(canonical(whole))}) + b"\n"


def changed(document: Json, change: Callable[[Json], Any]) -> Json:
    """A copy in which one thing is different."""
    copy = deepcopy(document)
    change(copy)
    return copy
