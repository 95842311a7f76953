"""RFC 6962 Merkle trees over leaves in order: root, a tree that grows in flat memory, inclusion path, and its check."""

from collections.abc import Iterable, Sequence
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()
_LEAF, _NODE = b"\x00", b"\x01"
_BLOCK = 1024  # leaves hashed level by level at once, a power of two: twice as fast as one by one, 32 KiB of hashes


def leaf_hash(leaf: bytes) -> bytes:
    """RFC 6962 §2.1: SHA-256(0x00 ‖ leaf)."""
    return sha256(_LEAF + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962 §2.1: SHA-256(0x01 ‖ left ‖ right)."""
    return sha256(_NODE + left + right).digest()


class GrowingTree:
    """A tree that takes leaves one after the other and keeps a hash for each whole power of two, not the leaves."""

    __slots__ = ("_block", "_whole", "size")

    def __init__(self) -> None:
        self.size = 0
        self._block: list[bytes] = []  # hashes of the last leaves, less than _BLOCK
        self._whole: list[tuple[int, bytes]] = []  # (leaves, root) of whole subtrees, from large to small

    def extend(self, leaves: Iterable[bytes]) -> None:
        block = self._block
        before = len(block)
        block += [sha256(_LEAF + leaf).digest() for leaf in leaves]
        self.size += len(block) - before
        while len(block) >= _BLOCK:
            self._push(_BLOCK, _top(block[:_BLOCK]))
            del block[:_BLOCK]

    def root(self) -> bytes:
        """The tree head so far; the tree may go on growing."""
        parts = [root for _, root in self._whole]
        if self._block:
            parts.append(_top(list(self._block)))
        if not parts:
            return EMPTY_ROOT
        found = parts.pop()
        while parts:
            found = node_hash(parts.pop(), found)
        return found

    def _push(self, leaves: int, root: bytes) -> None:
        while self._whole and self._whole[-1][0] == leaves:
            _, left = self._whole.pop()
            leaves, root = leaves * 2, node_hash(left, root)
        self._whole.append((leaves, root))


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The tree head of these leaves; SHA-256 of nothing for none."""
    tree = GrowingTree()
    tree.extend(leaves)
    return tree.root()


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The siblings from the leaf at `index` up to the root (RFC 6962 §2.1.1)."""
    assert 0 <= index < len(leaves)
    path = []
    level = [leaf_hash(leaf) for leaf in leaves]
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):  # a node without a sibling is its own parent
            path.append(level[sibling])
        level = _level_above(level)
        index >>= 1
    return path


def _top(level: list[bytes]) -> bytes:
    """The root over these hashes of leaves, at least one."""
    while len(level) > 1:
        level = _level_above(level)
    return level[0]


def _level_above(level: list[bytes]) -> list[bytes]:
    """Pairs hashed left to right; an odd last node moves up as it is, which is the RFC's split at a power of two."""
    pairs = [sha256(_NODE + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
    if len(level) % 2:
        pairs.append(level[-1])
    return pairs
