"""The book: every entry and every prefix of it sums to zero, whatever the shares."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger import book

amounts = st.integers(min_value=1, max_value=10**12)
legs = st.dictionaries(st.sampled_from(["bank", "partner", "merchant", "network"]), amounts, min_size=1)
fact = st.one_of(
    st.builds(lambda n, shares: book.redemption_confirmed(n, partner_id="parkco", currency="CNY", legs=shares),
              st.uuids().map(str), legs),
    st.builds(lambda n, shares: book.redemption_reversed(
        n, partner_id="parkco", currency="CNY", legs={party: -minor for party, minor in shares.items()}),
              st.uuids().map(str), legs),
    *(st.builds(lambda n, minor, build=build: build(n, partner_id="shopco", currency="HKD", amount_minor=minor),
                st.uuids().map(str), amounts)
      for build in (book.payment_collected, book.payment_refunded, book.commission_accrued)),
)  # fmt: skip


@given(st.lists(fact, max_size=20))
def test_every_prefix_of_the_book_sums_to_zero(entries: list[book.Entry]) -> None:
    for end in range(len(entries) + 1):
        lines = [line for entry in entries[:end] for line in entry.postings]
        assert not any(book.totals(lines).values())


@given(legs)
def test_a_full_reversal_empties_every_account_of_the_redemption(shares: dict[str, int]) -> None:
    there = book.redemption_confirmed("rdm_1", partner_id="parkco", currency="CNY", legs=shares)
    back = book.redemption_reversed(
        "evt_2", partner_id="parkco", currency="CNY", legs={party: -minor for party, minor in shares.items()}
    )
    accounts = {line.account for line in there.postings}
    for account in accounts:
        assert sum(p.amount_minor for p in (*there.postings, *back.postings) if p.account == account) == 0


def test_a_confirmed_redemption_debits_each_funder_and_credits_the_merchant() -> None:
    entry = book.redemption_confirmed("rdm_1", partner_id="parkco", currency="CNY", legs={"bank": 1199, "partner": 800})
    assert {(line.account, line.amount_minor) for line in entry.postings} == {
        ("discount_expense:bank:CNY", 1199),
        ("funded_receivable:parkco:CNY", 800),
        ("merchant_clearing:parkco:CNY", -1999),
    }


def test_a_share_of_nothing_is_no_line() -> None:
    entry = book.redemption_confirmed("rdm_1", partner_id="parkco", currency="CNY", legs={"bank": 5, "partner": 0})
    assert len(entry.postings) == 2


def test_an_entry_that_does_not_balance_cannot_be_built() -> None:
    with pytest.raises(AssertionError, match="does not sum to zero"):
        book.Entry("made-up", "parkco", (book.Posting("discount_expense:bank:CNY", 1),))
    with pytest.raises(AssertionError, match="does not sum to zero"):
        book.Entry("made-up", "parkco", (book.Posting("a:b:CNY", 1), book.Posting("a:b:HKD", -1)))
