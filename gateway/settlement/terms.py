"""Contracts as small tables: when each version is in force, what each discount and commission says. For the engine."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from gateway.clock import to_ms
from gateway.partners.contract import Contract, Discount, term_ms
from gateway.settlement.facts import PARTIES

_SHARES = tuple(f"{what}_{party}" for what in ("bps", "capped", "overflow") for party in PARTIES)


def version_terms(contracts: Sequence[Contract]) -> pa.Table:
    """Disjoint spans of time, each with the version in force: of several that hold an instant, the latest."""
    edges = sorted({edge for contract in contracts for edge in term_ms(contract)})
    rows = []
    for start, end in pairwise(edges):
        inside = [c for c in contracts if term_ms(c)[0] <= start and end <= term_ms(c)[1]]
        if inside:
            latest = max(inside, key=lambda contract: contract.version)
            rows.append((latest.contract_id, latest.version, start, end, latest.contract.timezone))
    return _table(
        rows, contract=pa.string(), version=pa.int32(), start_ms=pa.int64(), end_ms=pa.int64(), zone=pa.string()
    )


def discount_terms(contracts: Sequence[Contract]) -> pa.Table:
    """A row a discount and version; a party that funds nothing has 0 basis points."""
    rows = [(c.contract_id, c.version, *_discount_row(d)) for c in contracts for d in c.discount]
    shares: dict[str, pa.DataType] = {
        name: pa.string() if name.startswith("overflow") else pa.bool_() if name.startswith("capped") else pa.int64()
        for name in _SHARES
    }
    return _table(
        rows, contract=pa.string(), version=pa.int32(), discount=pa.string(), kind=pa.string(), pay_minor=pa.int64(),
        off_minor=pa.int64(), min_minor=pa.int64(), bps=pa.int64(), max_off_minor=pa.int64(), **shares,
    )  # fmt: skip


def _discount_row(discount: Discount) -> tuple[Any, ...]:
    by_party = {share.party: share for share in discount.fund}
    funded = [by_party.get(party) for party in PARTIES]  # type: ignore[call-overload]
    return (
        discount.id, discount.kind, discount.pay_minor, discount.off_minor, discount.min_minor, discount.bps,
        discount.max_off_minor,
        *(share.bps if share else 0 for share in funded),
        *(share is not None and share.cap_minor is not None for share in funded),
        *(share.overflow if share else None for share in funded),
    )  # fmt: skip


def commission_terms(contracts: Sequence[Contract]) -> pa.Table:
    """A row a commission and version."""
    rows = [
        (c.contract_id, c.version, m.goal, m.kind, m.bps, m.cap_per_customer_minor, m.window_ms)
        for c in contracts
        for m in c.commission
    ]
    return _table(
        rows, contract=pa.string(), version=pa.int32(), goal=pa.string(), kind=pa.string(), bps=pa.int64(),
        cap_minor=pa.int64(), window_ms=pa.int64(),
    )  # fmt: skip


def step_terms(contracts: Sequence[Contract]) -> pa.Table:
    """A row a tier: from `start` (rank) until before `until`."""
    rows = [
        (c.contract_id, c.version, m.goal, step.start, until, step.minor)
        for c in contracts
        for m in c.commission
        for step, until in zip(m.steps, [*(s.start for s in m.steps[1:]), 2**62], strict=bool(m.steps))
        if m.steps
    ]
    return _table(
        rows, contract=pa.string(), version=pa.int32(), goal=pa.string(), start=pa.int64(), until=pa.int64(),
        minor=pa.int64(),
    )  # fmt: skip


def month_spans(zones: Sequence[str], *, first_ms: int, last_ms: int) -> pa.Table:
    """The calendar months of each zone that touch [first, last], so that the engine needs no time-zone tables."""
    rows = []
    for zone in sorted(set(zones)):
        place = ZoneInfo(zone)
        month = datetime.fromtimestamp(first_ms / 1000, place).date().replace(day=1)
        last = datetime.fromtimestamp(last_ms / 1000, place).date()
        while month <= last:
            following = date(month.year + month.month // 12, month.month % 12 + 1, 1)
            rows.append((zone, month.strftime("%Y-%m"), _midnight(month, place), _midnight(following, place)))
            month = following
    return _table(rows, zone=pa.string(), month=pa.string(), start_ms=pa.int64(), end_ms=pa.int64())


def _midnight(day: date, zone: ZoneInfo) -> int:
    return to_ms(datetime.combine(day, time(), zone).astimezone(UTC))


def _table(rows: Sequence[tuple[Any, ...]], **columns: pa.DataType) -> pa.Table:
    by_column = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    return pa.table({name: pa.array(by_column[i], kind) for i, (name, kind) in enumerate(columns.items())})
