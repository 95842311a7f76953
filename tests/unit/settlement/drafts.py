"""Events and the bank's keys for tests of the verifier, written from docs/settlement-rules.md with code of their own:
slow, plain, and honest or not as the test wants. Nothing of the engine, and nothing of the verifier, is used here."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from tests.unit.settlement.reference import off

Json = dict[str, Any]
PARTNER, BANK = "metro", "first-bank"
NOON = 1_735_790_400_000  # 2025-01-02 12:00 in Shanghai, a Thursday
DAY_MS = 86_400_000
SHARED = [{"party": "bank", "bps": 6000}, {"party": "partner", "bps": 4000}]

CONTRACT: Json = {
    "contract": {"id": "metro-2025", "version": 1, "currency": "CNY", "valid_from": "2025-01-01"},
    "discount": [
        {"id": "ride", "title": "A ride for one fen", "kind": "cap_price", "pay_minor": 1, "max_off_minor": 2000,
         "fund": SHARED},
        {"id": "tenth", "title": "A tenth", "kind": "percent_off", "bps": 1000, "fund": [
            {"party": "partner", "bps": 6666, "cap_minor": 3000, "overflow": "bank"}, {"party": "bank", "bps": 3334}]},
        {"id": "five", "title": "Five off", "kind": "amount_off", "off_minor": 501,
         "fund": [{"party": "bank", "bps": 5000}, {"party": "partner", "bps": 5000}]},
        {"id": "big", "title": "Big orders", "kind": "threshold_off", "min_minor": 1000, "off_minor": 200,
         "fund": [{"party": "bank", "bps": 10000}]},
        {"id": "lunch", "title": "Lunch", "kind": "amount_off", "off_minor": 100, "fund": SHARED,
         "when": {"mcc": ["5812"], "site": ["lot-1"], "weekday": [4], "time": "11:00-14:00", "min_minor": 500}},
    ],
    "commission": [
        {"goal": "CARD_ACTIVATED", "kind": "CPA", "tiers": "marginal", "period": "month",
         "steps": [{"from": 0, "minor": 100}, {"from": 2, "minor": 300}]},
        {"goal": "SPEND", "kind": "CPS", "bps": 50, "cap_per_customer_minor": 60, "window": "30d"},
        {"goal": "ACCOUNT_OPENED", "kind": "CPS", "bps": 5},
    ],
    "settle": {"min_pay_minor": 10, "late_days": 5},
}  # fmt: skip


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def changed(document: Any, change: Callable[[Any], Any]) -> Any:
    """A copy in which one thing is different."""
    copy = deepcopy(document)
    change(copy)
    return copy


def later_version(number: int = 2, *, valid_from: str, **terms: Any) -> Json:
    head = CONTRACT["contract"] | {"version": number, "valid_from": valid_from}
    return deepcopy(CONTRACT) | {"contract": head} | terms


# --- events ----------------------------------------------------------------------------------------------------
def event(number: int, kind: str, *, amount: int, data: Json, **changes: Any) -> Json:
    return {
        "amount_minor": amount, "business_day": "2025-01-02", "campaign": None, "contract": "metro-2025",
        "contract_version": 1, "currency": "CNY", "data": data, "event_id": f"evt_{number:04}",
        "idempotency_key": None, "occurred_at_ms": NOON, "partner": PARTNER, "recorded_at_ms": NOON + number,
        "subject_token": f"idt_{number}", "type": kind, "v": 2,
    } | changes  # fmt: skip


def effective(number: int, contract: Json = CONTRACT, **changes: Any) -> Json:
    """§4: the version becomes known."""
    head, zone = contract["contract"], ZoneInfo(contract["contract"].get("timezone", "Asia/Shanghai"))

    def midnight(day: str, plus: int = 0) -> int:
        return int((datetime.fromisoformat(day).replace(tzinfo=zone) + timedelta(days=plus)).timestamp()) * 1000

    end = midnight(head["valid_to"], 1) if "valid_to" in head else 253_402_300_800_000
    data = {"sha256": sha256(canonical(contract)).hexdigest(), "start_ms": midnight(head["valid_from"]), "end_ms": end}
    told = {"contract": head["id"], "contract_version": head["version"], "currency": head["currency"]}
    return event(number, "contract.effective", amount=0, data=data, subject_token=None, **(told | changes))


def terms(discount: str, contract: Json = CONTRACT) -> Json:
    return next(each for each in contract["discount"] if each["id"] == discount)


def split(amount: int, offer: Json, *, seed: str, cap_left: Json) -> Json:
    """§6, in fractions: marks at A·C/10000 + u, a party has the whole numbers between its marks; then unit by unit."""
    u = Fraction(int(sha256(seed.encode()).hexdigest()[:8], 16), 2**32)
    shares = {share["party"]: share for share in offer["fund"]}
    legs, upto, below = {}, 0, 0
    for party in ("bank", "partner"):
        if party in shares:
            upto += shares[party]["bps"]
            mark = Fraction(abs(amount) * upto, 10_000) + u
            legs[party] = mark.numerator // mark.denominator - below
            below += legs[party]
    for party, share in shares.items():
        while "cap_minor" in share and legs[party] > cap_left[party]:
            legs[party] -= 1
            legs[share["overflow"]] += 1
    return legs


def confirmed(number: int, *, discount: str = "ride", order: int = 1999, given: int | None = None, cap: int = 3000,
              contract: Json = CONTRACT, **changes: Any) -> Json:  # fmt: skip
    """`cap`: what is left of a capped party's."""
    offer = terms(discount, contract)
    minor = off(order, offer) if given is None else given
    cap_left = {share["party"]: cap for share in offer["fund"] if "cap_minor" in share}
    seed = f"k{number}|rdm_{number}"
    data = {
        "redemption_id": f"rdm_{number}", "discount": discount, "order_minor": order, "discount_minor": minor,
        "payable_minor": order - minor, "cap_left_minor": cap_left, "seed": seed, "site": None, "mcc": None,
        "order_reference": f"o-{number}", "legs": split(minor, offer, seed=seed, cap_left=cap_left),
    }  # fmt: skip
    told = {"contract_version": contract["contract"]["version"]}
    return event(number, "redemption.confirmed", amount=minor, data=data, **(told | changes))


def reversed_(number: int, original: Json, *, minor: int, before: int = 0, **changes: Any) -> Json:
    told = original["data"]
    offer, whole = terms(told["discount"]), told["discount_minor"]
    held, kept = (
        split(amount, offer, seed=told["seed"], cap_left=told["cap_left_minor"])
        for amount in (whole - before, whole - before - minor)
    )
    data = {
        "redemption_id": told["redemption_id"], "original_event_id": original["event_id"],
        "discount": told["discount"], "original_discount_minor": whole, "reversed_before_minor": before,
        "reversed_minor": minor, "cap_left_minor": told["cap_left_minor"], "original_legs": told["legs"],
        "legs": {party: kept[party] - held[party] for party in kept}, "seed": told["seed"],
    }  # fmt: skip
    same = {"occurred_at_ms": original["occurred_at_ms"], "contract_version": original["contract_version"]}
    return event(number, "redemption.reversed", amount=-minor, data=data, **(same | changes))


def goal(number: int, name: str = "CARD_ACTIVATED", *, spend: int = 0, anchor: int = NOON, **changes: Any) -> Json:
    data = {"goal": name, "claim_id": f"clm_{number}", "anchor_at_ms": anchor, "evidence": "batch"}
    return event(number, "goal.reached", amount=spend, data=data, **changes)


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
    def point(self) -> Json:
        numbers = self.key.public_key().public_numbers()
        return {"crv": "P-256", "kty": "EC", "x": b64(numbers.x.to_bytes(32)), "y": b64(numbers.y.to_bytes(32))}

    @property
    def jwk(self) -> Json:
        return self.point | {"kid": self.kid, "use": "sig", "alg": "ES256", "purpose": "statement"}

    @property
    def thumbprint(self) -> str:
        return b64(sha256(canonical(self.point)).digest())

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
    """§3, with `others` partners beside ours, on both sides of its name; `events` are not a member of the file's."""
    leaves = [canonical(each) for each in events]
    trees = {f"{'a' if i % 2 else 'z'}-{i}": {"root": f"{i:064x}", "size": 1} for i in range(others)}
    if leaves:
        trees[PARTNER] = {"root": tree_hash(leaves).hex(), "size": len(leaves)}
    names = sorted(trees)
    rows = [canonical({"partner": name, **trees[name]}) for name in names]
    head = {
        "audit_head": None, "bank": BANK, "business_day": day, "format": "parasol-day-2",
        "event_count": sum(tree["size"] for tree in trees.values()), "previous_head_hash": previous,
        "root_hash": tree_hash(rows).hex(), "tree_size": len(rows),
    }  # fmt: skip
    index = names.index(PARTNER) if leaves else -1
    return {
        "head": head, "head_jws": signatory.jws(canonical(head), typ="parasol-day-head"), "index": index,
        "path": audit_path(rows, index) if leaves else [], "root": tree_hash(leaves).hex(), "size": len(leaves),
        "tree_size": len(rows),
    }  # fmt: skip


def head_hash(day: Json) -> str:
    return sha256(canonical(day["head"])).hexdigest()
