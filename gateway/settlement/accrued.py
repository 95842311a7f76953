"""The accrued tree (docs/settlement-rules.md §11): roots before and after, and the proof from the one to the other.

One pass over the entries in the order of their hashes, with a stack as deep as the tree; what is kept are the tokens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeAlias

NONE = bytes(32)
_ONE, _MANY = b"\x00", b"\x01"
_BITS = 256
Token: TypeAlias = str | list[Any]  # "" or "/" or a hash in hex, or [k in hex, minor]


@dataclass(frozen=True, slots=True)
class Entry:
    """`place`: SHA-256 of the key. An amount of 0 is an entry that is not there (yet)."""

    place: bytes
    before: int
    after: int
    touched: bool


@dataclass(frozen=True, slots=True)
class AccruedTree:
    before_root: bytes
    before_size: int
    after_root: bytes
    after_size: int
    proof: Sequence[Token]


@dataclass(slots=True)
class _Side:
    """A subtree before or after: how many entries (2 stands for more) and its hash."""

    count: int
    root: bytes

    def beside(self, other: "_Side") -> "_Side":
        """The subtree of both, `self` the left one."""
        count = min(self.count + other.count, 2)
        if count == 2:
            return _Side(2, sha256(_MANY + self.root + other.root).digest())
        return self if self.count else other


_EMPTY = _Side(0, NONE)


@dataclass(slots=True)
class _Subtree:
    """The entries below a prefix of `depth` bits of `place`; `touched` counts to 2; tokens of a touched one."""

    place: int
    depth: int
    before: _Side
    after: _Side
    touched: int
    tokens: list[Token]
    alone: Token  # the token where nothing below is touched and it holds one entry


def grow(entries: Iterable[Entry]) -> AccruedTree:
    """`entries` ascend by place, each place once; untouched ones are the same before and after."""
    stack: list[_Subtree] = []  # left siblings that wait for what is right of them; their depths rise
    waiting: list[int] = []  # the depths of the nodes that they will be the left child of
    current: _Subtree | None = None
    before_size = after_size = 0
    for entry in entries:
        before_size += entry.before > 0
        after_size += entry.after > 0
        fresh = _single(entry)
        if current is not None:
            assert current.place < fresh.place, "places ascend"
            fork = _BITS - (current.place ^ fresh.place).bit_length()
            while waiting and waiting[-1] > fork:
                current = _node(stack.pop(), current, depth=waiting.pop())
            stack.append(current)
            waiting.append(fork)
        current = fresh
    while current is not None and stack:
        current = _node(stack.pop(), current, depth=waiting.pop())
    if current is None:
        return AccruedTree(NONE, 0, NONE, 0, [""])
    _lift(current, 0)
    return AccruedTree(current.before.root, before_size, current.after.root, after_size, _told(current))


def _single(entry: Entry) -> _Subtree:
    before = _leaf(entry.place, entry.before)
    after = before if entry.after == entry.before else _leaf(entry.place, entry.after)
    alone: Token = "" if entry.touched else [entry.place.hex(), entry.after]
    tokens: list[Token] = [""] if entry.touched else []
    return _Subtree(int.from_bytes(entry.place), _BITS, before, after, int(entry.touched), tokens, alone)


def _leaf(place: bytes, minor: int) -> _Side:
    return _Side(1, sha256(_ONE + place + minor.to_bytes(8)).digest()) if minor else _EMPTY


def _node(left: _Subtree, right: _Subtree, *, depth: int) -> _Subtree:
    """The subtree below `depth` bits that both have in common."""
    _lift(left, depth + 1)
    _lift(right, depth + 1)
    touched = min(left.touched + right.touched, 2)
    tokens: list[Token] = []
    if touched:
        tokens = _told(left)
        tokens += _told(right)
        if touched == 1:
            tokens.insert(0, "/")
    before = left.before.beside(right.before)
    after = left.after.beside(right.after) if touched else before
    return _Subtree(left.place, depth, before, after, touched, tokens, "")


def _lift(tree: _Subtree, depth: int) -> None:
    """Up to a shorter prefix below which nothing else is. One entry is the same at every depth."""
    if tree.depth == _BITS:
        tree.depth = depth
    while tree.depth > depth:
        tree.depth -= 1
        goes_right = tree.place >> (_BITS - 1 - tree.depth) & 1
        tree.before = _EMPTY.beside(tree.before) if goes_right else tree.before.beside(_EMPTY)
        if not tree.touched:
            tree.after = tree.before
            continue
        tree.after = _EMPTY.beside(tree.after) if goes_right else tree.after.beside(_EMPTY)
        tree.tokens = ["", *tree.tokens] if goes_right else [*tree.tokens, ""]
        if tree.touched == 1:
            tree.tokens.insert(0, "/")


def _told(tree: _Subtree) -> list[Token]:
    if tree.touched:
        return tree.tokens
    return [tree.alone or tree.after.root.hex()]


def place_of(key: str) -> bytes:
    """Where an entry stands in the tree."""
    return sha256(key.encode()).digest()
