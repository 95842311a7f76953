"""A contract's terms: a closed vocabulary, frozen, the same words in the file, the database, a statement, the verifier.

An unknown key is an error of the shape; what the shape cannot say is in `contract_rules.py`. Versions are never edited;
`occurred_at` picks the version that was in force.
"""

import re
from datetime import date, datetime, time
from functools import lru_cache
from hashlib import sha256
from typing import Any, Literal
from zoneinfo import ZoneInfo

import msgspec

from gateway.clock import to_ms

Party = Literal["bank", "partner"]  # merchants and networks fund nothing until they have accounts of their own
Evidence = Literal["signed_scan", "batch"]  # what the gateway witnesses or records: others would never count
Goal = Literal["ACCOUNT_OPENED", "CARD_ACTIVATED", "SPEND"]  # what the bank's feed tells: others would never pay
BPS_WHOLE = 10_000
_UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"([1-9]\d{0,5})([smhd])", re.ASCII)
_CLOCK_RANGE = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]|24):([0-5]\d)", re.ASCII)


class _Terms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Every part of a contract: an unknown key is an error."""


class Share(_Terms, frozen=True, kw_only=True):
    """What a party funds of a discount. Beyond `cap_minor` (over the contract's life) `overflow` pays."""

    party: Party
    bps: int
    cap_minor: int | None = None
    overflow: Party | None = None


class Conditions(_Terms, frozen=True, kw_only=True):
    """When an offer applies; absent = always. `weekday` 1 is Monday; `time` is local, "07:00-22:00"."""

    mcc: tuple[str, ...] = ()
    site: tuple[str, ...] = ()
    weekday: tuple[int, ...] = ()
    time: str | None = None
    min_minor: int = 0


class Limits(_Terms, frozen=True, kw_only=True):
    """How often and how much; absent = unlimited."""

    per_customer: int | None = None
    per_plate_day: int | None = None
    budget_minor: int | None = None
    per_day_minor: int | None = None


class Discount(_Terms, frozen=True, kw_only=True):
    """An offer, its price rule, its limits and who funds it. Which members a kind needs: see contract_rules.py."""

    id: str
    title: str
    title_zh: str = ""
    kind: Literal["cap_price", "amount_off", "percent_off", "threshold_off"]
    pay_minor: int | None = None
    off_minor: int | None = None
    min_minor: int | None = None
    bps: int | None = None
    max_off_minor: int | None = None
    when: Conditions = Conditions()
    limits: Limits = Limits()
    fund: tuple[Share, ...]
    hold: str = "15m"

    @property
    def hold_ms(self) -> int:
        return duration_ms(self.hold)


class Step(_Terms, frozen=True, kw_only=True):
    """From the `from`-th goal of the period on, each one is worth `minor`."""

    start: int = msgspec.field(name="from")
    minor: int


class Commission(_Terms, frozen=True, kw_only=True):
    """CPA: `steps`, marginal, counted per month. CPS: `bps` of the spend, within `window` of the conversion."""

    goal: Goal
    kind: Literal["CPA", "CPS"]
    tiers: Literal["marginal"] | None = None
    period: Literal["month"] | None = None
    steps: tuple[Step, ...] = ()
    bps: int | None = None
    cap_per_customer_minor: int | None = None
    window: str | None = None

    @property
    def window_ms(self) -> int | None:
        return duration_ms(self.window) if self.window else None


class Attribution(_Terms, frozen=True, kw_only=True):
    """What counts as bringing a customer, how far back, first or last, and how long goals follow.

    `min_gap`: the same row sent again within it does not renew its touch. `new_customer`: only who had no account at
    the bank when the touch was recorded is paid for ("no_account"), or none for so long ("no_account_since:365d").
    """

    order: tuple[Evidence, ...]
    pick: Literal["first", "last"] = "last"
    lookback: str = "30d"
    post_window: str = "90d"
    exclusive_for: tuple[Goal, ...] = ("ACCOUNT_OPENED",)
    min_gap: str = "24h"
    new_customer: str = "no_account"

    @property
    def lookback_ms(self) -> int:
        return duration_ms(self.lookback)

    @property
    def post_window_ms(self) -> int:
        return duration_ms(self.post_window)

    @property
    def min_gap_ms(self) -> int:
        return duration_ms(self.min_gap)

    @property
    def no_account_since_ms(self) -> int | None:
        """How long ago an account does not count any more; None: an account at any time before excludes."""
        _, _, since = self.new_customer.partition(":")
        return duration_ms(since) if since else None


class Settle(_Terms, frozen=True, kw_only=True):
    """The least that is paid out, and what happens to a negative net (it is carried, never clipped).

    `late_days`: how long after its moment a parking stay or a batch row may still be told.
    """

    min_pay_minor: int = 0
    negative: Literal["carry"] = "carry"
    late_days: int = 3


class ExampleGiven(_Terms, frozen=True, kw_only=True):
    """An order under one of the contract's discounts; `seed` decides who has the spare cent."""

    discount: str
    order_minor: int
    seed: str = "example"


class ExampleExpect(_Terms, frozen=True, kw_only=True):
    """What comes off and who pays it."""

    off_minor: int
    bank: int = 0
    partner: int = 0


class Example(_Terms, frozen=True, kw_only=True):
    """Terms that are run as a test whenever they are loaded."""

    given: ExampleGiven
    expect: ExampleExpect


class Head(_Terms, frozen=True, kw_only=True):
    """Which contract, which version, whose days; and whether offers are for customer tokens that nobody vouches for."""

    id: str
    version: int
    currency: str
    valid_from: date
    valid_to: date | None = None
    timezone: str = "Asia/Shanghai"
    unknown_customer: Literal["refuse", "allow"] = "refuse"


class Contract(_Terms, frozen=True, kw_only=True):
    """One version of what bank and partner agreed."""

    contract: Head
    attribution: Attribution | None = None
    discount: tuple[Discount, ...] = ()
    commission: tuple[Commission, ...] = ()
    settle: Settle = Settle()
    example: tuple[Example, ...] = ()

    def __hash__(self) -> int:
        """Who and which version: to be looked up by should not cost a walk through all terms (seven times as long)."""
        return hash((self.contract.id, self.contract.version))

    @property
    def contract_id(self) -> str:
        return self.contract.id

    @property
    def version(self) -> int:
        return self.contract.version

    @property
    def currency(self) -> str:
        return self.contract.currency

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.contract.timezone)

    def in_force(self, occurred_ms: int) -> bool:
        """Whether that instant lies in this version's term: local days, both ends included."""
        start, end = term_ms(self)
        return start <= occurred_ms < end

    def find_discount(self, discount_id: str) -> Discount | None:
        return next((discount for discount in self.discount if discount.id == discount_id), None)


_TERMS = 65_536  # pairs of days and a zone: of ten times more versions than a bank will have; 200 bytes each
FOREVER_MS = 253_402_300_800_000  # the year 10000: after every term


def term_ms(contract: Contract) -> tuple[int, int]:
    """The term as epoch milliseconds, [start, end)."""
    head = contract.contract
    return _term_ms(head.valid_from, head.valid_to, head.timezone)


@lru_cache(maxsize=_TERMS)
def _term_ms(valid_from: date, valid_to: date | None, timezone: str) -> tuple[int, int]:
    """By the days alone: contracts that begin together share a term."""
    zone = ZoneInfo(timezone)
    start = to_ms(datetime.combine(valid_from, time(), zone))
    if valid_to is None:
        return start, FOREVER_MS
    return start, to_ms(datetime.combine(date.fromordinal(valid_to.toordinal() + 1), time(), zone))


@lru_cache(maxsize=1024)
def duration_ms(text: str) -> int:
    """ "15m" → 900000. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration like 90s, 15m, 24h or 30d")
    return int(match[1]) * _UNITS_MS[match[2]]


@lru_cache(maxsize=1024)
def clock_range(text: str) -> tuple[int, int]:
    """ "07:00-22:00" → (420, 1320) minutes of the local day, [start, end). Raises ValueError."""
    match = _CLOCK_RANGE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a range of local time like 07:00-22:00")
    start, end = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
    if not start < end <= 24 * 60:
        raise ValueError(f"{text!r} does not end after it starts, within one day")
    return start, end


def document(contract: Contract) -> dict[str, Any]:
    """The canonical JSON-able form: stored as a version, signed into statements, read by the verifier."""
    plain: dict[str, Any] = msgspec.to_builtins(contract)
    return plain


_encoder = msgspec.json.Encoder(order="sorted")


def written(contract: Contract) -> bytes:
    """The canonical JSON of `document(contract)`; in one go, as the types leave no room for a float."""
    return _encoder.encode(contract)


def fingerprint(contract: Contract) -> bytes:
    """SHA-256 of what `written` gives: `contract.effective` names it, and whoever uses the version holds it to that."""
    return sha256(written(contract)).digest()
