"""A bank's honest record for the engine: events made by the reference's rules, days sealed, statements calculated."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey

from gateway.partners.contract import Contract, document
from gateway.partners.contract_rules import from_document
from gateway.settlement.calculation import Opening, SettledDay, Written, calculate
from gateway.settlement.facts import FactsWriter
from gateway.settlement.seal import FIRST, HEAD_TYPE, DaySealer, seal_day
from gateway.settlement.statement import STATEMENT_TYPE
from tests.unit.settlement import reference
from tests.unit.settlement.reference import Json, State, canonical

FIRST_DAY = date(2026, 9, 21)
NOON_MS = 1_789_963_200_000  # of the first day: 2026-09-21T04:00:00Z, noon in Shanghai, a Monday
DAY_MS = 86_400_000
KEY = ECKey.generate_key("P-256")
KID = KEY.thumbprint()
PUBLIC = {**KEY.as_dict(private=False), "kid": KID, "use": "sig", "alg": "ES256", "purpose": "statement"}
BANK, PARTNER = "Test Bank", "p"
SIXTY_FORTY = [{"party": "bank", "bps": 6000}, {"party": "partner", "bps": 4000}]
CAPPED = [{"party": "bank", "bps": 5000}, {"party": "partner", "bps": 5000, "cap_minor": 2000, "overflow": "bank"}]

CONTRACT: Json = {
    "contract": {"id": "p-2026", "version": 1, "currency": "CNY", "valid_from": "2026-01-01"},
    "discount": [
        {"id": "fen", "title": "f", "kind": "cap_price", "pay_minor": 1, "max_off_minor": 2000, "fund": SIXTY_FORTY},
        {"id": "half", "title": "h", "kind": "percent_off", "bps": 5000, "fund": CAPPED},
        {"id": "from", "title": "g", "kind": "threshold_off", "min_minor": 1000, "off_minor": 99,
         "fund": [{"party": "partner", "bps": 10_000}]},
        {"id": "noon", "title": "n", "kind": "amount_off", "off_minor": 50, "fund": SIXTY_FORTY,
         "when": {"mcc": ["5812"], "site": ["S1", "S2"], "weekday": [1], "time": "12:00-13:00", "min_minor": 100}},
    ],
    "commission": [
        {"goal": "CARD_ACTIVATED", "kind": "CPA", "tiers": "marginal", "period": "month",
         "steps": [{"from": 0, "minor": 3000}, {"from": 2, "minor": 4000}]},
        {"goal": "SPEND", "kind": "CPS", "bps": 30, "cap_per_customer_minor": 40, "window": "30d"},
        {"goal": "ACCOUNT_OPENED", "kind": "CPS", "bps": 10},
    ],
    "settle": {"min_pay_minor": 100},
}  # fmt: skip


def contract(version: int = 1, *, base: Json = CONTRACT, terms: Json | None = None, **head: Any) -> Json:
    """A version of the contract: members of its head, and of the whole, that differ."""
    made = json.loads(canonical(base)) | (terms or {})
    made["contract"] |= {"version": version, **head}
    return document(from_document(made))


@dataclass
class Record:
    """What a gateway records of one partner, in order; `refused` counts what it would not have granted."""

    events: list[Json] = field(default_factory=list)
    contracts: list[Json] = field(default_factory=list)
    currency: str = "CNY"
    day: date = FIRST_DAY
    _funded: dict[str, int] = field(default_factory=dict)
    _left: dict[str, Json] = field(default_factory=dict)  # redemption → its confirmed event and what was reversed

    @property
    def recorded_ms(self) -> int:
        return NOON_MS + (self.day - FIRST_DAY).days * DAY_MS + len(self.events)

    def next_day(self, days: int = 1) -> None:
        self.day += timedelta(days=days)

    def event(self, kind: str, *, amount: int, data: Json, occurred_ms: int, **more: Any) -> Json:
        made = {
            "amount_minor": amount, "business_day": self.day.isoformat(), "campaign": None, "contract": None,
            "contract_version": None, "currency": None, "data": data, "event_id": f"evt_{len(self.events)}",
            "idempotency_key": None, "occurred_at_ms": occurred_ms, "partner": PARTNER,
            "recorded_at_ms": self.recorded_ms, "subject_token": None, "type": kind, "v": 2,
        } | more  # fmt: skip
        made = json.loads(canonical(made))  # nothing in it is another event's
        self.events.append(made)
        return made  # type: ignore[no-any-return]

    def effective(self, terms: Json, **more: Any) -> Json:
        start, end = reference.term(terms)
        head = terms["contract"]
        self.contracts.append(terms)
        digest = reference.sha256(canonical(terms)).hexdigest()
        return self.event(
            "contract.effective", amount=0, data={"sha256": digest, "start_ms": start, "end_ms": end},
            occurred_ms=self.recorded_ms, contract=head["id"], contract_version=head["version"],
            currency=head["currency"], **more,
        )  # fmt: skip

    def redeem(self, discount: str, order: int, *, occurred_ms: int | None = None, site: str | None = "S1",
               mcc: str | None = "5812", key: str = "") -> Json | None:  # fmt: skip
        """None where the gateway would not have granted it."""
        at = self.recorded_ms if occurred_ms is None else occurred_ms
        terms = self._in_force(at)
        offer = next((each for each in terms["discount"] if each["id"] == discount), None) if terms else None
        if terms is None or offer is None:
            return None
        minor = reference.off(order, offer)
        asked = {"site": site, "mcc": mcc}
        local = reference.local_time(at, terms)
        if minor == 0 or not reference.applies(offer.get("when", {}), order, data=asked, local=local):
            return None
        number = len(self.events)
        name, seed = f"rdm_{number}", f"{key or f'key-{number}'}|rdm_{number}"
        contract_id = terms["contract"]["id"]
        capped = {share["party"]: share["cap_minor"] for share in offer["fund"] if "cap_minor" in share}
        left = {p: max(cap - self._funded.get(f"{contract_id} {discount} {p}", 0), 0) for p, cap in capped.items()}
        legs = reference.split(minor, offer["fund"], seed=seed, left=left)
        for party in capped:
            funded = f"{contract_id} {discount} {party}"
            self._funded[funded] = self._funded.get(funded, 0) + legs[party]
        data = asked | {
            "redemption_id": name, "discount": discount, "order_minor": order, "discount_minor": minor,
            "payable_minor": order - minor, "cap_left_minor": left, "legs": legs, "seed": seed,
            "order_reference": f"order-{number}",
        }  # fmt: skip
        made = self.event("redemption.confirmed", amount=minor, data=data, occurred_ms=at, **self._named(terms))
        self._left[name] = {"event": made, "reversed": 0, "fund": offer["fund"]}
        return made

    def reverse(self, original: Json, minor: int) -> Json | None:
        """At most what is left of it; None where nothing is."""
        told = original["data"]
        about = self._left[told["redemption_id"]]
        whole, before = told["discount_minor"], about["reversed"]
        now = min(minor, whole - before)
        if now <= 0:
            return None
        about["reversed"] = before + now
        rules = {"seed": told["seed"], "left": told["cap_left_minor"]}
        held = reference.split(whole - before, about["fund"], **rules)
        kept = reference.split(whole - before - now, about["fund"], **rules)
        data = {
            "redemption_id": told["redemption_id"], "original_event_id": original["event_id"],
            "discount": told["discount"], "original_discount_minor": whole, "reversed_before_minor": before,
            "reversed_minor": now, "cap_left_minor": told["cap_left_minor"], "original_legs": told["legs"],
            "legs": {party: kept[party] - held[party] for party in held}, "seed": told["seed"],
        }  # fmt: skip
        named = {name: original[name] for name in ("contract", "contract_version", "currency", "occurred_at_ms")}
        return self.event(
            "redemption.reversed", amount=-now, data=data, occurred_ms=named.pop("occurred_at_ms"), **named
        )

    def goal(self, name: str, *, spend: int = 0, token: str | None = "idt_1_a", occurred_ms: int | None = None,
             late_days: int = 0) -> Json | None:  # fmt: skip
        at = self.recorded_ms if occurred_ms is None else occurred_ms
        terms = self._in_force(at)
        if terms is None:
            return None
        data = {"goal": name, "claim_id": "clm_1", "anchor_at_ms": at - late_days * DAY_MS}
        return self.event("goal.reached", amount=spend, data=data, occurred_ms=at, subject_token=token,
                          **self._named(terms))  # fmt: skip

    def _in_force(self, occurred_ms: int) -> Json | None:
        found = reference.in_force(self.contracts, occurred_ms)
        return found if found is not None and found["contract"]["currency"] == self.currency else None

    def _named(self, terms: Json) -> Json:
        head = terms["contract"]
        return {"contract": head["id"], "contract_version": head["version"], "currency": head["currency"]}

    @property
    def terms(self) -> list[Contract]:
        return [from_document(each) for each in self.contracts]


def started() -> Record:
    """A record whose partner has its first contract."""
    record = Record()
    record.effective(contract())
    return record


def leaves_by_day(events: Sequence[Json]) -> dict[date, list[bytes]]:
    days: dict[date, list[bytes]] = {}
    for event in events:
        days.setdefault(date.fromisoformat(event["business_day"]), []).append(canonical(event))
    return days


def sealed(folder: Path, day: date, leaves: Sequence[bytes], *, others: int = 1, previous: bytes = FIRST) -> SettledDay:
    """A sealed day, with other partners' events between."""
    pairs: list[tuple[str | None, bytes]] = []
    for number, leaf in enumerate(leaves):
        pairs.append((PARTNER, leaf))
        pairs += [(f"other-{n}", b'{"x":%d}' % n) for n in range(others) if number % 3 == 0]
    return sealed_pairs(folder, day, pairs, previous=previous)


def sealed_pairs(
    folder: Path, day: date, pairs: Sequence[tuple[str | None, bytes]], *, previous: bytes = FIRST
) -> SettledDay:
    sealer = DaySealer()
    sealer.add(pairs)
    file = folder / f"{day.isoformat()}.parquet"
    with FactsWriter(file) as writer:
        writer.add(pairs)
        writer.finish()
    head = seal_day(
        day,
        sealer.trees(),
        bank=BANK,
        previous_head_hash=previous,
        audit_head=None,
        sign=lambda raw: sign(raw, HEAD_TYPE),
    )
    return SettledDay(head, file)


def sealed_days(folder: Path, events: Sequence[Json], *, others: int = 1) -> list[SettledDay]:
    days: list[SettledDay] = []
    for day, leaves in sorted(leaves_by_day(events).items()):
        previous = days[-1].sealed.head_hash if days else FIRST
        days.append(sealed(folder, day, leaves, others=others, previous=previous))
    return days


def sign(payload: bytes, kind: str) -> str:
    return jws.serialize_compact({"alg": "ES256", "kid": KID, "typ": kind}, payload, KEY)


def detached(payload: bytes) -> str:
    head, _, signature = sign(payload, STATEMENT_TYPE).split(".")
    return f"{head}..{signature}"


def statement(
    folder: Path, events: Sequence[Json], contracts: Sequence[Contract], *, opening: Opening | None = None,
    accrued: dict[str, int] | None = None, number: int = 1, previous: Json | None = None, currency: str = "CNY",
    days: Sequence[SettledDay] | None = None, partner: str = PARTNER, signature: str | None = None, **more: Any,
) -> Written:  # fmt: skip
    """Sealed, settled and written."""
    days = sealed_days(folder, events) if days is None else days
    first, last = (days[0].sealed.day, days[-1].sealed.day) if days else (FIRST_DAY, FIRST_DAY)
    header = {
        "bank": BANK, "currency": currency, "from_day": first.isoformat(), "issuer": "http://bank.test",
        "number": number, "partner": partner, "previous": previous, "statement_id": f"stm_{number}",
        "to_day": last.isoformat(),
    }  # fmt: skip
    return calculate(
        header, contracts=contracts, days=days, opening=opening or Opening(), accrued=list((accrued or {}).items()),
        keys=[PUBLIC], sign=(lambda _: signature) if signature else detached, folder=folder, **more,
    )  # fmt: skip


def lines_of(written: Written) -> list[Json]:
    """Of a small statement."""
    parts = json.loads(written.file.read_bytes())["parts"]
    return [line for part in parts if part["kind"] == "events" for line in part["lines"]]


def folded(events: Sequence[Json], contracts: Sequence[Json], state: State | None = None) -> tuple[list[Json], State]:
    state = state or State()
    return reference.fold(events, contracts, state, currency="CNY"), state
