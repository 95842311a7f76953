"""Whoever may have brought a customer is asked, whatever the terms were and however late the bank tells."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.referrals.attribution import attribute
from gateway.referrals.candidates import GRID_MS, candidates
from gateway.referrals.model import Evidence, Joining, Pick, ReferralTerms, Tenure, Touch, Unreadable
from gateway.referrals.store.spans import Span
from gateway.refusal import Refusal

DAY = 86_400_000
PARTNERS = ("parkco", "shopco", "metro")
TERMS = ReferralTerms(
    "parkco", "parkco-2026", 1, "CNY", tuple(Evidence), Pick.LAST, 30 * DAY, 90 * DAY, frozenset({"ACCOUNT_OPENED"}),
    DAY, 3 * DAY, None, frozenset({"ACCOUNT_OPENED"}),
)  # fmt: skip
moments = st.integers(100, 300).flatmap(lambda day: st.integers(-2, 2).map(lambda ms: day * DAY + ms))
touches = st.lists(st.tuples(st.sampled_from(PARTNERS), moments, st.sampled_from((0, 1, DAY, 3 * DAY))), max_size=8)
# By partner: days from which versions are in force, with look-backs in days; 0 stands for none.
versions = st.fixed_dictionaries(
    {name: st.lists(st.tuples(st.integers(90, 300), st.sampled_from((0, 1, 30, 100))), max_size=4).map(sorted)
     for name in PARTNERS}
)  # fmt: skip


class TermsUnreadable(Refusal):
    """As the picture of the contracts says it."""

    status, code, ob_code, outcome = 503, Unreadable.TERMS.value, "U000", "contract"
    title = "These terms cannot be read"


def spans_of(log: list[Touch]) -> list[Span]:
    mine = {name: [touch for touch in log if touch.partner_id == name] for name in PARTNERS}
    return [
        Span(name, min(t.recorded_at_ms for t in its), max(t.occurred_at_ms for t in its))
        for name, its in mine.items()
        if its
    ]


@given(touches, versions, st.lists(moments, min_size=1, max_size=12), moments)
def test_who_owns_a_customer_has_been_asked(
    told: list[tuple[str, int, int]], agreed: dict[str, list[tuple[int, int]]], joined: list[int], now_ms: int
) -> None:
    def terms(partner_id: str, at_ms: int) -> ReferralTerms | None:
        days = [lookback for day, lookback in agreed[partner_id] if day * DAY <= at_ms]
        return replace(TERMS, partner_id=partner_id, lookback_ms=days[-1] * DAY) if days and days[-1] else None

    log = [
        Touch(place, partner, f"clm_{place}", Evidence.BATCH, at_ms, at_ms + later)
        for place, (partner, at_ms, later) in enumerate(told)
    ]
    found = candidates(spans_of(log), (), joined_at_ms=joined, terms=terms, now_ms=now_ms)
    for at_ms in joined:
        book = {name: its for name in PARTNERS if (its := terms(name, at_ms)) is not None}
        decision = attribute(Joining("c", at_ms, (Tenure(at_ms, None),)), log, terms=book)
        standing = decision.losers | ({decision.owner.claim_id} if decision.owner else set())
        assert {touch.partner_id for touch in log if touch.claim_id in standing} <= found.of(at_ms)


def test_partners_whose_claims_are_over_or_came_later_are_not_asked() -> None:
    spans = [Span("parkco", 10 * DAY, 11 * DAY), Span("shopco", 300 * DAY, 300 * DAY)]
    now_ms = 400 * DAY
    found = candidates(spans, ["metro"], joined_at_ms=[20 * DAY, 399 * DAY], terms=lambda *_: TERMS, now_ms=now_ms)
    assert found.of(20 * DAY) == {"parkco", "metro"}
    assert found.of(41 * DAY + GRID_MS) == {"metro"}
    assert found.of(399 * DAY) == {"metro"}
    assert found.of(5 * DAY) == {"metro"}


def test_terms_that_cannot_be_read_may_say_anything() -> None:
    def unreadable(*_: object) -> ReferralTerms:
        raise TermsUnreadable

    found = candidates([Span("parkco", 1, 1)], (), joined_at_ms=[900 * DAY], terms=unreadable, now_ms=900 * DAY)
    assert found.of(900 * DAY) == {"parkco"}
