"""Random valid contracts of one partner, as canonical documents, and when each version was recorded: for the tests of
the engine, the verifier and the state machine. What they draw is small on purpose, so that caps, tiers and terms meet.
"""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from gateway.clock import local_day, to_ms
from gateway.events.outbox import BANK_ZONE
from gateway.jsonio import canonical, decode
from gateway.partners.contract import BPS_WHOLE, document
from gateway.partners.contract_rules import from_document
from gateway.partners.recording import START_MARGIN_MS

Json = dict[str, Any]
CONTRACT_ID, PARTNER_ID = "metro-2026", "metro"
FIRST_DAY = date(2026, 3, 1)
SPAN_DAYS = 40  # starts lie within so many days around FIRST_DAY: two months' tiers are met
ZONES = ("Asia/Shanghai", "Europe/London", "America/New_York")
CURRENCIES = ("CNY", "CNY", "CNY", "EUR", "JPY")
DISCOUNT_IDS, GOALS = ("ride", "tenth", "five"), ("ACCOUNT_OPENED", "CARD_ACTIVATED", "SPEND")
SITES, MCCS = ("line-1", "line-2"), ("4111", "7523")
DAY_MS = 86_400_000

_prices = st.integers(0, 3_000) | st.sampled_from((1, 99, 1_999))
_caps = st.sampled_from((0, 1, 250, 2_000, 100_000))


@dataclass(frozen=True, slots=True)
class RecordedDocument:
    """A version's canonical document, and the moment and business day of its `contract.effective`."""

    document: Json
    recorded_at_ms: int
    business_day: date

    @property
    def version(self) -> int:
        return int(self.document["contract"]["version"])


# --- parts of a contract -------------------------------------------------------------------------------------------
@st.composite
def funds(draw: st.DrawFn) -> list[Json]:
    """One party or both, in any order, at any share, also of 0; one of two may be capped."""
    if draw(st.integers(0, 4)) == 0:
        return [{"party": draw(st.sampled_from(("bank", "partner"))), "bps": BPS_WHOLE}]
    bank = draw(st.sampled_from((6_000, 5_000, 3_333, 0, BPS_WHOLE)) | st.integers(0, BPS_WHOLE))
    shares: list[Json] = [{"party": "bank", "bps": bank}, {"party": "partner", "bps": BPS_WHOLE - bank}]
    capped = draw(st.sampled_from((None, None, 0, 1, 1)))
    if capped is not None:
        shares[capped] |= {"cap_minor": draw(_caps), "overflow": shares[1 - capped]["party"]}
    return list(draw(st.permutations(shares)))


@st.composite
def conditions(draw: st.DrawFn) -> Json:
    """Mostly none; each may stand alone or with others."""
    when: Json = {}
    if draw(st.integers(0, 3)) == 0:
        when["mcc"] = draw(st.lists(st.sampled_from(MCCS), min_size=1, max_size=2, unique=True))
    if draw(st.integers(0, 3)) == 0:
        when["site"] = draw(st.lists(st.sampled_from(SITES), min_size=1, max_size=2, unique=True))
    if draw(st.integers(0, 3)) == 0:
        when["weekday"] = sorted(draw(st.sets(st.integers(1, 7), min_size=1, max_size=6)))
    if draw(st.integers(0, 3)) == 0:
        start = draw(st.integers(0, 22))
        when["time"] = f"{start:02}:{draw(st.sampled_from((0, 30))):02}-{draw(st.integers(start + 1, 24)):02}:00"
    if draw(st.integers(0, 3)) == 0:
        when["min_minor"] = draw(st.integers(1, 2_000))
    return when


@st.composite
def discounts(draw: st.DrawFn, discount_id: str) -> Json:
    """Any kind; an id may be of another kind in the next version."""
    kind = draw(st.sampled_from(("cap_price", "amount_off", "percent_off", "threshold_off")))
    terms: Json = {
        "cap_price": lambda: {"pay_minor": draw(_prices)},
        "amount_off": lambda: {"off_minor": draw(_prices)},
        "percent_off": lambda: {"bps": draw(st.sampled_from((1, 2_000, BPS_WHOLE)) | st.integers(0, BPS_WHOLE))},
        "threshold_off": lambda: {"min_minor": draw(_prices), "off_minor": draw(_prices)},
    }[kind]()
    if kind in ("cap_price", "percent_off") and draw(st.booleans()):
        terms["max_off_minor"] = draw(_prices)
    return {
        "id": discount_id, "title": discount_id.title(), "kind": kind, **terms, "when": draw(conditions()),
        "fund": draw(funds()),
    }  # fmt: skip


@st.composite
def commissions(draw: st.DrawFn, goal: str) -> Json:
    """CPA with one to three steps, close together; CPS with or without cap and window."""
    if draw(st.booleans()):
        starts = [0, *sorted(draw(st.sets(st.integers(1, 5), max_size=2)))]
        steps = [{"from": start, "minor": draw(st.integers(0, 500))} for start in starts]
        return {"goal": goal, "kind": "CPA", "tiers": "marginal", "period": "month", "steps": steps}
    made: Json = {"goal": goal, "kind": "CPS", "bps": draw(st.sampled_from((0, 30, 5_000)) | st.integers(0, BPS_WHOLE))}
    if draw(st.booleans()):
        made["cap_per_customer_minor"] = draw(st.sampled_from((0, 1, 40, 100, 5_000)))
    if draw(st.booleans()):
        made["window"] = draw(st.sampled_from(("90s", "24h", "3d", "30d")))
    return made


@st.composite
def documents(draw: st.DrawFn, version: int) -> Json:
    """One version: canonical, as it is stored, hashed and written into statements."""
    start = FIRST_DAY + timedelta(days=draw(st.integers(-SPAN_DAYS, SPAN_DAYS)))
    head: Json = {
        "id": CONTRACT_ID, "version": version, "currency": draw(st.sampled_from(CURRENCIES)),
        "valid_from": start.isoformat(), "timezone": draw(st.sampled_from(ZONES)),
    }  # fmt: skip
    if draw(st.booleans()):
        head["valid_to"] = (start + timedelta(days=draw(st.integers(0, SPAN_DAYS)))).isoformat()
    made = {
        "contract": head,
        "attribution": {"order": ["signed_scan", "batch"]},
        "discount": [draw(discounts(each)) for each in DISCOUNT_IDS if draw(st.integers(0, 3))],
        "commission": [draw(commissions(goal)) for goal in GOALS if draw(st.integers(0, 3))],
        "settle": {"min_pay_minor": draw(st.sampled_from((0, 0, 1, 500, 100_000)))},
    }
    return canonical_document(made)


def canonical_document(made: Json) -> Json:
    """As the reader understands it: defaults left out, JSON's types only."""
    return decode(canonical(document(from_document(made))), dict[str, Any])


# --- several versions ----------------------------------------------------------------------------------------------
@st.composite
def contracts(draw: st.DrawFn, max_versions: int = 4) -> list[Json]:
    """The versions of one contract, ascending by number; starts, ends, currencies and terms in any order."""
    numbers = sorted(draw(st.sets(st.integers(1, 9), min_size=1, max_size=max_versions)))
    return [draw(documents(number)) for number in numbers]


@st.composite
def histories(draw: st.DrawFn, max_versions: int = 4) -> list[RecordedDocument]:
    """The same with the moments of recording, in their order, as `apply` lets them through: the first one or two
    together, with any start; each later one before it starts, often as late as may be."""
    made: list[RecordedDocument] = []
    at_ms = midnight_ms(FIRST_DAY, BANK_ZONE) + draw(st.integers(0, DAY_MS))
    together = draw(st.integers(1, 2))
    for place, each in enumerate(draw(contracts(max_versions))):
        if place < together:
            made.append(RecordedDocument(each, at_ms, local_day(at_ms, BANK_ZONE)))
            continue
        at_ms += draw(st.integers(1, 5 * DAY_MS))
        made.append(_later(each, at_ms, days_ahead=draw(st.sampled_from((0, 0, 1, 20)))))
    return made


def _later(each: Json, at_ms: int, *, days_ahead: int) -> RecordedDocument:
    """The version moved to the earliest start that its recording allows, or some days after that."""
    head, day = each["contract"], local_day(at_ms, BANK_ZONE)
    zone, length = ZoneInfo(head.get("timezone", "Asia/Shanghai")), _length(head)
    start = day + timedelta(days=1)
    while midnight_ms(start, zone) < at_ms + START_MARGIN_MS:
        start += timedelta(days=1)
    start += timedelta(days=days_ahead)
    moved = head | {"valid_from": start.isoformat()}
    if length is not None:
        moved["valid_to"] = (start + length).isoformat()
    return RecordedDocument(each | {"contract": moved}, at_ms, day)


def _length(head: Json) -> timedelta | None:
    if "valid_to" not in head:
        return None
    return date.fromisoformat(head["valid_to"]) - date.fromisoformat(head["valid_from"])


def midnight_ms(day: date, zone: ZoneInfo) -> int:
    return to_ms(datetime.combine(day, time(), zone))
