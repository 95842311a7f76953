"""Who pays which part: sums, within one unit of exact, odd, capped, unbiased; and back to zero in any steps."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import isqrt
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.partners.contract import BPS_WHOLE, Share
from gateway.partners.funding import cut, offset_of, reversal_legs, seed_of, split

PARTIES = ("bank", "partner", "merchant", "network")
EVENTS = 20_000  # redemptions of a statistic
SPREADS = 5  # how many expected spreads a drift may have: by chance once in two millions
amounts = st.integers(0, 10_000_000)
seeds = st.text("abcdef0123456789", min_size=1, max_size=8)


@st.composite
def funds(draw: st.DrawFn) -> tuple[Share, ...]:
    """One to four parties that share out exactly 10,000 basis points."""
    parties = draw(st.permutations(PARTIES))[: draw(st.integers(1, 4))]
    cuts = sorted(draw(st.lists(st.integers(0, BPS_WHOLE), min_size=len(parties) - 1, max_size=len(parties) - 1)))
    bounds = [0, *cuts, BPS_WHOLE]
    return tuple(
        Share(party=party, bps=high - low)  # type: ignore[arg-type]
        for party, low, high in zip(parties, bounds, bounds[1:], strict=False)
    )


@given(amounts, funds(), seeds)
def test_legs_sum_to_the_discount(amount: int, fund: tuple[Share, ...], seed: str) -> None:
    legs = split(amount, fund, seed=seed)
    assert sum(legs.values()) == amount
    assert set(legs) == {share.party for share in fund}
    assert all(leg >= 0 for leg in legs.values())


@given(amounts, funds(), seeds)
def test_each_leg_is_within_one_unit_of_exact(amount: int, fund: tuple[Share, ...], seed: str) -> None:
    legs = split(amount, fund, seed=seed)
    for share in fund:
        assert abs(legs[share.party] * BPS_WHOLE - amount * share.bps) < BPS_WHOLE


@given(amounts, funds(), seeds)
def test_each_leg_is_the_one_of_the_rules_page(amount: int, fund: tuple[Share, ...], seed: str) -> None:
    """§6 once more, in exact fractions."""
    legs, u, cumulated, before = split(amount, fund, seed=seed), Fraction(offset_of(seed), 2**32), 0, 0
    for share in sorted(fund, key=lambda share: PARTIES.index(share.party)):
        cumulated += share.bps
        upto = (Fraction(amount * cumulated, BPS_WHOLE) + u).__floor__()
        assert legs[share.party] == upto - before
        before = upto


def test_the_example_of_the_rules_page_comes_out() -> None:
    """§13: an order of 1999 for one fen, and its reversals of 1000 and 998."""
    fund, seed = (Share(party="bank", bps=6_000), Share(party="partner", bps=4_000)), seed_of("k1", "rdm_1")
    assert seed == "k1|rdm_1"
    assert f"{offset_of(seed):08x}" == "cbebafa5"
    legs = split(1998, fund, seed=seed)
    assert legs == {"bank": 1199, "partner": 799}
    for before, now, left in ((0, 1000, {"bank": 599, "partner": 399}), (1000, 998, {"bank": 0, "partner": 0})):
        delta = reversal_legs(
            1998, fund, seed=seed, cap_left_minor=None, reversed_before_minor=before, reversed_minor=now
        )
        legs = {party: leg + delta[party] for party, leg in legs.items()}
        assert legs == left


@given(amounts, funds(), seeds, st.randoms())
def test_the_order_of_the_parties_does_not_matter(
    amount: int, fund: tuple[Share, ...], seed: str, chance: object
) -> None:
    turned = list(fund)
    chance.shuffle(turned)  # type: ignore[attr-defined]
    assert split(amount, turned, seed=seed) == split(amount, fund, seed=seed)


@given(amounts, funds(), seeds)
def test_taking_back_is_the_mirror_of_giving(amount: int, fund: tuple[Share, ...], seed: str) -> None:
    assert split(-amount, fund, seed=seed) == {p: -leg for p, leg in split(amount, fund, seed=seed).items()}


@given(amounts, st.integers(0, 5_000), seeds)
def test_what_a_capped_party_cannot_pay_flows_over(amount: int, room: int, seed: str) -> None:
    fund = (
        Share(party="bank", bps=4_000),
        Share(party="partner", bps=6_000, cap_minor=5_000, overflow="bank"),
    )
    uncapped = split(amount, (fund[0], Share(party="partner", bps=6_000)), seed=seed)
    legs = split(amount, fund, seed=seed, cap_left_minor={"partner": room})
    assert legs["partner"] == min(uncapped["partner"], room)
    assert sum(legs.values()) == amount


def test_a_capped_share_is_never_split_without_its_room() -> None:
    fund = (Share(party="bank", bps=0), Share(party="partner", bps=10_000, cap_minor=1, overflow="bank"))
    with pytest.raises(KeyError):
        split(2, fund, seed="s")


@st.composite
def capped_funds(draw: st.DrawFn) -> tuple[tuple[Share, ...], dict[str, int]]:
    """A fund with or without a cap of the partner's, and the room that is left."""
    bank = draw(st.integers(0, BPS_WHOLE))
    if draw(st.booleans()):
        return (Share(party="bank", bps=bank), Share(party="partner", bps=BPS_WHOLE - bank)), {}
    capped = Share(party="partner", bps=BPS_WHOLE - bank, cap_minor=50_000, overflow="bank")
    return (capped, Share(party="bank", bps=bank)), {"partner": draw(st.integers(0, 50_000))}


@given(st.integers(1, 100_000), capped_funds(), seeds, st.lists(st.integers(1, 30_000), min_size=1, max_size=6))
def test_a_full_reversal_zeroes_every_leg_whatever_the_steps(
    amount: int, terms: tuple[tuple[Share, ...], dict[str, int]], seed: str, steps: list[int]
) -> None:
    fund, left = terms
    legs, before = split(amount, fund, seed=seed, cap_left_minor=left), 0
    for step in [*steps, amount]:
        now = min(step, amount - before)
        if now == 0:
            break
        delta = reversal_legs(
            amount, fund, seed=seed, cap_left_minor=left, reversed_before_minor=before, reversed_minor=now
        )
        assert sum(delta.values()) == -now
        legs = {party: leg + delta[party] for party, leg in legs.items()}
        assert all(leg >= 0 for leg in legs.values())
        before += now
    assert before == amount
    assert set(legs.values()) == {0}


@given(amounts, funds(), seeds)
def test_another_event_changes_a_leg_by_one_unit_at_most(amount: int, fund: tuple[Share, ...], seed: str) -> None:
    assume(amount > 0)
    one, other = split(amount, fund, seed=seed), split(amount, fund, seed=f"{seed}x")
    assert all(abs(one[party] - other[party]) <= 1 for party in one)


# --- nobody gains over many --------------------------------------------------------------------------------------
def by_cumulative_rounding(amount: int, bps: Sequence[int], seed: str) -> list[int]:
    return cut(amount, bps, offset=offset_of(seed))


def by_largest_remainder(amount: int, bps: Sequence[int], seed: str) -> list[int]:
    """The rule of before, for comparison: the spare units go to the largest remainders."""
    legs = [amount * share // BPS_WHOLE for share in bps]
    furthest = sorted(range(len(bps)), key=lambda i: (-(amount * bps[i] % BPS_WHOLE), offset_of(f"{seed}|{i}")))
    for i in furthest[: amount - sum(legs)]:
        legs[i] += 1
    return legs


def drift_in_spreads(
    rule: Callable[[int, Sequence[int], str], list[int]], prices: Sequence[int], bps: Sequence[int]
) -> list[float]:
    """Each party's Σ (leg − exact part) over EVENTS, as a multiple of the spread that chance gives, √Σ f(1 − f)."""
    chance = Random(7)  # fixed: the same keys and ids in every run
    drift, variance = [0] * len(bps), [0] * len(bps)
    for number in range(EVENTS):
        amount = prices[number % len(prices)]
        seed = seed_of(f"key-{number}", f"rdm_{chance.getrandbits(128):032x}")
        for i, leg in enumerate(rule(amount, bps, seed)):
            fraction = amount * bps[i] % BPS_WHOLE
            drift[i] += leg * BPS_WHOLE - amount * bps[i]
            variance[i] += fraction * (BPS_WHOLE - fraction)
    return [abs(d) / max(isqrt(v), 1) for d, v in zip(drift, variance, strict=True)]


PRICES = {
    "one fen to pay of 20.00, at 60/40": ((1_999,), (6_000, 4_000)),
    "every order the same, one fen off": ((1,), (6_000, 4_000)),
    "two prices, three parties": ((1_999, 500), (3_334, 3_333, 3_333)),
    "a price list that ends in 99": ((99, 199, 299, 499, 1_499), (7_000, 2_000, 1_000)),
    "a small share": ((1_998,), (9_995, 5)),
    "four parties": ((7, 11), (2_500, 2_500, 2_500, 2_500)),
}


@pytest.mark.parametrize("case", PRICES)
def test_no_party_gains_over_many_redemptions_however_the_prices_are(case: str) -> None:
    prices, bps = PRICES[case]
    assert max(drift_in_spreads(by_cumulative_rounding, prices, bps)) <= SPREADS


@pytest.mark.parametrize("case", ["one fen to pay of 20.00, at 60/40", "every order the same, one fen off"])
def test_largest_remainder_would_fail_the_same_statistic(case: str) -> None:
    """The check above can fail: the rule of before gives the bank 0.4 of a unit of each one-fen redemption."""
    prices, bps = PRICES[case]
    assert min(drift_in_spreads(by_largest_remainder, prices, bps)) > 10 * SPREADS


@given(st.integers(1, 5_000), st.integers(0, BPS_WHOLE))
def test_over_all_offsets_the_mean_is_exact(amount: int, bank: int) -> None:
    """u at 10,000 evenly spaced places: the bank's mean leg is its exact part, to the last unit of the sum."""
    places = [number * 2**32 // BPS_WHOLE + 1 for number in range(0, BPS_WHOLE)]
    assert sum(cut(amount, (bank, BPS_WHOLE - bank), offset=place)[0] for place in places) == amount * bank
