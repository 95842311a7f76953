"""What comes off a price: one pure rule a kind of discount, over integers; and the examples that contracts carry."""

from collections.abc import Callable

from gateway.document import DocumentInvalid
from gateway.partners.contract import BPS_WHOLE, Contract, Discount
from gateway.partners.funding import split


def discount_minor(discount: Discount, order_minor: int) -> int:
    """Minor units off an order, 0 ≤ off ≤ order; 0 where the rule gives nothing."""
    off = _RULES[discount.kind](discount, order_minor)
    if discount.max_off_minor is not None:
        off = min(off, discount.max_off_minor)
    return max(0, min(off, order_minor))


def _cap_price(discount: Discount, order_minor: int) -> int:
    """Pay `pay_minor`, whatever it costs: park, or ride, for one fen."""
    assert discount.pay_minor is not None
    return order_minor - discount.pay_minor


def _amount_off(discount: Discount, order_minor: int) -> int:
    assert discount.off_minor is not None
    return discount.off_minor


def _percent_off(discount: Discount, order_minor: int) -> int:
    """Rounded down to the minor unit: the customer never gets more than the per cent promised."""
    assert discount.bps is not None
    return order_minor * discount.bps // BPS_WHOLE


def _threshold_off(discount: Discount, order_minor: int) -> int:
    assert discount.off_minor is not None
    assert discount.min_minor is not None
    return discount.off_minor if order_minor >= discount.min_minor else 0


_RULES: dict[str, Callable[[Discount, int], int]] = {
    "cap_price": _cap_price,
    "amount_off": _amount_off,
    "percent_off": _percent_off,
    "threshold_off": _threshold_off,
}


def check_examples(contract: Contract, *, file: str) -> None:
    """Run the contract's own examples. Raises DocumentInvalid that says what came out instead."""
    for index, example in enumerate(contract.example):
        discount = contract.find_discount(example.given.discount)
        assert discount is not None, "the loader has checked the name"
        off = discount_minor(discount, example.given.order_minor)
        whole: dict[str, int] = {share.party: share.cap_minor for share in discount.fund if share.cap_minor is not None}
        legs = split(off, discount.fund, seed=example.given.seed, cap_left_minor=whole)
        expected = {name: getattr(example.expect, name) for name in ("bank", "partner")}
        got = {name: legs.get(name, 0) for name in expected}
        if off != example.expect.off_minor or got != expected:
            raise DocumentInvalid(file, f"$.example[{index}]", f"comes out as off_minor = {off} with legs {legs}")
