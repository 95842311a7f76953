"""The life of a consent: every step it may take, and those it may not."""

from dataclasses import replace

import pytest

from gateway.consents.consent import (
    AccountChoiceInvalid,
    AnotherCustomer,
    Consent,
    ConsentKind,
    ConsentNotInForce,
    ConsentStatus,
    authorised,
    cancelled,
    expired,
    rejected,
)
from gateway.refusal import ForeignResource, StateConflict

NOW = 1_000_000
AWAITING = Consent(
    "cns_1", "parkco", "parkco-app", ConsentKind.ACCOUNT_ACCESS, ConsentStatus.AWAITING, {}, None, (), 0, 0, NOW + 1000
)
GIVEN = authorised(AWAITING, customer_id="cus_1", account_ids=["acc_1", "acc_2"], now_ms=NOW)
MANDATE = replace(AWAITING, kind=ConsentKind.DOMESTIC_VRP)


def test_a_customer_authorises_the_accounts_they_chose() -> None:
    assert (GIVEN.status, GIVEN.customer_id, GIVEN.account_ids) == ("AUTH", "cus_1", ("acc_1", "acc_2"))
    GIVEN.check_in_force(NOW)


def test_a_consent_that_awaits_its_customer_is_not_in_force() -> None:
    with pytest.raises(ConsentNotInForce):
        AWAITING.check_in_force(NOW)


def test_a_consent_is_over_at_its_end_even_before_a_chore_says_so() -> None:
    assert GIVEN.status_at(NOW + 1000) == "EXPD"
    with pytest.raises(ConsentNotInForce):
        GIVEN.check_in_force(NOW + 1000)


def test_a_consent_without_an_end_stays_in_force() -> None:
    replace(GIVEN, expires_ms=None).check_in_force(NOW * 1000)


def test_the_same_customer_confirms_again_without_changing_what_was_given() -> None:
    assert authorised(GIVEN, customer_id="cus_1", account_ids=["acc_9"], now_ms=NOW + 1) is GIVEN


def test_another_customer_cannot_take_a_consent_over() -> None:
    with pytest.raises(AnotherCustomer):
        authorised(GIVEN, customer_id="cus_2", account_ids=["acc_9"], now_ms=NOW + 1)


@pytest.mark.parametrize(("consent", "accounts"), [(AWAITING, []), (MANDATE, []), (MANDATE, ["acc_1", "acc_2"])])
def test_the_wrong_number_of_accounts_is_refused(consent: Consent, accounts: list[str]) -> None:
    with pytest.raises(AccountChoiceInvalid):
        authorised(consent, customer_id="cus_1", account_ids=accounts, now_ms=NOW)


def test_a_no_rejects_what_awaits_and_leaves_what_was_given() -> None:
    assert rejected(AWAITING, customer_id=None, now_ms=NOW).status == "RJCT"
    assert rejected(GIVEN, customer_id="cus_1", now_ms=NOW) is GIVEN


@pytest.mark.parametrize("consent", [AWAITING, GIVEN])
def test_a_consent_is_cancelled_once(consent: Consent) -> None:
    over = cancelled(consent, now_ms=NOW)
    assert over.status == "CANC"
    with pytest.raises(StateConflict):
        cancelled(over, now_ms=NOW)
    with pytest.raises(ConsentNotInForce):
        authorised(over, customer_id="cus_1", account_ids=["acc_1"], now_ms=NOW)


def test_a_consent_whose_time_is_over_expires() -> None:
    assert expired(GIVEN, now_ms=NOW + 1000).status == "EXPD"


def test_a_partner_does_not_touch_another_partners_consent() -> None:
    GIVEN.check_owner("parkco")
    with pytest.raises(ForeignResource):
        GIVEN.check_owner("shopco")
