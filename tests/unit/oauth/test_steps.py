"""The matrix of steps × endpoints, read as a person reads it."""

import pytest

from gateway.oauth import authorization_request as ar
from gateway.oauth import steps, visit
from gateway.oauth.steps import steps_of


@pytest.mark.parametrize("endpoint", ["par", "token", "revoke", "introspect"])
def test_nothing_is_looked_at_before_the_client_is_known(endpoint: str) -> None:
    first = (steps.take_form, steps.refuse_secrets, steps.authenticate_client, steps.check_partner)
    assert steps_of(endpoint)[:4] == first


def test_every_token_is_bound_and_no_pushed_request_needs_to_be() -> None:
    assert steps.require_sender in steps_of("token")
    assert steps.require_sender not in steps_of("par")
    assert steps.take_proof in steps_of("par")


def test_pkce_and_the_redirect_uri_are_checked_where_the_request_is_pushed() -> None:
    assert {ar.check_code_challenge, ar.check_redirect_uri, ar.check_response_type} <= set(steps_of("par"))


def test_every_page_knows_its_request_before_anything_else() -> None:
    for page in ("authorize", "login", "consent"):
        own = [step for step, pages in visit.MATRIX if page in pages.split()]
        assert own[:3] == [visit.check_known, visit.check_not_completed, visit.check_client]
        assert (visit.check_same_browser in own) == (page != "authorize")


def test_a_word_that_is_no_endpoint_has_no_steps() -> None:
    assert steps_of("nothing") == ()
    words = {word for _, endpoints in steps.MATRIX for word in endpoints.split()}
    assert words == {"par", "token", "revoke", "introspect"}
