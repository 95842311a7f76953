"""How long the stand-alone verifier takes over a large statement, and how much memory all its processes hold.

`python -m bench.verify [EVENTS]`: makes an archive of so many events (1,000,000 unless said), signed by a throw-away
key, and runs `python -m gateway.settlement.verify` over it as a partner would. The making is not timed.
"""

import subprocess
import sys
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import psutil
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from bench.memory import Peak
from gateway.jsonio import canonical
from gateway.settlement.merkle import node_hash, root_of
from gateway.settlement.verify.documents import read_contracts
from gateway.settlement.verify.download import ustar_header

EVENTS, PART = 1_000_000, 8192
DAYS = [f"2026-09-{day:02}" for day in range(21, 26)]
NOON_MS = 1_789_963_200_000
CUSTOMERS = 200_000
CONTRACT: dict[str, Any] = {
    "contract": {"id": "p-2026", "version": 1, "currency": "CNY", "valid_from": "2026-01-01"},
    "discount": [
        {"id": "fen", "title": "f", "kind": "cap_price", "pay_minor": 1, "max_off_minor": 2000,
         "fund": [{"party": "bank", "bps": 6000}, {"party": "partner", "bps": 4000}]},
        {"id": "half", "title": "h", "kind": "percent_off", "bps": 5000,
         "fund": [{"party": "bank", "bps": 5000},
                  {"party": "partner", "bps": 5000, "cap_minor": 9_000_000, "overflow": "bank"}]},
    ],
    "commission": [
        {"goal": "CARD_ACTIVATED", "kind": "CPA", "tiers": "marginal", "period": "month",
         "steps": [{"from": 0, "minor": 3000}, {"from": 500, "minor": 4000}]},
        {"goal": "SPEND", "kind": "CPS", "bps": 30, "cap_per_customer_minor": 1000, "window": "180d"},
    ],
}  # fmt: skip
VERSION = read_contracts([CONTRACT])[0]
KNOWN = {"contract": "p-2026", "sha256": VERSION.sha256, "start_ms": VERSION.start_ms, "version": 1}


@dataclass
class Maker:
    """Facts of one partner in a fixed mix: 60 % redemptions (a quarter of them capped), 5 % reversals, 15 % card
    activations, 20 % purchases under a customer's cap."""

    rank: int = 0
    funded: int = 0
    accrued: dict[str, int] = field(default_factory=dict)
    lines: list[bytes] = field(default_factory=list)
    sums: list[int] = field(default_factory=lambda: [0, 0])
    last: dict[str, Any] = field(default_factory=dict)

    def leaf(self, number: int, day: str) -> bytes:
        kind = number % 20
        if number == 0:
            return self._effective(day)
        if kind < 12 or not self.last:
            return self._redemption(number, day, "half" if kind < 3 else "fen")
        if kind == 12:
            return self._reversal(number, day)
        return self._goal(number, day, "CARD_ACTIVATED" if kind < 16 else "SPEND")

    def _event(self, number: int, day: str, **told: Any) -> bytes:
        event = {
            "amount_minor": 0, "business_day": day, "campaign": None, "contract": "p-2026", "contract_version": 1,
            "currency": "CNY", "event_id": f"evt_{number:026}", "idempotency_key": f"key-{number}",
            "occurred_at_ms": NOON_MS + number, "partner": "p", "recorded_at_ms": NOON_MS + number,
            "subject_token": f"idt_1_{number % CUSTOMERS:032}", "v": 2,
        }  # fmt: skip
        return canonical(event | told)

    def _line(self, number: int, kind: str, *, term: str, amount: int) -> None:
        self.sums[amount < 0] += abs(amount)
        self.lines.append(
            canonical(
                {
                    "amount_minor": amount,
                    "contract": "p-2026",
                    "contract_version": 1,
                    "kind": kind,
                    "term": term,
                    "event_id": f"evt_{number:026}",
                }
            )
        )

    def _effective(self, day: str) -> bytes:
        data = {"end_ms": VERSION.end_ms, "sha256": VERSION.sha256, "start_ms": VERSION.start_ms}
        return self._event(0, day, type="contract.effective", data=data, subject_token=None)

    def _redemption(self, number: int, day: str, name: str) -> bytes:
        discount, order = VERSION.discounts[name], 500 + number % 1500
        off, seed = discount.off(order), f"key-{number}|rdm_{number:026}"
        left = {"partner": max(9_000_000 - self.funded, 0)} if name == "half" else {}
        legs = discount.split(off, offset=int.from_bytes(sha256(seed.encode()).digest()[:4]), cap_left=left)
        self.funded += legs["partner"] if left else 0
        data = {
            "cap_left_minor": left, "discount": name, "discount_minor": off, "legs": legs, "mcc": None,
            "order_minor": order, "order_reference": f"order-{number}", "payable_minor": order - off,
            "redemption_id": f"rdm_{number:026}", "seed": seed, "site": "lot-1",
        }  # fmt: skip
        self._line(number, "discount_paid", term=name, amount=off)
        self._line(number, "discount_funding", term=name, amount=-legs["partner"])
        self.last = data | {"event_id": f"evt_{number:026}", "at": NOON_MS + number}
        return self._event(number, day, type="redemption.confirmed", amount_minor=off, data=data)

    def _reversal(self, number: int, day: str) -> bytes:
        told = self.last
        whole = told["discount_minor"]
        data = {
            "cap_left_minor": told["cap_left_minor"], "discount": told["discount"], "seed": told["seed"],
            "legs": {party: -leg for party, leg in told["legs"].items()}, "original_discount_minor": whole,
            "original_event_id": told["event_id"], "original_legs": told["legs"], "reversed_before_minor": 0,
            "redemption_id": told["redemption_id"], "reversed_minor": whole,
        }  # fmt: skip
        self._line(number, "discount_paid", term=told["discount"], amount=-whole)
        self._line(number, "discount_funding", term=told["discount"], amount=told["legs"]["partner"])
        at = {"occurred_at_ms": told["at"]}
        return self._event(number, day, type="redemption.reversed", amount_minor=-whole, data=data, **at)

    def _goal(self, number: int, day: str, goal: str) -> bytes:
        spend, rule = 5000 + number % 5000, VERSION.commissions[goal]
        if goal == "SPEND":
            key = f"p-2026 SPEND idt_1_{number % CUSTOMERS:032}"
            worth = min(rule.of_spend(spend), 1000 - self.accrued.get(key, 0))
            self.accrued[key] = self.accrued.get(key, 0) + worth
        else:
            worth, spend = rule.of_rank(self.rank), 0
            self.rank += 1
        self._line(number, "commission", term=goal, amount=worth)
        data = {"anchor_at_ms": NOON_MS, "claim_id": "clm_1", "evidence": "batch", "goal": goal}
        return self._event(number, day, type="goal.reached", amount_minor=spend, data=data)


def accrued_tree(entries: list[tuple[int, str, int]], depth: int, tokens: list[str]) -> bytes:
    """Of the closing, while the opening has nothing (§11): everything is touched. Appends the proof's tokens."""
    if len(entries) < 2:
        tokens.append("")
        k, _, minor = entries[0] if entries else (0, "", 0)
        return sha256(b"\0" + k.to_bytes(32) + minor.to_bytes(8)).digest() if entries else bytes(32)
    middle = next((i for i, e in enumerate(entries) if e[0] >> (255 - depth) & 1), len(entries))
    halves = [accrued_tree(half, depth + 1, tokens) for half in (entries[:middle], entries[middle:])]
    return sha256(b"\1" + halves[0] + halves[1]).digest()


def b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def jws(key: ec.EllipticCurvePrivateKey, payload: bytes, *, kid: str, typ: str) -> list[str]:
    head = b64(canonical({"alg": "ES256", "kid": kid, "typ": typ}))
    r, s = decode_dss_signature(key.sign(f"{head}.{b64(payload)}".encode(), ec.ECDSA(SHA256())))
    return [head, b64(payload), b64(r.to_bytes(32) + s.to_bytes(32))]


def events_parts(maker: Maker, events: int, days: list[dict[str, Any]], key: Any) -> Iterator[tuple[str, int, bytes]]:
    """(kind, lines, bytes) of each part; `days` is filled with what the manifest says of each."""
    previous, number = "0" * 64, 0
    for place, day in enumerate(DAYS):
        size = events // len(DAYS) if place < len(DAYS) - 1 else events - number
        roots = []
        for at in range(0, size, PART):
            leaves = [maker.leaf(number + i, day) for i in range(min(PART, size - at))]
            number += len(leaves)
            roots.append(root_of(leaves))
            written = b'{"day":"%b","events":[%b],"kind":"events","lines":[%b]}' % (
                day.encode(), b",".join(leaves), b",".join(maker.lines))  # fmt: skip
            lines, maker.lines = len(maker.lines), []
            yield "events", lines, written
        while len(roots) > 1:
            odd = roots[-1:] if len(roots) % 2 else []
            roots = [node_hash(roots[i], roots[i + 1]) for i in range(0, len(roots) - 1, 2)] + odd
        days.append(_day(day, size, roots[0].hex(), previous=previous, key=key))
        previous = sha256(canonical(days[-1]["head"])).hexdigest()


def _day(day: str, size: int, root: str, *, previous: str, key: Any) -> dict[str, Any]:
    leaf = canonical({"partner": "p", "root": root, "size": size})
    head = {
        "audit_head": None, "bank": "Bench Bank", "business_day": day, "event_count": size, "format": "parasol-day-2",
        "previous_head_hash": previous, "root_hash": sha256(b"\0" + leaf).hexdigest(), "tree_size": 1,
    }  # fmt: skip
    token = ".".join(jws(key, canonical(head), kid="k", typ="parasol-day-head"))
    return {"head": head, "head_jws": token, "index": 0, "path": [], "root": root, "size": size, "tree_size": 1}


def make_archive(path: Path, events: int) -> dict[str, Any]:
    """Writes the statement; returns the JWKS."""
    key, maker = ec.generate_private_key(ec.SECP256R1()), Maker()
    days, parts = list[dict[str, Any]](), list[dict[str, Any]]()
    pieces = path.with_suffix(".parts")
    with pieces.open("wb") as file:
        for kind, lines, written in events_parts(maker, events, days, key):
            file.write(written)
            count = min(PART, events - sum(part["count"] for part in parts))
            parts.append(_entry(kind, written, count=count, lines=lines))
    of_day = [min(PART, day["size"] - at) for day in days for at in range(0, day["size"], PART)]
    for part, count in zip(parts, of_day, strict=True):
        part["count"] = count
    accrued = sorted((int.from_bytes(sha256(k.encode()).digest()), k, m) for k, m in maker.accrued.items())
    tokens: list[str] = []
    root = accrued_tree(accrued, 0, tokens).hex()
    first = [
        canonical(
            {
                "entries": [{"before": 0, "key": k} for _, k, _ in accrued[at : at + 50_000]],
                "kind": "accrued",
                "proof": tokens if at == 0 else [],
            }
        )
        for at in range(0, len(accrued), 50_000)
    ]
    heads = [
        _entry("accrued", raw, count=min(50_000, len(accrued) - i * 50_000), lines=0) for i, raw in enumerate(first)
    ]
    manifest, jwk = _manifest(maker, days, parts=heads + parts, root=root, key=key)
    with path.open("wb") as archive, pieces.open("rb") as file:
        _member(archive, "manifest.json", manifest)
        for number, part in enumerate(heads + parts):
            raw = first[number] if number < len(first) else file.read(part["size"])
            _member(archive, f"part-{number + 1:06}.json", raw)
        archive.write(bytes(1024))
    pieces.unlink()
    return {"keys": [jwk]}


def _entry(kind: str, raw: bytes, *, count: int, lines: int) -> dict[str, Any]:
    return {"count": count, "kind": kind, "lines": lines, "sha256": sha256(raw).hexdigest(), "size": len(raw)}


def _member(archive: IO[bytes], name: str, raw: bytes) -> None:
    archive.write(ustar_header(name, len(raw), device=bytes(8)) + raw + bytes(-len(raw) % 512))


def _manifest(maker: Maker, days: Any, *, parts: Any, root: str, key: Any) -> tuple[bytes, dict[str, Any]]:
    numbers = key.public_key().public_numbers()
    jwk = {"alg": "ES256", "crv": "P-256", "kid": "k", "kty": "EC", "purpose": "statement", "use": "sig",
           "x": b64(numbers.x.to_bytes(32)), "y": b64(numbers.y.to_bytes(32))}  # fmt: skip
    net = maker.sums[0] - maker.sums[1]
    nothing = {"accrued": {"root": "0" * 64, "size": 0}, "carried_minor": 0, "funded": {}, "ranks": {}, "versions": []}
    document = {
        "closing": {
            "accrued": {"root": root, "size": len(maker.accrued)}, "carried_minor": min(net, 0),
            "funded": {"p-2026 half partner": maker.funded}, "ranks": {"CARD_ACTIVATED 2026-09": maker.rank},
            "versions": [KNOWN]},
        "contracts": [CONTRACT], "days": days, "format": "parasol-statement-2", "keys": [jwk], "opening": nothing,
        "parts": parts,
        "statement": {"bank": "Bench Bank", "currency": "CNY", "from_day": DAYS[0], "issuer": "https://bank.example",
                      "number": 1, "partner": "p", "previous": None, "statement_id": "stm_1", "to_day": DAYS[-1]},
        "totals": {"bank_owes_minor": maker.sums[0], "partner_owes_minor": maker.sums[1], "net_minor": net,
                   "carried_in_minor": 0, "payable_minor": max(net, 0), "carried_out_minor": min(net, 0)},
    }  # fmt: skip
    head, _, signature = jws(key, canonical(document), kid="k", typ="parasol-statement")
    return canonical(document | {"signature": f"{head}..{signature}"}), jwk


def main(events: int = EVENTS) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, keys = Path(folder) / "statement.tar", Path(folder) / "keys.json"
        keys.write_bytes(canonical(make_archive(path, events)))
        command = [sys.executable, "-m", "gateway.settlement.verify", str(path), "--jwks", str(keys), "--lang", "en"]
        began, peak = time.perf_counter(), Peak()
        running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        watched = psutil.Process(running.pid)
        while running.poll() is None:
            peak.look(watched)
            time.sleep(0.05)
        said, _ = running.communicate()
        took = time.perf_counter() - began
        if running.returncode != 0:
            raise SystemExit(said)
        print(f"{events:,} events, {path.stat().st_size / 1e6:,.0f} MB: verified in {took:.1f} s "
              f"({events / took:,.0f} a second), {peak} in all processes")  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS)
