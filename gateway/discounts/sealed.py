"""The sealed events of a redemption: what was asked and found, so that anybody can ask again.

Their members are those of docs/settlement-rules.md §2.
"""

from collections.abc import Mapping

from gateway.discounts.model import Redemption
from gateway.events.outbox import Event


def confirmed_event(confirmed: Redemption, *, key: str) -> Event:
    """The final order, its price, who funds it, and what the conditions were asked about."""
    funding = confirmed.funding
    assert funding is not None, "a confirmed redemption is funded"
    data = {
        "redemption_id": confirmed.redemption_id, "discount": confirmed.discount_id,
        "order_minor": confirmed.order_minor, "discount_minor": confirmed.discount_minor,
        "payable_minor": confirmed.order_minor - confirmed.discount_minor, "cap_left_minor": funding.cap_left,
        "legs": funding.legs, "seed": confirmed.seed, "site": confirmed.site_id, "mcc": confirmed.mcc,
        "order_reference": confirmed.order_reference,
    }  # fmt: skip
    return _event(
        "redemption.confirmed", confirmed, event_id=funding.event_id, amount_minor=confirmed.discount_minor, key=key,
        data=data,
    )  # fmt: skip


def reversed_event(before: Redemption, *, amount_minor: int, legs: Mapping[str, int], event_id: str, key: str) -> Event:
    """What goes back to whom of the redemption as it was before; `legs` are negative."""
    funding = before.funding
    assert funding is not None, "only what is funded is reversed"
    data = {
        "redemption_id": before.redemption_id, "original_event_id": funding.event_id, "discount": before.discount_id,
        "original_discount_minor": before.discount_minor, "reversed_before_minor": before.reversed_minor,
        "reversed_minor": amount_minor, "cap_left_minor": funding.cap_left, "original_legs": funding.legs,
        "legs": legs, "seed": before.seed,
    }  # fmt: skip
    return _event(
        "redemption.reversed", before, event_id=event_id, amount_minor=-amount_minor, key=key, data=data
    )  # fmt: skip


def _event(
    kind: str, redemption: Redemption, *, event_id: str, amount_minor: int, key: str, data: Mapping[str, object]
) -> Event:
    """`occurred_at` is the customer's moment: it picked the terms, and the reversal keeps to them."""
    return Event(
        kind, redemption.occurred_at_ms, data, partner=redemption.partner_id, campaign=redemption.discount_id,
        contract=redemption.contract_id, contract_version=redemption.contract_version, currency=redemption.currency,
        amount_minor=amount_minor, subject_token=redemption.subject_token, idempotency_key=key, event_id=event_id,
    )  # fmt: skip
