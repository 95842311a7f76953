"""The statement's file (docs/settlement-rules.md §10): canonical JSON made of leaves that are canonical already.

The same inputs give the same bytes but for the signatures; nothing here reads a clock or a database.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from gateway.jsonio import canonical
from gateway.partners.contract import Contract, document
from gateway.settlement.engine import Opening, Settled
from gateway.settlement.merkle import EMPTY_ROOT
from gateway.settlement.model import SealedDay
from gateway.settlement.seal import path_of

FORMAT = "parasol-statement-1"
STATEMENT_TYPE = "parasol-statement"


@dataclass(frozen=True, slots=True)
class DayEvents:
    """A sealed day and this partner's leaves of it, in the order of recording."""

    sealed: SealedDay
    leaves: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Totals:
    """§8: what is paid now and what is carried; payable + carried_out = net + carried_in."""

    bank_owes_minor: int
    partner_owes_minor: int
    net_minor: int
    carried_in_minor: int
    payable_minor: int
    carried_out_minor: int

    def members(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file: its pieces in order, its totals, and what the next statement opens with."""

    pieces: tuple[bytes, ...]
    totals: Totals
    closing: Opening
    line_count: int


def total(settled: Settled, *, carried_in_minor: int, min_pay_minor: int) -> Totals:
    """A due below the minimum, or below zero, is carried, never clipped."""
    net = settled.bank_owes_minor - settled.partner_owes_minor
    due = net + carried_in_minor
    payable = due if due > 0 and due >= min_pay_minor else 0
    return Totals(settled.bank_owes_minor, settled.partner_owes_minor, net, carried_in_minor, payable, due - payable)


def write_statement(
    header: Mapping[str, Any],
    *,
    contracts: Sequence[Contract],
    days: Sequence[DayEvents],
    opening: Opening,
    settled: Settled,
    keys: Sequence[Mapping[str, Any]],
    sign: Callable[[bytes], str],
) -> Written:
    """`header` is the member `statement`; `sign` makes the detached JWS over everything but itself."""
    latest = max(contracts, key=lambda contract: contract.version)
    totals = total(settled, carried_in_minor=opening.carried_minor, min_pay_minor=latest.settle.min_pay_minor)
    closing = Opening(totals.carried_out_minor, settled.closing.ranks, settled.closing.accrued)
    before = [
        b'{"closing":', canonical(_opening_members(closing)),
        b',"contracts":', canonical([document(contract) for contract in contracts]),
        b',"days":[', *_days(days, str(header["partner"])), b"]",
        b',"format":', canonical(FORMAT),
        b',"keys":', canonical([dict(key) for key in keys]),
        b',"lines":', *_lines(settled.lines),
        b',"opening":', canonical(_opening_members(opening)),
    ]  # fmt: skip
    after = [b',"statement":', canonical(dict(header)), b',"totals":', canonical(totals.members()), b"}"]
    signature = sign(b"".join([*before, *after]))
    pieces = (*before, b',"signature":', canonical(signature), *after, b"\n")
    return Written(pieces, totals, closing, settled.lines.num_rows)


def _opening_members(opening: Opening) -> dict[str, Any]:
    return {"accrued": dict(opening.accrued), "carried_minor": opening.carried_minor, "ranks": dict(opening.ranks)}


def opening_from(members: Mapping[str, Any]) -> Opening:
    """What the closing of the statement before says."""
    return Opening(members["carried_minor"], members["ranks"], members["accrued"])


def closing_members(closing: Opening) -> dict[str, Any]:
    return _opening_members(closing)


def _days(days: Sequence[DayEvents], partner_id: str) -> list[bytes]:
    pieces: list[bytes] = []
    for number, day in enumerate(days):
        index, path = path_of(day.sealed.trees, partner_id)
        root = next((t.root_hash for t in day.sealed.trees if t.partner_id == partner_id), EMPTY_ROOT)
        rest = {
            "head": dict(day.sealed.head), "head_jws": day.sealed.head_jws, "index": index, "path": path,
            "root": root.hex(), "size": len(day.leaves), "tree_size": len(day.sealed.trees),
        }  # fmt: skip
        pieces += [b"," if number else b"", b'{"events":[', b",".join(day.leaves), b"],", canonical(rest)[1:]]
    return pieces


def _lines(lines: pa.Table) -> list[bytes]:
    """Lines rendered by columns: 200,000 of them take well under a second."""
    pieces, first = [b"["], True
    for batch in lines.to_batches(max_chunksize=50_000):
        rows = canonical(batch.to_pylist())[1:-1]
        if rows:
            pieces += [b"" if first else b",", rows]
            first = False
    return [*pieces, b"]"]
