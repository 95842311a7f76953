"""The rule of attribution: total, free of order, one owner or none, and a reason for every loser."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.referrals.attribution import RIVALRY_CODES, attribute
from gateway.referrals.explain import WORDS, explain
from gateway.referrals.model import Evidence, Joining, Pick, ReferralTerms, Tenure, Touch

DAY = 86_400_000
JOINING = Joining("c1", 100 * DAY, (Tenure(100 * DAY, None),))
TERMS = ReferralTerms(
    "parkco", "parkco-2026", 1, "CNY", tuple(Evidence), Pick.LAST, 30 * DAY, 90 * DAY, frozenset({"ACCOUNT_OPENED"}),
    DAY, 3 * DAY, None, frozenset({"ACCOUNT_OPENED"}),
)  # fmt: skip
BOOK = {"parkco": TERMS, "shopco": replace(TERMS, partner_id="shopco", contract_id="shopco-2026")}


def touch(touch_id: int, partner: str = "parkco", *, evidence: Evidence = Evidence.BATCH, day: int = 90) -> Touch:
    return Touch(touch_id, partner, f"clm_{partner}", evidence, day * DAY, day * DAY + 5)


def codes(decision_steps: object) -> list[str]:
    return [step.code for step in decision_steps]  # type: ignore[attr-defined]


def test_a_signed_scan_outranks_a_later_batch() -> None:
    scan = touch(1, evidence=Evidence.SIGNED_SCAN, day=80)
    decision = attribute(JOINING, [touch(2, "shopco", day=99), scan], terms=BOOK)
    assert decision.owner == scan
    assert decision.losers == {"clm_shopco"}
    words = explain(decision.steps, viewer=None)
    assert words[1].english == "not shopco: signed_scan outranks batch"
    assert "shopco" in words[1].chinese


def test_of_equal_evidence_the_last_touch_counts_between_partners() -> None:
    decision = attribute(JOINING, [touch(1, day=98), touch(2, "shopco", day=99)], terms=BOOK)
    assert decision.owner is not None
    assert decision.owner.partner_id == "shopco"
    assert codes(decision.steps) == ["won", "later_touch_counts"]


def test_of_equal_moments_the_server_receipt_and_then_the_id_decide() -> None:
    early = replace(touch(9, "shopco"), recorded_at_ms=90 * DAY + 1)
    assert attribute(JOINING, [touch(1), early], terms=BOOK).owner == early
    assert attribute(JOINING, [touch(1), touch(2, "shopco")], terms=BOOK).owner == touch(1)


def test_a_partner_that_counts_first_touches_is_stood_for_by_its_first() -> None:
    book = {"parkco": replace(TERMS, pick=Pick.FIRST)}
    decision = attribute(JOINING, [touch(1, day=80), touch(2, day=90)], terms=book)
    assert decision.owner == touch(1, day=80)
    assert codes(decision.steps) == ["won", "own_earlier_touch_counts"]
    assert decision.losers == frozenset()


@pytest.mark.parametrize(
    ("change", "terms", "code"),
    [
        ({"occurred_at_ms": 69 * DAY}, TERMS, "outside_lookback"),
        ({"recorded_at_ms": 100 * DAY}, TERMS, "had_account"),
        ({"occurred_at_ms": 100 * DAY, "recorded_at_ms": 100 * DAY}, TERMS, "had_account"),
        ({}, replace(TERMS, order=(Evidence.SIGNED_SCAN,)), "evidence_not_agreed"),
        ({}, replace(TERMS, exclusive_for=frozenset()), "goal_not_agreed"),
        ({}, None, "no_contract"),
    ],
)
def test_a_touch_that_does_not_count_says_why(change: dict[str, int], terms: ReferralTerms | None, code: str) -> None:
    told = replace(touch(1), **change)  # type: ignore[arg-type]
    decision = attribute(JOINING, [told], terms={"parkco": terms} if terms else {})
    assert decision.owner is None
    assert decision.losers == frozenset()
    assert decision.excluded == {"clm_parkco": code}
    assert codes(decision.steps) == [code]


@pytest.mark.parametrize(
    ("tenures", "since_ms", "is_excluded"),
    [
        ([Tenure(90 * DAY + 5, 95 * DAY)], None, True),  # opened at the very moment that the touch was heard of
        ([Tenure(90 * DAY + 6, 95 * DAY)], None, False),
        ([Tenure(1, 10 * DAY + 5)], 80 * DAY, False),  # ended exactly so long before
        ([Tenure(1, 10 * DAY + 6)], 80 * DAY, True),
    ],
)
def test_an_account_excludes_from_its_first_moment_to_the_last_that_is_not_long_ago(
    tenures: list[Tenure], since_ms: int | None, is_excluded: bool
) -> None:
    """The touch is heard of on day 90, 5 ms after midnight."""
    joining = replace(JOINING, tenures=(*tenures, *JOINING.tenures))
    decision = attribute(joining, [touch(1)], terms={"parkco": replace(TERMS, no_account_since_ms=since_ms)})
    assert decision.excluded == ({"clm_parkco": "had_account"} if is_excluded else {})


def test_whoever_is_heard_of_at_the_moment_of_joining_was_not_brought_though_the_bank_corrects_it_later() -> None:
    corrected = replace(JOINING, tenures=(Tenure(100 * DAY + 9, None),))
    for heard_ms, is_brought in ((100 * DAY - 1, True), (100 * DAY, False)):
        told = replace(touch(1), recorded_at_ms=heard_ms)
        assert (attribute(corrected, [told], terms=BOOK).owner == told) == is_brought


def test_the_look_back_includes_its_last_moment() -> None:
    assert attribute(JOINING, [touch(1, day=70)], terms=BOOK).owner == touch(1, day=70)


def test_a_partner_reads_why_but_not_who() -> None:
    decision = attribute(JOINING, [touch(1), touch(2, "shopco", evidence=Evidence.SIGNED_SCAN)], terms=BOOK)
    (mine,) = explain(decision.steps, viewer="parkco")
    assert mine.english == "not your claim: signed_scan outranks batch"
    assert mine.chinese == "贵方申报未获归属：signed_scan 的证据级别高于 batch"
    theirs = " ".join(line.english for line in explain(decision.steps, viewer="shopco"))
    assert "parkco" not in theirs
    assert "not another partner's claim" in theirs


def test_what_did_not_count_of_another_partner_is_not_told() -> None:
    decision = attribute(JOINING, [touch(1), touch(2, "shopco", day=10)], terms=BOOK)
    assert [line.code for line in explain(decision.steps, viewer="parkco")] == ["won"]
    assert "outside_lookback" in codes(decision.steps)


PARTNERS = ("parkco", "shopco", "metro", "none")
touches = st.lists(
    st.builds(
        lambda touch_id, partner, evidence, occurred, delay: Touch(
            touch_id, partner, f"clm_{partner}_{touch_id % 2}", evidence, occurred, occurred + delay
        ),
        st.integers(1, 1000),
        st.sampled_from(PARTNERS),
        st.sampled_from(Evidence),
        st.integers(60 * DAY, 101 * DAY) | st.sampled_from([90 * DAY, 95 * DAY]),
        st.integers(0, 2),
    ),
    max_size=8,
    unique_by=lambda one: one.touch_id,
)
books = st.fixed_dictionaries(
    {
        name: st.builds(
            lambda order, pick, days, name=name: replace(
                TERMS, partner_id=name, order=tuple(order), pick=pick, lookback_ms=days * DAY
            ),
            st.lists(st.sampled_from(Evidence), unique=True),
            st.sampled_from(Pick),
            st.integers(0, 40),
        )
        for name in PARTNERS[:3]
    }
)


@given(touches, books, st.randoms())
def test_the_order_in_which_touches_come_is_of_no_effect(
    log: list[Touch], book: dict[str, ReferralTerms], random: object
) -> None:
    shuffled = list(log)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert attribute(JOINING, shuffled, terms=book) == attribute(JOINING, log, terms=book)


@given(touches, books)
def test_somebody_owns_whenever_a_touch_stands_and_every_other_touch_has_one_reason(
    log: list[Touch], book: dict[str, ReferralTerms]
) -> None:
    decision = attribute(JOINING, log, terms=book)
    assert sorted(step.touch_id for step in decision.steps) == sorted(one.touch_id for one in log)
    standing = [s for s in decision.steps if s.code == "won" or s.code.removeprefix("own_") in RIVALRY_CODES]
    assert bool(standing) == (decision.owner is not None)
    assert codes(decision.steps).count("won") == (decision.owner is not None)
    assert decision.owner is None or decision.owner.claim_id not in decision.losers


@given(touches, books)
def test_more_touches_never_lose_a_customer(log: list[Touch], book: dict[str, ReferralTerms]) -> None:
    """Another partner's touch more or less changes nothing for the owner, unless it wins; one's own never harms."""
    owner = attribute(JOINING, log, terms=book).owner
    for gone in log:
        without = attribute(JOINING, [one for one in log if one != gone], terms=book).owner
        if owner is None or gone.partner_id != owner.partner_id:
            assert without == owner
        if without is not None and without.partner_id == gone.partner_id:
            assert owner is not None
            assert owner.partner_id == gone.partner_id


@given(touches, books)
def test_every_step_has_its_words_in_both_languages(log: list[Touch], book: dict[str, ReferralTerms]) -> None:
    for line in explain(attribute(JOINING, log, terms=book).steps, viewer=None):
        assert line.code in WORDS
        assert "{" not in line.english + line.chinese
