"""Merkle trees against the recursive definition of RFC 6962."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settlement.merkle import inclusion_path, leaf_hash, node_hash, root_of
from gateway.settlement.verify.canonical import Refused
from gateway.settlement.verify.proof import root_by_path

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
def test_every_leaf_has_a_path_that_leads_the_verifier_to_the_root(items: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(items) - 1))
    path = [node.hex() for node in inclusion_path(items, index)]
    assert root_by_path(items[index], path, index=index, size=len(items)) == root_of(items).hex()


@given(leaves.filter(bool), st.data())
def test_a_path_proves_no_other_leaf_and_has_no_other_length(items: list[bytes], data: st.DataObject) -> None:
    index, size = data.draw(st.integers(0, len(items) - 1)), len(items)
    path, root = [node.hex() for node in inclusion_path(items, index)], root_of(items).hex()
    assert root_by_path(items[index] + b"x", path, index=index, size=size) != root
    with pytest.raises(Refused, match="too many"):
        root_by_path(items[index], [*path, root], index=index, size=size)
    if path:
        with pytest.raises(Refused, match="too few"):
            root_by_path(items[index], path[:-1], index=index, size=size)
