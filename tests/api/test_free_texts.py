"""What operators and partners write for people to read is refused where it holds what nobody sees."""

from typing import Any, get_type_hints

import pytest

from gateway.call import TokenKind
from gateway.routes import OPERATIONS
from tests.api.test_bad_input import facts, path_of
from tests.api.vrp_calls import CREDITOR, ask_mandate, mandate_body
from tests.conftest import World

TURNED = "approved \u202ednim ruoy egnahc\u202c"
WITH_REASON = [op for op in OPERATIONS if op.token is TokenKind.OPERATOR and "reason" in get_type_hints(op.body or int)]
MORE = {
    "ApproveStatement": {"Role": "maker", "Sha256": "0" * 64},
    "CalculateStatement": {"PartnerId": "parkco", "ToDay": "2026-01-01"},
}


@pytest.mark.parametrize("operation", WITH_REASON, ids=[op.id for op in WITH_REASON])
@pytest.mark.parametrize("reason", [TURNED, "two\nlines", "\x1b[2Jgone"], ids=["direction", "line end", "escape"])
async def test_a_reason_that_cannot_be_read_is_refused_and_nothing_happens(
    shared_world: World, operation: Any, reason: str
) -> None:
    before = await facts(shared_world)
    body = {"Reason": reason, **MORE.get(operation.id, {})}
    answer = await shared_world.ops("ops-maker", operation.method, path_of(operation), json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "text_unreadable"), answer.text
    assert answer.json()["path"] == "$.Reason"
    assert await facts(shared_world) == before


def test_every_decision_of_an_operator_is_among_them() -> None:
    assert len(WITH_REASON) >= 8


async def test_a_payees_name_that_turns_the_line_around_is_refused_before_a_customer_sees_it(
    shared_world: World,
) -> None:
    body = mandate_body(CreditorAccount={**CREDITOR, "Name": TURNED})
    answer = await ask_mandate(shared_world, body)
    assert answer.status_code == 400, answer.text
    error = answer.json()
    assert (error["Code"], error["Errors"][0]["Path"]) == (
        "400 text_unreadable", "Data.Initiation.CreditorAccount.Name",
    )  # fmt: skip
    body["Data"]["Initiation"]["CreditorAccount"]["Name"] = "停车运营　ParkCo"
    assert (await ask_mandate(shared_world, body)).status_code != 400
