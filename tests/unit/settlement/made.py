"""Statements as the bank makes them: the engine's own rooms over facts that a test draws; a throw-away key signs."""

import hashlib
from collections.abc import Sequence
from datetime import date
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey

from gateway.jsonio import canonical
from gateway.partners.contract_rules import from_document
from gateway.partners.funding import reversal_legs, split
from gateway.partners.pricing import discount_minor
from gateway.settlement.engine import Engine, Opening
from gateway.settlement.facts import facts_table
from gateway.settlement.seal import FIRST, HEAD_TYPE, seal_day
from gateway.settlement.statement import STATEMENT_TYPE, DayEvents, Written, write_statement

DAY = date(2026, 9, 21)
NOON_MS = 1_789_963_200_000  # 2026-09-21T04:00:00Z, noon in Shanghai
KEY = ECKey.generate_key("P-256")
KID = KEY.thumbprint()
PUBLIC = {**KEY.as_dict(private=False), "kid": KID, "use": "sig", "alg": "ES256"}
BANK = "Test Bank"
BANK_AND_PARTNER = [{"party": "bank", "bps": 6000}, {"party": "partner", "bps": 4000}]
CAPPED = [{"party": "bank", "bps": 5000}, {"party": "partner", "bps": 5000, "cap_minor": 10_000, "overflow": "bank"}]
THREE = [{"party": "bank", "bps": 3334}, {"party": "partner", "bps": 3333}, {"party": "network", "bps": 3333}]

CONTRACT = from_document(
    {
        "contract": {"id": "p-2026", "version": 2, "currency": "CNY", "valid_from": "2026-01-01"},
        "discount": [
            {"id": "fen", "title": "f", "kind": "cap_price", "pay_minor": 1, "max_off_minor": 2000,
             "fund": BANK_AND_PARTNER},
            {"id": "half", "title": "h", "kind": "percent_off", "bps": 5000, "fund": CAPPED},
            {"id": "three", "title": "t", "kind": "amount_off", "off_minor": 700, "fund": THREE},
            {"id": "from", "title": "g", "kind": "threshold_off", "min_minor": 1000, "off_minor": 99,
             "fund": [{"party": "partner", "bps": 10_000}]},
        ],
        "commission": [
            {"goal": "CARD_ACTIVATED", "kind": "CPA", "tiers": "marginal", "period": "month",
             "steps": [{"from": 0, "minor": 3000}, {"from": 2, "minor": 4000}]},
            {"goal": "SPEND", "kind": "CPS", "bps": 30, "cap_per_customer_minor": 40, "window": "30d"},
            {"goal": "ACCOUNT_OPENED", "kind": "CPS", "bps": 10},
        ],
        "settle": {"cycle": "day", "min_pay_minor": 100, "negative": "carry"},
    }
)  # fmt: skip


def event(number: int, kind: str, *, amount: int, data: dict[str, Any], token: str | None = None) -> bytes:
    return canonical(
        {
            "amount_minor": amount, "business_day": DAY.isoformat(), "campaign": None, "contract": "p-2026",
            "contract_version": 2, "currency": "CNY", "data": data, "event_id": f"evt_{number}",
            "idempotency_key": None, "occurred_at_ms": NOON_MS + number % 1000, "partner": "p",
            "recorded_at_ms": NOON_MS + 5000, "subject_token": token, "type": kind,
        }
    )  # fmt: skip


def redemption(number: int, discount_id: str, order: int, *, back: Sequence[int] = (), room: int = 500) -> list[bytes]:
    """A confirmed redemption and its partial reversals; nothing where the terms give nothing."""
    discount = CONTRACT.find_discount(discount_id)
    assert discount is not None
    off = discount_minor(discount, order)
    if off == 0:
        return []
    left = {share.party: room for share in discount.fund if share.cap_minor is not None}
    legs = split(off, discount.fund, seed=f"evt_{number}", cap_left_minor=left)
    facts = {
        "redemption_id": f"rdm_{number}", "discount": discount_id, "order_minor": order, "discount_minor": off,
        "payable_minor": order - off, "cap_left_minor": left, "legs": legs,
    }  # fmt: skip
    made, before = [event(number, "redemption.confirmed", amount=off, data=facts)], 0
    for step, wanted in enumerate(back, 1):
        amount = min(wanted, off - before)
        if amount > 0:
            facts = {"whole": off, "before": before, "now": amount}
            made.append(_reversal(number, step, discount.fund, **facts, legs=legs, left=left, discount_id=discount_id))
            before += amount
    return made


def _reversal(number: int, step: int, fund: Any, *, whole: int, before: int, now: int, **rest: Any) -> bytes:
    seed, left = f"evt_{number}", rest["left"]
    delta = reversal_legs(whole, fund, seed=seed, cap_left_minor=left, reversed_before_minor=before, reversed_minor=now)
    facts = {
        "redemption_id": f"rdm_{number}", "original_event_id": seed, "discount": rest["discount_id"],
        "original_discount_minor": whole, "reversed_before_minor": before, "reversed_minor": now,
        "cap_left_minor": left, "original_legs": rest["legs"], "legs": delta,
    }  # fmt: skip
    return event(number + step * 1000, "redemption.reversed", amount=-now, data=facts)


def goal(number: int, name: str, *, spend: int = 0, token: str = "idt_1_a", late_days: int = 0) -> bytes:
    anchor = NOON_MS - late_days * 86_400_000
    data = {"goal": name, "claim_id": "clm_1", "anchor_at_ms": anchor, "evidence": "batch"}
    return event(number, "goal.reached", amount=spend, data=data, token=token)


def sign(payload: bytes, kind: str) -> str:
    return jws.serialize_compact({"alg": "ES256", "kid": KID, "typ": kind}, payload, KEY)


def detached(payload: bytes) -> str:
    head, _, signature = sign(payload, STATEMENT_TYPE).split(".")
    return f"{head}..{signature}"


def statement(leaves: Sequence[bytes], *, opening: Opening | None = None, others: int = 1, number: int = 1,
              previous: dict[str, Any] | None = None) -> Written:  # fmt: skip
    """Sealed with other partners' events around, settled and written."""
    opening = opening or Opening()
    pairs: list[tuple[str | None, bytes]] = [("p", leaf) for leaf in leaves]
    pairs += [(f"other-{n}", b'{"x":%d}' % n) for n in range(others)]
    sealed = seal_day(DAY, pairs, bank=BANK, previous_head_hash=FIRST, sign=lambda head: sign(head, HEAD_TYPE))
    engine = Engine([CONTRACT])
    try:
        engine.read_table(facts_table([("p", leaf) for leaf in leaves]))
        settled = engine.settle(opening)
    finally:
        engine.close()
    header = {
        "bank": BANK, "currency": "CNY", "from_day": DAY.isoformat(), "issuer": "http://bank.test", "number": number,
        "partner": "p", "previous": previous, "statement_id": f"stm_{number}", "to_day": DAY.isoformat(),
    }  # fmt: skip
    return write_statement(
        header, contracts=[CONTRACT], days=[DayEvents(sealed, list(leaves))], opening=opening, settled=settled,
        keys=[PUBLIC], sign=detached,
    )  # fmt: skip


def content(written: Written) -> bytes:
    return b"".join(written.pieces)


def digest(written: Written) -> str:
    return hashlib.sha256(content(written)).hexdigest()
