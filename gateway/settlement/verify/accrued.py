"""The accrued tree (§11): from the touched entries and the tokens to the opening's root and the closing's.

Entries and tokens are met in one walk from left to right, so that both may come as streams.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from .canonical import HEX, INT_LIMIT, Refused, integer, members, shown, string

BITS = 256
_NONE = bytes(32)
_MANY = 2  # counts are 0, 1 or many


@dataclass(frozen=True, slots=True)
class Touched:
    """An entry that the statement's events asked for: k, and what it was and became."""

    k: int
    before: int
    after: int


Side = tuple[int, bytes]  # how many entries a subtree has, up to many, and its hash


def _leaf(k: int, minor: int) -> Side:
    return (1, sha256(b"\0" + k.to_bytes(32) + minor.to_bytes(8)).digest()) if minor else (0, _NONE)


def _joined(left: Side, right: Side) -> Side:
    """§11: none, the only one, or a node."""
    count = left[0] + right[0]
    if count < _MANY:
        return left if left[0] else right
    return _MANY, sha256(b"\1" + left[1] + right[1]).digest()


class Walk:
    """One pass over touched entries, ascending by k, and over tokens."""

    def __init__(self, touched: Iterator[Touched], tokens: Iterator[Any]) -> None:
        self._touched = touched
        self._tokens = tokens
        self._number = 0
        self._hand = [next(touched, None), next(touched, None)]

    def roots(self) -> tuple[str, str]:
        """Of the opening and of the closing. Raises Refused."""
        before, after, _ = self._subtree(0, 0)
        if next(self._tokens, None) is not None:
            raise Refused(f"token {self._number + 1} of the accrued proof: nothing is left to be proved")
        return before[1].hex(), after[1].hex()

    def _below(self, prefix: int, depth: int) -> int:
        """How many of the touched keys in hand begin with this prefix: 0, 1, or 2 for more."""
        return sum(1 for each in self._hand if each is not None and each.k >> (BITS - depth) == prefix)

    def _subtree(self, prefix: int, depth: int) -> tuple[Side, Side, bool]:
        """The two sides at this place, and whether there are entries that nothing touches."""
        count = self._below(prefix, depth)
        if count == 0:
            side = self._untouched(prefix, depth)
            return side, side, side[0] > 0
        others = False
        if count == 1:
            told = self._token()
            if told == "":
                return self._only()
            if told != "/":
                raise Refused(f'token {self._number} of the accrued proof is {shown(told)}, expected is "" or "/"')
            others = True
        if depth == BITS:
            raise Refused(f"token {self._number} of the accrued proof leads below the last bit")
        left, right = self._subtree(prefix * 2, depth + 1), self._subtree(prefix * 2 + 1, depth + 1)
        found = left[2] or right[2]
        if others and not found:
            raise Refused(f"token {self._number} of the accrued proof: there are no other entries")
        return _joined(left[0], right[0]), _joined(left[1], right[1]), found

    def _only(self) -> tuple[Side, Side, bool]:
        each = self._hand[0]
        assert each is not None, "it was counted"
        self._hand = [self._hand[1], next(self._touched, None)]
        before = _leaf(each.k, each.before)
        return before, before if each.before == each.after else _leaf(each.k, each.after), False

    def _untouched(self, prefix: int, depth: int) -> Side:
        token = self._token()
        if token == "":
            return 0, _NONE
        of = f"token {self._number} of the accrued proof"
        if isinstance(token, list) and len(token) == 2:
            k = int(string(token[0], of, pattern=HEX), 16)
            if k >> (BITS - depth) != prefix:
                raise Refused(f"{of} is an entry of another place")
            return _leaf(k, integer(token[1], of, low=1))
        return _MANY, bytes.fromhex(string(token, of, pattern=HEX))

    def _token(self) -> Any:
        self._number += 1
        token = next(self._tokens, None)
        if token is None:
            raise Refused(f"the accrued proof ends before its token {self._number}")
        return token


def read_entry(value: Any) -> tuple[bytes, str, int]:
    """k, key and the minor units before."""
    before, key = members(value, "before key", of="an accrued entry")
    text = string(key, "key of an accrued entry")
    if type(before) is not int or not 0 <= before < INT_LIMIT:
        integer(before, f"accrued entry {shown(text)}: before", low=0)
    return sha256(text.encode()).digest(), text, before
