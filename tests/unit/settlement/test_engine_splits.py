"""How the engine splits amounts between parties: each as the rules say, none of them favoured."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.settlement import made, reference
from tests.unit.settlement.made import Record

THREE = [{"party": party, "bps": bps} for party, bps in (("bank", 3334), ("partner", 3333), ("network", 3333))]


def test_one_fen_discounts_cost_each_party_its_share_on_average(tmp_path: Path) -> None:
    """Largest remainder gave the bank each of them: 0.4 fen too little for the partner, time after time."""
    record = made.started()
    for _ in range(2000):
        record.redeem("fen", 2)
    lines = made.lines_of(made.statement(tmp_path, record.events, record.terms))
    funded = [-line["amount_minor"] for line in lines if line["kind"] == "discount_funding"]
    assert set(funded) == {0, 1}
    drift = sum(funded) * 10_000 - 2000 * 4000
    assert drift**2 <= 25 * 2000 * 4000 * 6000, "within five times the spread that chance gives"
    assert (2000 * 4000) ** 2 > 25 * 2000 * 4000 * 6000, "what largest remainder drifted is far outside"


def test_amounts_that_are_not_random_are_split_without_bias() -> None:
    for amount in (1, 2, 3, 99, 1998, 1999):
        legs = [reference.split(amount, THREE, seed=f"k{n}|rdm_{n}", left={}) for n in range(4000)]
        for share in THREE:
            drift = sum(leg[share["party"]] for leg in legs) * 10_000 - 4000 * amount * share["bps"]
            rest = amount * share["bps"] % 10_000
            assert drift**2 <= 25 * 4000 * rest * (10_000 - rest), (amount, share["party"])


@given(st.integers(1, 10**15), st.integers(0, 10_000), st.text(max_size=20))
@settings(max_examples=30, deadline=None)
def test_the_engine_splits_any_amount_as_the_rules_say(order: int, bps: int, key: str) -> None:
    """To 10^15 minor units, without overflow; each leg within one unit of its exact part."""
    fund = [{"party": "bank", "bps": bps}, {"party": "partner", "bps": 10_000 - bps}]
    offer = {"id": "all", "title": "a", "kind": "percent_off", "bps": 10_000, "fund": fund}
    record = Record()
    record.effective(made.contract(terms={"discount": [offer]}))
    event = record.redeem("all", order, key=key)
    assert event is not None
    legs = event["data"]["legs"]
    assert sum(legs.values()) == order
    assert all(abs(legs[share["party"]] * 10_000 - order * share["bps"]) < 10_000 for share in fund)
    record.reverse(event, order)
    with tempfile.TemporaryDirectory() as folder:
        written = made.statement(Path(folder), record.events, record.terms)
    assert written.totals.net_minor == 0


def test_the_reference_splits_the_example_of_the_rules() -> None:
    assert reference.split(1998, made.SIXTY_FORTY, seed="k1|rdm_1", left={}) == {"bank": 1199, "partner": 799}
    assert reference.split(998, made.SIXTY_FORTY, seed="k1|rdm_1", left={}) == {"bank": 599, "partner": 399}
