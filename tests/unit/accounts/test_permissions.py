"""Permission codes: sets that make sense, what each lets a partner see, and numbers that stay masked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.accounts import permissions as rules
from gateway.accounts.permissions import CODES, PermissionMissing, PermissionsContradict, check_permissions

PAN = "6222020000001234"


def test_the_standard_has_twenty_one_codes() -> None:
    assert len(CODES) == 21


@pytest.mark.parametrize(
    "codes",
    [
        ["ReadAccountsBasic"],
        ["ReadAccountsDetail", "ReadPAN"],
        ["ReadAccountsBasic", "ReadBalances"],
        ["ReadAccountsBasic", "ReadTransactionsBasic", "ReadTransactionsCredits"],
        ["ReadAccountsBasic", "ReadTransactionsDetail", "ReadTransactionsCredits", "ReadTransactionsDebits"],
        sorted(CODES),
    ],
)
def test_a_set_that_makes_sense_passes(codes: list[str]) -> None:
    check_permissions(codes)


@pytest.mark.parametrize(
    "codes",
    [
        [],
        ["ReadEverything"],
        ["readaccountsbasic"],
        ["ReadAccountsBasic", "ReadAccountsBasic"],
        ["ReadBalances"],
        ["ReadAccountsBasic", "ReadTransactionsBasic"],
        ["ReadAccountsBasic", "ReadTransactionsDetail"],
        ["ReadAccountsBasic", "ReadTransactionsDebits"],
    ],
)
def test_an_empty_or_contradictory_set_is_refused(codes: list[str]) -> None:
    with pytest.raises(PermissionsContradict):
        check_permissions(codes)


@given(st.lists(st.sampled_from(sorted(CODES)), unique=True))
def test_any_set_is_either_usable_or_refused(codes: list[str]) -> None:
    granted = frozenset(codes)
    try:
        check_permissions(codes)
    except PermissionsContradict:
        return
    rules.require(granted, "ReadAccountsBasic", "ReadAccountsDetail")
    reads_rows = bool(granted & {"ReadTransactionsBasic", "ReadTransactionsDetail"})
    assert reads_rows == any(rules.sides(granted))


def test_a_permission_that_is_missing_is_refused() -> None:
    rules.require(frozenset(("ReadBalances",)), "ReadBalances")
    with pytest.raises(PermissionMissing):
        rules.require(frozenset(("ReadAccountsBasic",)), "ReadBalances", "ReadPAN")


@pytest.mark.parametrize(
    ("scheme", "granted", "shown"),
    [
        ("CN.UnionPay.PAN", {"ReadAccountsDetail"}, "622202******1234"),
        ("CN.UnionPay.PAN", {"ReadAccountsDetail", "ReadPAN"}, PAN),
        ("CN.CNAPS.AccountNumber", {"ReadAccountsDetail"}, PAN),
    ],
)
def test_a_card_number_is_masked_unless_it_was_allowed(scheme: str, granted: set[str], shown: str) -> None:
    assert rules.shown_number(scheme, PAN, granted) == shown
