"""Numbers that are no moment in assertions and proofs: refused as what they are, never a failure of ours."""

from typing import Any

import pytest

from tests.api.oauth.conftest import Server

FORM = {"grant_type": "client_credentials", "scope": "parking"}
# As JSON spells them: whole numbers of hundreds of digits, fractions, the ends of floats, and what is no number.
EXTREMES = {
    "far": 10**400, "far before": -(10**400), "of 64 bits": 2**63, "largest": 1.7e308, "smallest": -1.7e308,
    "tiny": 5e-324, "not a number": float("nan"), "infinite": float("inf"), "text": "1767225600", "list": [1],
    "yes": True, "year 10000": 253_402_300_800, "year 0": -62_167_219_201,
}  # fmt: skip


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", list(EXTREMES.values()), ids=list(EXTREMES))
async def test_an_assertion_with_an_extreme_time_has_an_answer(server: Server, claim: str, value: Any) -> None:
    answer = await server.post("/oauth/token", {**FORM, **server.assertion(**{claim: value})})
    assert answer.status_code < 500, answer.text
    if answer.status_code != 200:  # a time of long ago says nothing against an assertion that ends soon
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client"), answer.text
    else:
        assert claim != "exp"


@pytest.mark.parametrize("value", list(EXTREMES.values()), ids=list(EXTREMES))
async def test_a_proof_with_an_extreme_time_is_refused(server: Server, value: Any) -> None:
    answer = await server.post("/oauth/token", FORM, proof=server.proof("/oauth/token", iat=value))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof"), answer.text
