"""The check that holds our answers to our contracts can say no, and says what to do."""

from typing import Any

import httpx
import pytest

from tests.contract.own import check_own

AGREEMENT = "/partner/v1/parking/vehicle-agreements/vag_1"


def refusal(code: str, *, status: int = 404, path: str = AGREEMENT, **more: Any) -> httpx.Response:
    members = {"type": f"/portal/errors#{code}", "title": "t", "status": status, "detail": "d", "code": code,
               "instance": "urn:uuid:0", **more}  # fmt: skip
    request = httpx.Request("GET", f"http://gateway.test{path}")
    return httpx.Response(status, json=members, headers={"content-type": "application/problem+json"}, request=request)


async def test_a_refusal_that_the_contract_lists_passes() -> None:
    await check_own(refusal("unknown_resource"))


async def test_a_code_that_the_operation_does_not_list_is_noticed_with_the_place_to_add_it() -> None:
    with pytest.raises(AssertionError) as noticed:
        await check_own(refusal("offer_exhausted"))
    said = str(noticed.value)
    for word in ("GetVehicleAgreement", "offer_exhausted", "partner.v1.yaml", "x-problem-codes", '"404"'):
        assert word in said


@pytest.mark.parametrize(
    "broken",
    [
        refusal("unknown_resource", status=403),
        refusal("unknown_resource", status=418),
        refusal("unknown_resource", secret="x"),
        refusal("unknown_resource", title=1),
    ],
    ids=["code of another status", "status", "unknown member", "type"],
)
async def test_an_answer_that_is_not_as_agreed_is_noticed(broken: httpx.Response) -> None:
    with pytest.raises(AssertionError):
        await check_own(broken)


async def test_an_answer_of_a_path_in_no_contract_is_noticed() -> None:
    with pytest.raises(AssertionError, match="in no contract"):
        await check_own(refusal("unknown_resource", status=403, path="/partner/v1/nothing"))
    await check_own(refusal("unknown_path", path="/partner/v1/nothing"))
