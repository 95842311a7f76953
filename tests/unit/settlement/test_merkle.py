"""Merkle trees against the recursive definition of RFC 6962."""

from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from gateway.settlement.merkle import inclusion_path, leaf_hash, node_hash, root_from_path, root_of

leaves = st.lists(st.binary(max_size=8), max_size=40)


def by_definition(items: list[bytes]) -> bytes:
    if not items:
        return sha256(b"").digest()
    if len(items) == 1:
        return leaf_hash(items[0])
    k = 1
    while k * 2 < len(items):
        k *= 2
    return node_hash(by_definition(items[:k]), by_definition(items[k:]))


@given(leaves)
def test_the_root_is_the_one_of_the_definition(items: list[bytes]) -> None:
    assert root_of(items) == by_definition(items)


@given(leaves.filter(bool), st.data())
def test_every_leaf_has_a_path_to_the_root(items: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(items) - 1))
    path = inclusion_path(items, index)
    assert root_from_path(items[index], index=index, size=len(items), path=path) == root_of(items)


@given(leaves.filter(bool), st.data())
def test_a_path_proves_no_other_leaf_place_or_length(items: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(items) - 1))
    path, root = inclusion_path(items, index), root_of(items)
    assert root_from_path(items[index] + b"x", index=index, size=len(items), path=path) != root
    assert root_from_path(items[index], index=index, size=len(items), path=[*path, root]) is None
    if path:
        assert root_from_path(items[index], index=index, size=len(items), path=path[:-1]) != root
    assert root_from_path(items[index], index=len(items), size=len(items), path=path) is None
