"""What a contract's shape alone cannot say: shares that add up, steps that rise, durations and zones that exist."""

import re
from collections.abc import Iterator
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from gateway.document import DocumentInvalid, shape_document
from gateway.money import MINOR_DIGITS
from gateway.partners.contract import (
    BPS_WHOLE,
    Attribution,
    Commission,
    Conditions,
    Contract,
    Discount,
    Head,
    Settle,
    Share,
    clock_range,
    document,
    duration_ms,
    written,
)

LATE_DAYS_MOST = 30  # what is older is an amendment, which two people decide
MINOR_MOST = 10**15  # of an amount or a count: what an order may be, and far inside every column that adds them up
VERSION_MOST = 999_999
HOLD_MOST_MS = 7 * 86_400_000  # money that is held is nobody's for so long
SPAN_MOST_MS = 3650 * 86_400_000  # every other duration: ten years, so that no moment leaves the calendar
FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(9997, 12, 31)  # within what a fact's moment may be, in every zone
# Names are parts of keys (counters, the closing of a statement), where blanks and bars separate them.
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LONG_NUMBER = re.compile(rb"\d{16}")  # as many digits as MINOR_MOST
_ZONE = re.compile(r"[A-Z][A-Za-z0-9_+-]*(/[A-Z][A-Za-z0-9_+-]*)*")  # never the machine's own "localtime"


def from_document(plain: Any, *, file: str = "contract") -> Contract:
    """Shape and rules checked. Raises DocumentInvalid naming file, key path and reason."""
    contract = _shaped(plain, file=file)
    for key, reason in _faults(contract):
        raise DocumentInvalid(file, key, reason)
    return contract


def _shaped(plain: Any, *, file: str) -> Contract:
    """The shape, with a word of help where a term was given up that people may still expect."""
    try:
        return shape_document(plain, Contract, name=file)
    except DocumentInvalid as error:
        for place, help_text in _GIVEN_UP:
            if place.search(f"{error.key} {error.reason}"):
                raise DocumentInvalid(file, error.key, f"{error.reason}; {help_text}") from None
        raise


# Where the shape refuses, and what to do instead.
_GIVEN_UP = (
    (
        re.compile(r"\.fund\[\d+\]\.(party|overflow) Invalid enum value '(merchant|network)'"),
        "merchant and network shares are refused until merchants and networks have accounts of their own: "
        "share between bank and partner",
    ),
    (
        re.compile(r"\.attribution\.order\[\d+\] Invalid enum value '(click_id|code)'"),
        "nothing records clicks or codes, so they would never count: write signed_scan or batch",
    ),
    (
        re.compile(r"\.settle Object contains unknown field `cycle`"),
        "statements are for the days that the bank asks for: leave cycle out",
    ),
    (
        re.compile(r"\.commission\[\d+\]\.goal Invalid enum value"),
        "the bank tells of ACCOUNT_OPENED, CARD_ACTIVATED and SPEND only",
    ),
)


def _faults(contract: Contract) -> list[tuple[str, str]]:
    """What the shape alone cannot say, as (key, reason)."""
    found = _head_faults(contract.contract)
    found += [fault for i, d in enumerate(contract.discount) for fault in _discount_faults(d, f"$.discount[{i}]")]
    found += [fault for i, c in enumerate(contract.commission) for fault in _commission_faults(c, f"$.commission[{i}]")]
    found += _repeated("$.discount", [discount.id for discount in contract.discount])
    found += _repeated("$.commission", [commission.goal for commission in contract.commission])
    if contract.attribution is not None:
        found += _attribution_faults(contract.attribution)
    found += _settle_faults(contract.settle)
    for i, example in enumerate(contract.example):
        if contract.find_discount(example.given.discount) is None:
            found.append((f"$.example[{i}].given.discount", "is not a discount of this contract"))
    if _LONG_NUMBER.search(written(contract)):  # every contract is read by every worker: look closer only at few
        found += _too_large(document(contract), "$")
    return found


def _too_large(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Numbers that do not fit the columns that hold and add them; the engine and the ledger have 64 bits."""
    match value:
        case int() if abs(value) > MINOR_MOST:
            yield key, f"is beyond {MINOR_MOST}"
        case dict():
            for name, member in value.items():
                yield from _too_large(member, f"{key}.{name}")
        case list() | tuple():
            for index, item in enumerate(value):
                yield from _too_large(item, f"{key}[{index}]")


def _head_faults(head: Head) -> list[tuple[str, str]]:
    found = _name_faults("$.contract.id", head.id)
    if not 1 <= head.version <= VERSION_MOST:
        found.append(("$.contract.version", f"is not 1 to {VERSION_MOST}"))
    if head.currency not in MINOR_DIGITS:
        found.append(("$.contract.currency", f"is not one of {', '.join(sorted(MINOR_DIGITS))}"))
    if head.valid_to is not None and head.valid_to < head.valid_from:
        found.append(("$.contract.valid_to", "is before valid_from"))
    for name, day in (("valid_from", head.valid_from), ("valid_to", head.valid_to)):
        if day is not None and not FIRST_DAY <= day <= LAST_DAY:
            found.append((f"$.contract.{name}", f"is not {FIRST_DAY} to {LAST_DAY}"))
    if not _is_zone(head.timezone):
        found.append(("$.contract.timezone", f"{head.timezone!r} is not a time zone like Asia/Shanghai"))
    return found


def _is_zone(name: str) -> bool:
    """A zone of the IANA database that every machine has; a folder of it is none."""
    try:
        return _ZONE.fullmatch(name) is not None and ZoneInfo(name) is not None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False


def _name_faults(key: str, name: str) -> list[tuple[str, str]]:
    fits = _NAME.fullmatch(name) is not None
    return [] if fits else [(key, f"{name!r} is not a name of up to 64 small letters, digits, '.', '_' and '-'")]


def _attribution_faults(agreed: Attribution) -> list[tuple[str, str]]:
    key = "$.attribution"
    found = _durations(
        key, most_ms=SPAN_MOST_MS, lookback=agreed.lookback, post_window=agreed.post_window, min_gap=agreed.min_gap
    )
    found += _repeated(f"{key}.order", list(agreed.order))
    if not agreed.order:
        found.append((f"{key}.order", "names no evidence"))
    if len(set(agreed.exclusive_for)) > 1 and "ACCOUNT_OPENED" not in agreed.exclusive_for:
        reason = (
            "names several beginnings; name one of them, or ACCOUNT_OPENED with them: else the order of telling pays"
        )
        found.append((f"{key}.exclusive_for", reason))
    word, colon, since = agreed.new_customer.partition(":")
    if (word, colon) not in (("no_account", ""), ("no_account_since", ":")):
        found.append((f"{key}.new_customer", "is neither no_account nor no_account_since:<duration>"))
    elif colon:
        found += _durations(key, most_ms=SPAN_MOST_MS, new_customer=since)
    return found


def _settle_faults(settle: Settle) -> list[tuple[str, str]]:
    found = []
    if settle.min_pay_minor < 0:
        found.append(("$.settle.min_pay_minor", "is negative"))
    if not 0 <= settle.late_days <= LATE_DAYS_MOST:
        found.append(("$.settle.late_days", f"is not 0 to {LATE_DAYS_MOST}"))
    return found


_NEEDED = {
    "cap_price": {"pay_minor"},
    "amount_off": {"off_minor"},
    "percent_off": {"bps"},
    "threshold_off": {"min_minor", "off_minor"},
}
_ALLOWED = {"cap_price": {"max_off_minor"}, "percent_off": {"max_off_minor"}}


def _discount_faults(discount: Discount, key: str) -> list[tuple[str, str]]:
    given = {name: getattr(discount, name) for name in ("pay_minor", "off_minor", "min_minor", "bps", "max_off_minor")}
    present = {name for name, value in given.items() if value is not None}
    needed, allowed = _NEEDED[discount.kind], _ALLOWED.get(discount.kind, set())
    found = _name_faults(f"{key}.id", discount.id)
    found += [(f"{key}.{name}", f"is needed by {discount.kind}") for name in sorted(needed - present)]
    found += [(f"{key}.{name}", f"means nothing for {discount.kind}") for name in sorted(present - needed - allowed)]
    found += [(f"{key}.{name}", "is negative") for name, value in given.items() if value is not None and value < 0]
    if discount.bps is not None and discount.bps > BPS_WHOLE:
        found.append((f"{key}.bps", f"is above {BPS_WHOLE}"))
    found += _durations(key, most_ms=HOLD_MOST_MS, hold=discount.hold)
    found += _condition_faults(discount.when, f"{key}.when")
    limits = msgspec.structs.asdict(discount.limits)
    found += [(f"{key}.limits.{n}", "is below 1") for n, value in limits.items() if value is not None and value < 1]
    return found + _fund_faults(discount.fund, f"{key}.fund")


def _condition_faults(when: Conditions, key: str) -> list[tuple[str, str]]:
    found = []
    if any(day not in range(1, 8) for day in when.weekday):
        found.append((f"{key}.weekday", "holds a day that is not 1 (Monday) to 7"))
    if any(re.fullmatch(r"\d{4}", mcc, re.ASCII) is None for mcc in when.mcc):
        found.append((f"{key}.mcc", "holds a code that is not four digits"))
    if when.min_minor < 0:
        found.append((f"{key}.min_minor", "is negative"))
    if when.time is not None:
        try:
            clock_range(when.time)
        except ValueError as error:
            found.append((f"{key}.time", str(error)))
    return found


def _fund_faults(fund: tuple[Share, ...], key: str) -> list[tuple[str, str]]:
    found = _repeated(key, [share.party for share in fund])
    if sum(share.bps for share in fund) != BPS_WHOLE or any(share.bps < 0 for share in fund):
        found.append((key, f"does not share out exactly {BPS_WHOLE} basis points"))
    parties = {share.party for share in fund}
    uncapped = {share.party for share in fund if share.cap_minor is None}
    for i, share in enumerate(fund):
        if (share.cap_minor is None) != (share.overflow is None):
            found.append((f"{key}[{i}]", "has cap_minor and overflow together, or neither"))
        elif share.cap_minor is not None and share.cap_minor < 0:
            found.append((f"{key}[{i}].cap_minor", "is negative"))
        elif share.overflow is not None and share.overflow not in parties & uncapped:
            found.append((f"{key}[{i}].overflow", "is not an uncapped party of this fund"))
    return found


def _commission_faults(commission: Commission, key: str) -> list[tuple[str, str]]:
    if commission.kind == "CPS":
        found = [(f"{key}.{name}", "means nothing for CPS") for name in ("tiers", "period", "steps")
                 if getattr(commission, name)]  # fmt: skip
        if commission.bps is None or not 0 <= commission.bps <= BPS_WHOLE:
            found.append((f"{key}.bps", f"is needed, 0 to {BPS_WHOLE}"))
        if commission.cap_per_customer_minor is not None and commission.cap_per_customer_minor < 0:
            found.append((f"{key}.cap_per_customer_minor", "is negative"))
        return found + (
            _durations(key, most_ms=SPAN_MOST_MS, window=commission.window) if commission.window is not None else []
        )
    found = [(f"{key}.{name}", "means nothing for CPA") for name in ("bps", "cap_per_customer_minor", "window")
             if getattr(commission, name) is not None]  # fmt: skip
    starts = [step.start for step in commission.steps]
    if not starts or starts[0] != 0 or starts != sorted(set(starts)):
        found.append((f"{key}.steps", "start at 0 and rise"))
    if any(step.minor < 0 for step in commission.steps):
        found.append((f"{key}.steps", "hold a negative amount"))
    if commission.tiers is None or commission.period is None:
        found.append((key, 'says tiers = "marginal" and period = "month"'))
    return found


def _durations(key: str, *, most_ms: int, **texts: str) -> list[tuple[str, str]]:
    found = []
    for name, text in texts.items():
        try:
            if duration_ms(text) > most_ms:
                found.append((f"{key}.{name}", f"is longer than {most_ms // 86_400_000} days"))
        except ValueError as error:
            found.append((f"{key}.{name}", str(error)))
    return found


def _repeated(key: str, names: list[str]) -> list[tuple[str, str]]:
    return [(key, f"names {name} twice") for name in sorted({n for n in names if names.count(n) > 1})]
