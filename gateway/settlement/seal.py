"""Sealing a business day: each partner's tree, the tree over the partners, the signed head. Pure but for the signer."""

from collections.abc import Callable, Sequence
from datetime import date
from hashlib import sha256
from itertools import groupby
from operator import itemgetter

from gateway.jsonio import canonical
from gateway.settlement.merkle import GrowingTree, inclusion_path, root_of
from gateway.settlement.model import PartnerTree, SealedDay

NOBODY = "-"  # the tree of events that are no partner's
FIRST = bytes(32)  # what the first head names as the one before
HEAD_TYPE = "parasol-day-head"
HEAD_FORMAT = "parasol-day-2"


class DaySealer:
    """Takes (partner, leaf) pairs in the order of recording, in batches; holds a few hashes a partner, no leaves."""

    def __init__(self) -> None:
        self._trees: dict[str, GrowingTree] = {}

    def add(self, batch: Sequence[tuple[str | None, bytes]]) -> None:
        for name, pairs in groupby(batch, key=itemgetter(0)):
            tree = self._trees.get(name or NOBODY)
            if tree is None:
                tree = self._trees[name or NOBODY] = GrowingTree()
            tree.extend([leaf for _, leaf in pairs])

    def trees(self) -> tuple[PartnerTree, ...]:
        """The partners' trees so far, by name: what is sealed, and what a rebuilt file is compared with."""
        return tuple(PartnerTree(name, tree.size, tree.root()) for name, tree in sorted(self._trees.items()))


def seal_day(
    day: date, trees: tuple[PartnerTree, ...], *, bank: str, previous_head_hash: bytes, audit_head: bytes | None,
    sign: Callable[[bytes], str],
) -> SealedDay:  # fmt: skip
    """The sealed day. `sign` makes a compact JWS of the head; `audit_head` is the hash of the audit chain's end."""
    root = root_of([partner_leaf(tree) for tree in trees])
    count = sum(tree.size for tree in trees)
    head = {
        "audit_head": audit_head.hex() if audit_head is not None else None,
        "bank": bank,
        "business_day": day.isoformat(),
        "event_count": count,
        "format": HEAD_FORMAT,
        "previous_head_hash": previous_head_hash.hex(),
        "root_hash": root.hex(),
        "tree_size": len(trees),
    }
    signed = canonical(head)
    return SealedDay(day, head, sign(signed), sha256(signed).digest(), root, count, trees)


def partner_leaf(tree: PartnerTree) -> bytes:
    """A partner's leaf in the day tree."""
    return canonical({"partner": tree.partner_id, "root": tree.root_hash.hex(), "size": tree.size})


def path_of(trees: Sequence[PartnerTree], partner_id: str) -> tuple[int, list[str]]:
    """Index and inclusion path (hex) of the partner's leaf; (−1, []) for a partner without events that day."""
    index = next((i for i, tree in enumerate(trees) if tree.partner_id == partner_id), -1)
    if index < 0:
        return -1, []
    return index, [node.hex() for node in inclusion_path([partner_leaf(tree) for tree in trees], index)]
