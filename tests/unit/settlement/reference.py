"""docs/settlement-rules.md §4–§10 as a plain fold, event by event: slow, obvious, and nothing of the engine's."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from hashlib import sha256
from math import floor
from typing import Any
from zoneinfo import ZoneInfo

Json = dict[str, Any]
ORDER = ("bank", "partner", "merchant", "network")


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def moment(day: date, zone: str) -> int:
    return int(datetime.combine(day, time(), ZoneInfo(zone)).timestamp() * 1000)


def term(contract: Json) -> tuple[int, int]:
    head = contract["contract"]
    zone = head.get("timezone", "Asia/Shanghai")
    start = moment(date.fromisoformat(head["valid_from"]), zone)
    if head.get("valid_to") is None:
        return start, 253_402_300_800_000
    return start, moment(date.fromisoformat(head["valid_to"]) + timedelta(days=1), zone)


def off(order: int, offer: Json) -> int:
    price = {
        "cap_price": lambda: order - offer["pay_minor"],
        "amount_off": lambda: offer["off_minor"],
        "percent_off": lambda: floor(Fraction(order * offer["bps"], 10_000)),
        "threshold_off": lambda: offer["off_minor"] if order >= offer["min_minor"] else 0,
    }[offer["kind"]]()
    return max(0, min(price, offer.get("max_off_minor", price), order))


def split(amount: int, fund: Sequence[Json], *, seed: str, left: Mapping[str, int]) -> dict[str, int]:
    """§6, with fractions."""
    u = Fraction(int.from_bytes(sha256(seed.encode()).digest()[:4]), 2**32)
    bps = {share["party"]: share["bps"] for share in fund}
    legs, upto = {}, 0
    for party in ORDER:
        before, upto = upto, upto + bps.get(party, 0)
        if party in bps:
            parts = [floor(Fraction(amount * c, 10_000) + u) for c in (before, upto)]
            legs[party] = parts[1] - parts[0]
    for share in fund:
        if "cap_minor" in share:
            over = max(legs[share["party"]] - left[share["party"]], 0)
            legs[share["party"]] -= over
            legs[share["overflow"]] += over
    return legs


def applies(when: Json, order: int, *, data: Mapping[str, Any], local: datetime) -> bool:
    minutes = f"{local:%H:%M}"
    start, _, end = when.get("time", "00:00-24:00").partition("-")
    return (
        order >= when.get("min_minor", 0)
        and (not when.get("mcc") or data["mcc"] in when["mcc"])
        and (not when.get("site") or data["site"] in when["site"])
        and (not when.get("weekday") or local.isoweekday() in when["weekday"])
        and start <= minutes < end
    )


def local_time(ms: int, contract: Json) -> datetime:
    zone = ZoneInfo(contract["contract"].get("timezone", "Asia/Shanghai"))
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).astimezone(zone)


def in_force(known: Sequence[Json], occurred_ms: int) -> Json | None:
    holding = [each for each in known if term(each)[0] <= occurred_ms < term(each)[1]]
    return max(holding, key=lambda each: each["contract"]["version"], default=None)


@dataclass
class State:
    """§10, with the accrued entries themselves."""

    carried: int = 0
    ranks: dict[str, int] = field(default_factory=dict)
    funded: dict[str, int] = field(default_factory=dict)
    known: list[Json] = field(default_factory=list)
    accrued: dict[str, int] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)


def fold(events: Sequence[Json], contracts: Sequence[Json], state: State, *, currency: str) -> list[Json]:
    """The lines of honest events; the state goes on."""
    lines: list[Json] = []
    for event in events:
        if event["type"] == "contract.effective":
            state.known.append(next(c for c in contracts if c["contract"]["version"] == event["contract_version"]))
        elif event["currency"] == currency and event["type"].startswith("redemption."):
            lines += _redemption(event, state)
        elif event["currency"] == currency and event["type"] == "goal.reached":
            lines += _goal(event, state)
    return lines


def _line(event: Json, kind: str, amount: int) -> Json:
    named = event["data"].get("discount", event["data"].get("goal"))
    return {
        "amount_minor": amount, "contract": event["contract"], "contract_version": event["contract_version"],
        "event_id": event["event_id"], "kind": kind, "term": named,
    }  # fmt: skip


def _redemption(event: Json, state: State) -> list[Json]:
    data = event["data"]
    confirmed = event["type"] == "redemption.confirmed"
    if confirmed:
        for party in data["cap_left_minor"]:
            key = f"{event['contract']} {data['discount']} {party}"
            state.funded[key] = state.funded.get(key, 0) + data["legs"][party]
    paid = data["discount_minor"] if confirmed else -data["reversed_minor"]
    funding = -data["legs"].get("partner", 0)
    return [_line(event, "discount_paid", paid), _line(event, "discount_funding", funding)]


def _goal(event: Json, state: State) -> list[Json]:
    data = event["data"]
    contract = in_force(state.known, event["occurred_at_ms"])
    assert contract is not None
    terms = next((each for each in contract["commission"] if each["goal"] == data["goal"]), None)
    if terms is None:
        return []
    if terms["kind"] == "CPA":
        month = f"{data['goal']} {local_time(event['occurred_at_ms'], contract):%Y-%m}"
        rank = state.ranks.get(month, 0)
        state.ranks[month] = rank + 1
        return [_line(event, "commission", [s["minor"] for s in terms["steps"] if s["from"] <= rank][-1])]
    worth = floor(Fraction(event["amount_minor"] * terms["bps"] + 5000, 10_000))
    if "window" in terms and event["occurred_at_ms"] > data["anchor_at_ms"] + _days_ms(terms["window"]):
        worth = 0
    if "cap_per_customer_minor" in terms and worth > 0:
        key = f"{event['contract']} {data['goal']} {event['subject_token']}"
        before = state.accrued.get(key, 0)
        worth = min(worth, max(terms["cap_per_customer_minor"] - before, 0))
        state.accrued[key] = before + worth
        state.touched.add(key)
    return [_line(event, "commission", worth)]


def _days_ms(text: str) -> int:
    assert text.endswith("d")
    return int(text[:-1]) * 86_400_000
