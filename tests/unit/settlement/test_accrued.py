"""The accrued tree against §11 read literally, and its proof against a checker of the tests' own."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.settlement.accrued import Entry, grow, place_of

KEYS = [f"c g idt_{number}" for number in range(40)]
STATES = st.dictionaries(st.sampled_from(KEYS), st.integers(1, 9), max_size=40)
CHANGES = st.dictionaries(st.sampled_from(KEYS), st.integers(0, 9), max_size=40)


def bits(place: bytes) -> str:
    return f"{int.from_bytes(place):0256b}"


def by_definition(entries: Mapping[str, int], prefix: str = "") -> bytes:
    """`entries`: bits of the place → minor."""
    below = {place: minor for place, minor in entries.items() if place.startswith(prefix)}
    if not below:
        return bytes(32)
    if len(below) == 1:
        ((place, minor),) = below.items()
        return sha256(b"\0" + int(place, 2).to_bytes(32) + minor.to_bytes(8)).digest()
    return sha256(b"\1" + by_definition(below, prefix + "0") + by_definition(below, prefix + "1")).digest()


def joined(left: tuple[int, bytes], right: tuple[int, bytes]) -> tuple[int, bytes]:
    count = left[0] + right[0]
    if count < 2:
        return left if left[0] else right
    return count, sha256(b"\1" + left[1] + right[1]).digest()


def leaf(place: str, minor: int) -> tuple[int, bytes]:
    return (1, by_definition({place: minor})) if minor else (0, bytes(32))


def walk(
    tokens: Iterator[Any], touched: Mapping[str, tuple[int, int]], prefix: str = ""
) -> tuple[tuple[int, bytes], tuple[int, bytes]]:
    """Both sides of the subtree at `prefix`, from the tokens and the touched entries alone."""
    here = {place: minors for place, minors in touched.items() if place.startswith(prefix)}
    if len(here) < 2:
        token = next(tokens)
        if not here:
            if token == "":
                side = (0, bytes(32))
            elif isinstance(token, list):
                place = f"{int(token[0], 16):0256b}"
                assert place.startswith(prefix)
                side = leaf(place, token[1])
            else:
                side = (2, bytes.fromhex(token))
            return side, side
        if token == "":
            ((place, (before, after)),) = here.items()
            return leaf(place, before), leaf(place, after)
        assert token == "/"
    left, right = walk(tokens, here, prefix + "0"), walk(tokens, here, prefix + "1")
    return joined(left[0], right[0]), joined(left[1], right[1])


def entries(old: Mapping[str, int], new: Mapping[str, int]) -> list[Entry]:
    keys = sorted({*old, *new}, key=place_of)
    return [Entry(place_of(key), old.get(key, 0), new.get(key, old.get(key, 0)), key in new) for key in keys]


def state(found: Mapping[str, int]) -> dict[str, int]:
    return {bits(place_of(key)): minor for key, minor in found.items() if minor}


def checked(old: Mapping[str, int], new: Mapping[str, int], proof: Sequence[Any]) -> tuple[bytes, bytes]:
    touched = {bits(place_of(key)): (old.get(key, 0), new[key]) for key in new}
    tokens = iter(proof)
    before, after = walk(tokens, touched)
    assert next(tokens, None) is None, "all tokens are used"
    return before[1], after[1]


@given(STATES, CHANGES)
def test_the_roots_are_those_of_the_definition(old: dict[str, int], new: dict[str, int]) -> None:
    tree, after = grow(entries(old, new)), old | new
    assert tree.before_root == by_definition(state(old))
    assert tree.after_root == by_definition(state(after))
    assert (tree.before_size, tree.after_size) == (len(state(old)), len(state(after)))


@given(STATES, CHANGES.filter(bool))
def test_the_proof_leads_from_the_one_root_to_the_other(old: dict[str, int], new: dict[str, int]) -> None:
    tree = grow(entries(old, new))
    assert checked(old, new, tree.proof) == (tree.before_root, tree.after_root)


@given(STATES, CHANGES.filter(bool), st.data())
def test_a_proof_of_other_amounts_leads_elsewhere(
    old: dict[str, int], new: dict[str, int], data: st.DataObject
) -> None:
    tree = grow(entries(old, new))
    key = data.draw(st.sampled_from(sorted(new)))
    _, after = checked(old, new | {key: new[key] + 1}, tree.proof)
    assert after != tree.after_root
    before, _ = checked(old | {key: old.get(key, 0) + 1}, new, tree.proof)
    assert before != tree.before_root


def test_places_that_have_many_bits_in_common_are_told_apart() -> None:
    """Chains of nodes with one child, which hashes of keys have only by chance."""
    near = [int(f"1011{'0' * 20}{tail}{'0' * (232 - len(tail))}", 2).to_bytes(32) for tail in ("0011", "0100", "0101")]
    for touched in ({near[0]}, {near[1]}, {near[0], near[2]}, {near[0], near[1], near[2]}):
        old = dict.fromkeys(near, 5)
        new = dict.fromkeys(touched, 7)
        tree = grow([Entry(place, 5, new.get(place, 5), place in touched) for place in near])
        tokens = iter(tree.proof)
        before, after = walk(tokens, {bits(place): (5, 7) for place in touched})
        assert next(tokens, None) is None
        assert before[1] == tree.before_root == by_definition({bits(place): minor for place, minor in old.items()})
        assert after[1] == tree.after_root == by_definition({bits(p): m for p, m in (old | new).items()})


def test_a_tree_without_entries_has_the_root_of_the_first_statement() -> None:
    assert grow([]).before_root == bytes(32)
