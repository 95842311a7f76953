"""Made events of one partner's day, canonical and right to the cent, in any number: what settlement is measured on."""

from collections.abc import Iterator
from datetime import date
from hashlib import sha256

from gateway.jsonio import canonical
from gateway.partners.contract import Contract, document, term_ms
from gateway.partners.contract_rules import from_document

PARTNER, CONTRACT_ID, CURRENCY = "p", "p-2026", "CNY"
DAY = date(2026, 9, 21)
NOON_MS = 1_789_963_200_000
EVENTS_OF_A_CUSTOMER = 20  # one of two is brought and spends: what is accrued grows with the events

CONTRACT: Contract = from_document(
    {
        "contract": {"id": CONTRACT_ID, "version": 1, "currency": CURRENCY, "valid_from": "2025-01-01"},
        "discount": [
            {"id": "fen", "title": "f", "kind": "cap_price", "pay_minor": 1, "max_off_minor": 2000,
             "fund": [{"party": "bank", "bps": 6000}, {"party": "partner", "bps": 4000}]},
            {"id": "half", "title": "h", "kind": "percent_off", "bps": 5000,
             "fund": [{"party": "bank", "bps": 5000}, {"party": "partner", "bps": 5000}]},
        ],
        "commission": [
            {"goal": "CARD_ACTIVATED", "kind": "CPA", "tiers": "marginal", "period": "month",
             "steps": [{"from": 0, "minor": 3000}, {"from": 500, "minor": 4000}, {"from": 2000, "minor": 5000}]},
            {"goal": "SPEND", "kind": "CPS", "bps": 30, "cap_per_customer_minor": 1000, "window": "180d"},
        ],
    }
)  # fmt: skip

_HEAD = (
    b'{"amount_minor":%%d,"business_day":"2026-09-21","campaign":null,"contract":"p-2026","contract_version":1,'
    b'"currency":"CNY","data":{%s},"event_id":"evt_01J8%%022d","idempotency_key":%s,"occurred_at_ms":%%d,'
    b'"partner":"p","recorded_at_ms":%%d,"subject_token":%s,"type":"%s","v":2}'
)
_REDEMPTION = _HEAD % (
    b'"cap_left_minor":{},"discount":"NAME","discount_minor":%d,"legs":{"bank":%d,"partner":%d},"mcc":null,'
    b'"order_minor":%d,"order_reference":"order-%d","payable_minor":%d,"redemption_id":"rdm_01J8%022d",'
    b'"seed":"%s","site":null', b"null", b"null", b"redemption.confirmed",
)  # fmt: skip
_GOAL = _HEAD % (
    b'"anchor_at_ms":1789963200000,"claim_id":"clm_%d","goal":"NAME"',
    b"null",
    b'"idt_1_%032d"',
    b"goal.reached",
)
_FEN, _HALF = (_REDEMPTION.replace(b"NAME", name) for name in (b"fen", b"half"))
_SPEND, _CARD = (_GOAL.replace(b"NAME", name) for name in (b"SPEND", b"CARD_ACTIVATED"))


def leaves(events: int) -> Iterator[bytes]:
    """The contract's recording, then redemptions of two kinds, spends and activated cards by turns."""
    yield effective()
    customers = max(events // EVENTS_OF_A_CUSTOMER, 1)
    for n in range(1, events):
        match n % 4:
            case 0:
                yield _redemption(n, _FEN, order=500 + n % 3000, off=min(499 + n % 3000, 2000), bank_bps=6000)
            case 1:
                order = 2 * (n % 4000) + 3
                yield _redemption(n, _HALF, order=order, off=order // 2, bank_bps=5000)
            case 2:
                yield _SPEND % (100 + n % 9000, n, n, NOON_MS + n % 1000, NOON_MS + n, n // 4 % customers)
            case _:
                yield _CARD % (0, n, n, NOON_MS + n % 1000, NOON_MS + n, n)


def _redemption(n: int, form: bytes, *, order: int, off: int, bank_bps: int) -> bytes:
    seed = b"4f9c2d7e-key-%012d|rdm_01J8%022d" % (n, n)
    chance = int.from_bytes(sha256(seed).digest()[:4])
    bank = (off * bank_bps * 2**32 + chance * 10_000) // (10_000 * 2**32)
    return form % (off, off, bank, off - bank, order, n, order - off, n, seed, n, NOON_MS + n % 1000, NOON_MS + n)


def effective() -> bytes:
    start_ms, end_ms = term_ms(CONTRACT)
    told = {"sha256": sha256(canonical(document(CONTRACT))).hexdigest(), "start_ms": start_ms, "end_ms": end_ms}
    return canonical(
        {
            "amount_minor": 0, "business_day": DAY.isoformat(), "campaign": None, "contract": CONTRACT_ID,
            "contract_version": 1, "currency": CURRENCY, "data": told, "event_id": "evt_effective",
            "idempotency_key": None, "occurred_at_ms": NOON_MS, "partner": PARTNER, "recorded_at_ms": NOON_MS,
            "subject_token": None, "type": "contract.effective", "v": 2,
        }
    )  # fmt: skip
