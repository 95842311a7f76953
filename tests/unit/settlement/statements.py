"""Whole statements for tests of the verifier: settled, sealed, cut into parts and signed, by the page and nothing else.

What a lying bank would do is given as a change: of the events it seals (`told`), the lines, a part, the manifest. It is
signed all the same, and hashes fit unless the lie is about them.
"""

import io
import tarfile
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

from tests.unit.settlement.drafts import (
    BANK,
    CONTRACT,
    PARTNER,
    SIGNATORY,
    Json,
    Signatory,
    canonical,
    effective,
    head_hash,
    sealed_day,
)

PART = 8192
Change = Callable[[Any], Any]
NOTHING = "0" * 64


def opening(carried: int = 0, **more: Any) -> Json:
    nothing = {"accrued": {"root": NOTHING, "size": 0}, "funded": {}, "ranks": {}, "versions": []}
    return nothing | {"carried_minor": carried} | more


@dataclass
class Settled:
    """§5–§11 over honest events; `accrued` is all that was ever accrued, by key."""

    contracts: Sequence[Json]
    currency: str
    ranks: dict[str, int]
    funded: dict[str, int]
    accrued: dict[str, int]
    touched: dict[str, int] = field(default_factory=dict)
    lines: list[Json] = field(default_factory=list)
    lines_of: dict[str, int] = field(default_factory=dict)
    latest_ms: int = 0

    def take(self, event: Json) -> None:
        if event["currency"] != self.currency:
            return
        before = len(self.lines)
        if event["type"] in ("redemption.confirmed", "redemption.reversed", "goal.reached"):
            self.latest_ms = max(self.latest_ms, event["occurred_at_ms"])
        if event["type"] == "redemption.confirmed":
            self._confirm(event)
        elif event["type"] == "redemption.reversed":
            self._pay(event, -event["data"]["reversed_minor"])
        elif event["type"] == "goal.reached":
            self._goal(event)
        self.lines_of[event["event_id"]] = len(self.lines) - before

    def _contract(self, event: Json) -> Json:
        return next(c for c in self.contracts if c["contract"]["version"] == event["contract_version"])

    def _line(self, of: Json, kind: str, amount: int) -> None:
        told = {name: of[name] for name in ("contract", "contract_version", "event_id")}
        term = of["data"].get("discount", of["data"].get("goal"))
        self.lines.append(told | {"amount_minor": amount, "kind": kind, "term": term})

    def _pay(self, event: Json, paid: int) -> None:
        self._line(event, "discount_paid", paid)
        self._line(event, "discount_funding", -event["data"]["legs"].get("partner", 0))

    def _confirm(self, event: Json) -> None:
        data = event["data"]
        self._pay(event, data["discount_minor"])
        for party in data["cap_left_minor"]:
            key = f"{event['contract']} {data['discount']} {party}"
            if data["legs"][party]:
                self.funded[key] = self.funded.get(key, 0) + data["legs"][party]

    def _goal(self, event: Json) -> None:
        goal, contract = event["data"]["goal"], self._contract(event)
        rule = next((each for each in contract["commission"] if each["goal"] == goal), None)
        if rule is None:
            return
        if rule["kind"] == "CPA":
            zone = ZoneInfo(contract["contract"].get("timezone", "Asia/Shanghai"))
            key = f"{goal} {datetime.fromtimestamp(event['occurred_at_ms'] / 1000, zone):%Y-%m}"
            rank = self.ranks.get(key, 0)
            self.ranks[key] = rank + 1
            self._line(event, "commission", [s["minor"] for s in rule["steps"] if s["from"] <= rank][-1])
            return
        worth = (event["amount_minor"] * rule["bps"] + 5000) // 10_000
        if "window" in rule:
            late = event["occurred_at_ms"] - event["data"]["anchor_at_ms"] > int(rule["window"][:-1]) * 86_400_000
            worth = 0 if late else worth
        if "cap_per_customer_minor" in rule and worth:
            key = f"{event['contract']} {goal} {event['subject_token']}"
            before = self.accrued.get(key, 0)
            self.touched.setdefault(key, before)
            worth = min(worth, max(rule["cap_per_customer_minor"] - before, 0))
            self.accrued[key] = before + worth
        self._line(event, "commission", worth)


# --- the accrued tree (§11, as it is defined there) -----------------------------------------------------------------
def place(key: str) -> str:
    """k as bits."""
    return f"{int(sha256(key.encode()).hexdigest(), 16):0256b}"


def accrued_hash(entries: Mapping[str, int], prefix: str = "") -> bytes:
    below = {key: minor for key, minor in entries.items() if minor and place(key).startswith(prefix)}
    if not below:
        return bytes(32)
    if len(below) == 1:
        ((key, minor),) = below.items()
        return sha256(b"\0" + sha256(key.encode()).digest() + minor.to_bytes(8)).digest()
    return sha256(b"\1" + accrued_hash(below, prefix + "0") + accrued_hash(below, prefix + "1")).digest()


def accrued_proof(entries: Mapping[str, int], touched: Sequence[str], prefix: str = "") -> list[Any]:
    """`entries`: those of before, without what is 0."""
    mine = [key for key in touched if place(key).startswith(prefix)]
    others = {k: minor for k, minor in entries.items() if minor and k not in touched and place(k).startswith(prefix)}
    if not mine:
        if len(others) == 1:
            ((key, minor),) = others.items()
            return [[sha256(key.encode()).hexdigest(), minor]]
        return [accrued_hash(others, prefix).hex() if others else ""]
    if len(mine) == 1 and not others:
        return [""]
    walked = accrued_proof(entries, touched, prefix + "0") + accrued_proof(entries, touched, prefix + "1")
    return (["/"] if len(mine) == 1 else []) + walked


# --- the file (§12) -------------------------------------------------------------------------------------------------
@dataclass
class Statement:
    """A file to be written, and what the next one begins with."""

    manifest: Json
    parts: list[bytes]
    signatory: Signatory
    accrued: dict[str, int]
    heads: list[Json]

    _signature: tuple[bytes, str] = (b"", "")  # no two of ES256 are the same: one for one content

    def signed(self) -> Json:
        if "signature" in self.manifest:
            return self.manifest
        body = canonical(self.manifest)
        if self._signature[0] != body:
            self._signature = (body, self.signatory.detached(body))
        return self.manifest | {"signature": self._signature[1]}

    def small(self) -> bytes:
        return b'{"manifest":' + canonical(self.signed()) + b',"parts":[' + b",".join(self.parts) + b"]}\n"

    def archive(self, change: Change = lambda _: None) -> bytes:
        """By Python's own writer of archives; `change` is of each member's header."""
        written = io.BytesIO()
        names = ["manifest.json", *(f"part-{n:06}.json" for n in range(1, len(self.parts) + 1))]
        with tarfile.open(fileobj=written, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name, content in zip(names, [canonical(self.signed()), *self.parts], strict=True):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                change(member)
                archive.addfile(member, io.BytesIO(content))
        raw = written.getvalue()
        blocks = sum(512 + -(-len(content) // 512) * 512 for content in [canonical(self.signed()), *self.parts])
        return raw[: blocks + 1024]


def statement(
    days: Mapping[str, Sequence[Json]], *, contracts: Sequence[Json] = (CONTRACT,), told: Change = lambda _: None,
    lines: Change = lambda _: None, part: Change = lambda _: None, manifest: Change = lambda _: None,
    before: "Statement | None" = None, start: Json | None = None, accrued: Mapping[str, int] | None = None,
    currency: str = "CNY", keys: Sequence[Json] | None = None, others: int = 2, signatory: Signatory = SIGNATORY,
) -> Statement:  # fmt: skip
    """`contracts`: every known version. `told` changes the list of a day's events before it is sealed, after it was
    settled as it was; `part` the list of parts before they are hashed; `manifest` the manifest before it is signed."""
    begun = deepcopy(start or (before.manifest["closing"] if before else opening()))
    known = dict(accrued if accrued is not None else before.accrued if before else {})
    settled = Settled(contracts, currency, dict(begun["ranks"]), dict(begun["funded"]), dict(known))
    sealed, parts, previous = [], [], head_hash(before.heads[-1]) if before and before.heads else NOTHING
    every = {}
    for day, events in days.items():
        for event in events:
            settled.take(event)
        every[day] = (events, len(settled.lines))
    lines(settled.lines)
    line_at = 0
    for day, (events, until) in every.items():
        facts = deepcopy(list(events))
        told(facts)
        sealed.append(sealed_day(day, facts, previous=previous, others=others, signatory=signatory))
        previous = head_hash(sealed[-1])
        last_day = day == list(every)[-1]
        for at in range(0, len(facts), PART):
            count = sum(settled.lines_of.get(event["event_id"], 0) for event in events[at : at + PART])
            end = line_at + count
            if at + PART >= len(facts):
                end = len(settled.lines) if last_day else until
            parts.append({"day": day, "events": facts[at : at + PART], "kind": "events",
                          "lines": settled.lines[line_at:end]})  # fmt: skip
            line_at = end
    if settled.touched:
        parts.insert(0, _accrued_part(known, settled.touched))
    part(parts)
    document = _manifest(
        settled, sealed, [(each, canonical(each)) for each in parts], begun=begun, contracts=contracts,
        days=list(days), before=before,
    )  # fmt: skip
    document["keys"] = [signatory.jwk] if keys is None else list(keys)
    manifest(document)
    return Statement(document, [canonical(each) for each in parts], signatory, settled.accrued, sealed)


def _accrued_part(known: Mapping[str, int], touched: Mapping[str, int]) -> Json:
    ordered = sorted(touched, key=place)
    entries = [{"before": touched[key], "key": key} for key in ordered]
    return {"entries": entries, "kind": "accrued", "proof": accrued_proof(known, ordered)}


def _manifest(settled: Settled, sealed: list[Json], parts: Any, *, begun: Json, contracts: Any, days: Any,
              before: Statement | None) -> Json:  # fmt: skip
    to_day = days[-1] if days else "2025-01-02"
    least = min_pay(contracts, currency=settled.currency, to_day=to_day)
    sums = totals(settled.lines, carried_in=begun["carried_minor"], min_pay=least)
    number = before.manifest["statement"]["number"] + 1 if before else 1
    previous = None
    if before:
        digest = sha256(before.small()).hexdigest()
        told = before.manifest["statement"]
        previous = {"number": told["number"], "sha256": digest, "statement_id": told["statement_id"]}
    elif begun["versions"]:
        number, previous = 2, {"number": 1, "sha256": NOTHING, "statement_id": "stm_1"}
    reach = max(settled.latest_ms, noon_ms(to_day))
    entries = {key: minor for key, minor in settled.accrued.items() if minor}
    return {
        "format": "parasol-statement-2", "days": sealed, "opening": begun,
        "contracts": [c for c in contracts if known_version(c)["start_ms"] <= reach],
        "statement": {
            "bank": BANK, "currency": settled.currency, "from_day": days[0] if days else "2025-01-02",
            "issuer": "https://bank.example", "number": number, "partner": PARTNER, "previous": previous,
            "statement_id": f"stm_{number}", "to_day": to_day,
        },
        "closing": {
            "accrued": {"root": accrued_hash(entries).hex(), "size": len(entries)},
            "carried_minor": sums["carried_out_minor"], "funded": settled.funded, "ranks": settled.ranks,
            "versions": [known_version(c) for c in contracts],
        },
        "totals": sums,
        "parts": [
            {"count": len(each.get("events", each.get("entries", []))), "kind": each.get("kind", "events"),
             "lines": len(each.get("lines", [])), "sha256": sha256(raw).hexdigest(), "size": len(raw)}
            for each, raw in parts
        ],
    }  # fmt: skip


def noon_ms(day: str) -> int:
    return int(datetime.combine(date.fromisoformat(day), time(12), UTC).timestamp()) * 1000


def known_version(contract: Json) -> Json:
    """§10, as its recording tells it."""
    told = effective(0, contract)
    data = {name: told["data"][name] for name in ("sha256", "start_ms")}
    return data | {"contract": told["contract"], "version": told["contract_version"]}


def min_pay(contracts: Sequence[Json], *, currency: str, to_day: str) -> int:
    """§9."""
    begun = [c for c in contracts if c["contract"]["currency"] == currency and c["contract"]["valid_from"] <= to_day]
    current = [c for c in begun if c["contract"].get("valid_to", "9999") >= to_day]
    by_number = sorted(current, key=lambda c: c["contract"]["version"])
    by_start = sorted(begun, key=lambda c: (c["contract"]["valid_from"], c["contract"]["version"]))
    chosen = (by_start + by_number)[-1] if begun else {}
    return int(chosen.get("settle", {}).get("min_pay_minor", 0))


def totals(lines: Sequence[Json], *, carried_in: int, min_pay: int) -> Json:
    amounts = [each["amount_minor"] for each in lines if isinstance(each["amount_minor"], int)]
    due = sum(amounts) + carried_in
    payable = due if due > 0 and abs(due) >= min_pay else 0
    return {
        "bank_owes_minor": sum(a for a in amounts if a > 0), "partner_owes_minor": -sum(a for a in amounts if a < 0),
        "net_minor": sum(amounts), "carried_in_minor": carried_in, "payable_minor": payable,
        "carried_out_minor": due - payable,
    }  # fmt: skip
