"""Sealing a business day: each partner's tree, the tree over the partners, the signed head. Pure but for the signer."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from hashlib import sha256

from gateway.jsonio import canonical
from gateway.settlement.merkle import inclusion_path, root_of
from gateway.settlement.model import PartnerTree, SealedDay

NOBODY = "-"  # the tree of events that are no partner's
FIRST = bytes(32)  # what the first head names as the one before
HEAD_TYPE = "parasol-day-head"


def seal_day(
    day: date, leaves: Iterable[tuple[str | None, bytes]], *, bank: str, previous_head_hash: bytes,
    sign: Callable[[bytes], str],
) -> SealedDay:  # fmt: skip
    """The sealed day over (partner, leaf) pairs in the order of recording. `sign` makes a compact JWS of the head."""
    by_partner: dict[str, list[bytes]] = defaultdict(list)
    for partner, leaf in leaves:
        by_partner[partner or NOBODY].append(leaf)
    trees = tuple(PartnerTree(name, len(by_partner[name]), root_of(by_partner[name])) for name in sorted(by_partner))
    root = root_of([partner_leaf(tree) for tree in trees])
    head = {
        "bank": bank,
        "business_day": day.isoformat(),
        "event_count": sum(tree.size for tree in trees),
        "previous_head_hash": previous_head_hash.hex(),
        "root_hash": root.hex(),
        "tree_size": len(trees),
    }
    signed = canonical(head)
    return SealedDay(day, head, sign(signed), sha256(signed).digest(), root, head["event_count"], trees)  # type: ignore[arg-type]


def partner_leaf(tree: PartnerTree) -> bytes:
    """A partner's leaf in the day tree."""
    return canonical({"partner": tree.partner_id, "root": tree.root_hash.hex(), "size": tree.size})


def path_of(trees: Sequence[PartnerTree], partner_id: str) -> tuple[int, list[str]]:
    """Index and inclusion path (hex) of the partner's leaf; (−1, []) for a partner without events that day."""
    index = next((i for i, tree in enumerate(trees) if tree.partner_id == partner_id), -1)
    if index < 0:
        return -1, []
    return index, [node.hex() for node in inclusion_path([partner_leaf(tree) for tree in trees], index)]
