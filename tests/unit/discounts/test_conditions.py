"""When an offer applies: each condition alone says yes here and no there, and names itself in the refusal."""

from typing import Any

import pytest

from gateway.discounts.conditions import OfferNotApplicable, granted_minor
from gateway.partners.contract import Discount
from tests.desks import NOW_MS, ONE_FEN, contract, occasion

HOUR_MS = 3_600_000


def terms(**more: Any) -> tuple[Any, Discount]:
    made = contract({**ONE_FEN, **more})
    return made, made.discount[0]


@pytest.mark.parametrize(
    ("when", "fits", "fails"),
    [
        ({"mcc": ["7523"]}, {"mcc": "7523"}, {"mcc": "5411"}),
        ({"mcc": ["7523"]}, {"mcc": "7523"}, {"mcc": None}),
        ({"site": ["lot-1"]}, {"site_id": "lot-1"}, {"site_id": "lot-2"}),
        ({"weekday": [1]}, {}, {"occurred_at_ms": NOW_MS + 2 * HOUR_MS}),  # 22:13 Monday in Shanghai, then Tuesday
        ({"time": "22:00-24:00"}, {}, {"occurred_at_ms": NOW_MS - HOUR_MS}),
        ({"time": "07:00-22:14"}, {}, {"occurred_at_ms": NOW_MS + 60_000}),
    ],
)  # fmt: skip
def test_a_condition_holds_or_names_itself(when: dict[str, Any], fits: dict[str, Any], fails: dict[str, Any]) -> None:
    made, discount = terms(when=when)
    assert granted_minor(made, discount, occasion(1200, **fits)) == 1199
    with pytest.raises(OfferNotApplicable, match=next(iter(when))):
        granted_minor(made, discount, occasion(1200, **fails))


def test_a_small_order_is_below_the_offer() -> None:
    made, discount = terms(when={"min_minor": 100})
    assert granted_minor(made, discount, occasion(100)) == 99
    with pytest.raises(OfferNotApplicable, match=r"from 1\.00"):
        granted_minor(made, discount, occasion(99))


def test_an_offer_that_takes_nothing_off_does_not_apply() -> None:
    made, discount = terms()
    with pytest.raises(OfferNotApplicable, match="nothing off"):
        granted_minor(made, discount, occasion(1))


@pytest.mark.parametrize(("limit", "member"), [({"per_customer": 1}, "CustomerToken"), ({"per_plate_day": 1}, "Plate")])
def test_a_limit_asks_for_what_it_counts_by(limit: dict[str, int], member: str) -> None:
    made, discount = terms(limits=limit)
    assert granted_minor(made, discount, occasion(1200, plate_digest="p")) == 1199
    with pytest.raises(OfferNotApplicable, match=member):
        granted_minor(made, discount, occasion(1200, subject_token=None, plate_digest=None))
