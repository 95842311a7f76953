"""Contracts as small tables: where each version is in force, what each discount and commission says, local clocks."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from gateway.jsonio import canonical
from gateway.partners.contract import Contract, Discount, clock_range
from gateway.settlement.typed_facts import PARTIES
from gateway.settlement.versions import Span

DAY_MS = 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def span_table(spans: Sequence[Span]) -> pa.Table:
    """A row a span; `line_head` is how a line of these terms begins after its amount."""
    rows = [
        (s.terms.contract_id, s.terms.version, s.terms.currency, s.terms.contract.timezone, s.from_seq, s.until_seq,
         s.start_ms, s.end_ms, _line_head(s.terms))
        for s in spans
    ]  # fmt: skip
    return _table(
        rows, contract=pa.string(), version=pa.int32(), known_currency=pa.string(), zone=pa.string(),
        from_seq=pa.int64(), until_seq=pa.int64(), start_ms=pa.int64(), end_ms=pa.int64(), line_head=pa.string(),
    )  # fmt: skip


def _line_head(terms: Contract) -> str:
    return f',"contract":{_json(terms.contract_id)},"contract_version":{terms.version},"event_id":"'


def discount_table(contracts: Sequence[Contract]) -> pa.Table:
    """A row a discount and version. `upto_<party>`: basis points of the parties up to it, in the order of the split."""
    rows = [(c.contract_id, c.version, *_discount_row(d)) for c in contracts for d in c.discount]
    shares: dict[str, pa.DataType] = {}
    for party in PARTIES:
        shares |= {f"upto_{party}": pa.int64(), f"cap_{party}": pa.int64(), f"overflow_{party}": pa.string()}
    when = {
        "least_minor": pa.int64(), "mccs": pa.list_(pa.string()), "sites": pa.list_(pa.string()),
        "weekdays": pa.list_(pa.int64()), "from_minute": pa.int64(), "until_minute": pa.int64(),
    }  # fmt: skip
    return _table(
        rows, contract=pa.string(), version=pa.int32(), discount=pa.string(), kind=pa.string(), pay_minor=pa.int64(),
        off_minor=pa.int64(), min_minor=pa.int64(), bps=pa.int64(), max_off_minor=pa.int64(), term_json=pa.string(),
        funders=pa.string(), capped=pa.string(), **shares, **when,
    )  # fmt: skip


def _discount_row(discount: Discount) -> tuple[Any, ...]:
    by_party = {str(share.party): share for share in discount.fund}
    shares: list[Any] = []
    upto = 0
    for party in PARTIES:
        share = by_party.get(party)
        upto += share.bps if share else 0
        shares += [upto, share.cap_minor if share else None, share.overflow if share else None]
    when = discount.when
    start, end = clock_range(when.time) if when.time else (None, None)
    return (
        discount.id, discount.kind, discount.pay_minor, discount.off_minor, discount.min_minor, discount.bps,
        discount.max_off_minor, _json(discount.id), funders_of(discount), capped_of(discount), *shares, when.min_minor,
        list(when.mcc) or None, list(when.site) or None, list(when.weekday) or None, start, end,
    )  # fmt: skip


def funders_of(discount: Discount) -> str:
    """The parties that have a leg, as their names stand in canonical JSON."""
    return " ".join(sorted(share.party for share in discount.fund))


def capped_of(discount: Discount) -> str:
    return " ".join(sorted(share.party for share in discount.fund if share.cap_minor is not None))


def commission_table(contracts: Sequence[Contract]) -> pa.Table:
    """A row a commission and version."""
    rows = [
        (c.contract_id, c.version, m.goal, m.kind, m.bps, m.cap_per_customer_minor, m.window_ms, _json(m.goal))
        for c in contracts
        for m in c.commission
    ]
    return _table(
        rows, contract=pa.string(), version=pa.int32(), goal=pa.string(), kind=pa.string(), bps=pa.int64(),
        cap_minor=pa.int64(), window_ms=pa.int64(), term_json=pa.string(),
    )  # fmt: skip


def step_table(contracts: Sequence[Contract]) -> pa.Table:
    """A row a tier: from `start` (rank) until before `until`."""
    rows = [
        (c.contract_id, c.version, m.goal, step.start, until, step.minor)
        for c in contracts
        for m in c.commission
        if m.steps
        for step, until in zip(m.steps, [*(s.start for s in m.steps[1:]), 2**62], strict=True)
    ]
    return _table(
        rows, contract=pa.string(), version=pa.int32(), goal=pa.string(), start=pa.int64(), until=pa.int64(),
        minor=pa.int64(),
    )  # fmt: skip


def clock_table(zones: Iterable[str], days: Sequence[int]) -> pa.Table:
    """How far local clocks are from UTC on these days (since 1970), so that the engine needs no time-zone tables."""
    rows = [
        (zone, day, start, end, offset)
        for zone in sorted(set(zones))
        for day in days
        for start, end, offset in _offsets(ZoneInfo(zone), day)
    ]
    return _table(rows, zone=pa.string(), day=pa.int64(), start_ms=pa.int64(), end_ms=pa.int64(), offset_ms=pa.int64())


def _offsets(zone: ZoneInfo, day: int) -> Iterator[tuple[int, int, int]]:
    """[start, end) within the day and the offset there; clocks change at most once in a UTC day."""
    start, end = day * DAY_MS, (day + 1) * DAY_MS
    before, after = _offset_ms(zone, start), _offset_ms(zone, end - 1)
    if before == after:
        yield start, end, before
        return
    low, high = start, end - 1  # the offset is `before` at low and `after` at high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset_ms(zone, middle) == before else (low, middle)
    yield start, high, before
    yield high, end, after


def _offset_ms(zone: ZoneInfo, moment_ms: int) -> int:
    offset = (_EPOCH + timedelta(milliseconds=moment_ms)).astimezone(zone).utcoffset()
    assert offset is not None, "a zone of the tz database has one at every moment"
    return offset // timedelta(milliseconds=1)


def _json(text: str) -> str:
    return canonical(text).decode()


def _table(rows: Sequence[tuple[Any, ...]], **columns: pa.DataType) -> pa.Table:
    by_column = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    return pa.table({name: pa.array(by_column[i], kind) for i, (name, kind) in enumerate(columns.items())})
