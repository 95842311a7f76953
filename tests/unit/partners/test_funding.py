"""Who pays which part: sums, within one unit of exact, order-free, odd, capped; and back to zero in any steps."""

from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.partners.contract import BPS_WHOLE, Share
from gateway.partners.funding import reversal_legs, split

PARTIES = ("bank", "partner", "merchant", "network")
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
    assert sum(split(amount, fund, seed=seed).values()) == amount


@given(amounts, funds(), seeds)
def test_each_leg_is_within_one_unit_of_exact(amount: int, fund: tuple[Share, ...], seed: str) -> None:
    legs = split(amount, fund, seed=seed)
    for share in fund:
        assert abs(legs[share.party] * BPS_WHOLE - amount * share.bps) < BPS_WHOLE


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
    legs = split(amount, fund, seed=seed, cap_left_minor={"partner": room})
    assert legs["partner"] <= room
    assert sum(legs.values()) == amount


def test_the_spare_unit_of_a_tie_is_shared_fairly() -> None:
    """Half and half of an odd amount: whose it is depends on the event alone, and over many on nobody."""
    fund = (Share(party="bank", bps=5_000), Share(party="partner", bps=5_000))
    mine = sum(split(1, fund, seed=f"evt_{number}")["bank"] for number in range(10_000))
    assert 4_700 < mine < 5_300


@given(st.integers(1, 100_000), funds(), seeds, st.lists(st.integers(1, 30_000), min_size=1, max_size=6))
def test_a_full_reversal_zeroes_every_leg_whatever_the_steps(
    amount: int, fund: tuple[Share, ...], seed: str, steps: list[int]
) -> None:
    legs, before = split(amount, fund, seed=seed), 0
    for step in [*steps, amount]:
        now = min(step, amount - before)
        if now == 0:
            break
        delta = reversal_legs(
            amount, fund, seed=seed, cap_left_minor=None, reversed_before_minor=before, reversed_minor=now
        )
        assert sum(delta.values()) == -now
        legs = {party: leg + delta[party] for party, leg in legs.items()}
        before += now
    assert before == amount
    assert set(legs.values()) == {0}


@given(amounts, funds(), seeds)
def test_another_event_changes_a_leg_by_one_unit_at_most(amount: int, fund: tuple[Share, ...], seed: str) -> None:
    assume(amount > 0)
    one, other = split(amount, fund, seed=seed), split(amount, fund, seed=f"{seed}x")
    assert all(abs(one[party] - other[party]) <= 1 for party in one)
