"""The table's Open Banking rows are the standard's, and the check that holds answers to its files can say no."""

from typing import Any

import httpx
import pytest

from gateway.call import Operation, Protocol, TokenKind
from gateway.routes import OPERATIONS
from tests.contract import obuk

pytestmark = pytest.mark.skipif(not obuk.AVAILABLE, reason=obuk.ABSENT)
ROWS = [operation for operation in OPERATIONS if operation.protocol is Protocol.OB]
BALANCES = f"{obuk.BASE}/aisp/accounts/a1/balances"


def balances(**changes: str) -> dict[str, Any]:
    """OBReadBalance1."""
    balance = {
        "AccountId": "a1", "CreditDebitIndicator": "Credit", "Type": "ITAV", "DateTime": "2026-01-01T00:00:00.000Z",
        "Amount": {"Amount": "1.00", "Currency": "CNY"},
    }  # fmt: skip
    return {"Data": {"Balance": [balance | changes]}, "Links": {"Self": f"http://gateway.test{BALANCES}"}, "Meta": {}}


def answer(status: int, body: Any, *, path: str = BALANCES, **headers: str) -> httpx.Response:
    sent = {"x-fapi-interaction-id": "i", **{name.replace("_", "-"): value for name, value in headers.items()}}
    request = httpx.Request("GET", f"http://gateway.test{path}")
    return httpx.Response(status, json=body, headers=sent, request=request)


@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_every_open_banking_row_is_an_operation_of_the_standard(row: Operation) -> None:
    family, _, path = row.path.removeprefix(f"{obuk.BASE}/").partition("/")
    found = [
        obuk.document(name)["paths"][f"/{path}"][row.method.lower()]
        for name in obuk.FILES[family]
        if row.method.lower() in obuk.document(name)["paths"].get(f"/{path}", {})
    ]
    assert len(found) == 1
    assert found[0]["operationId"] == row.id
    parameters = {str(parameter).partition("#/components/parameters/")[2].rstrip("'}")
                  for parameter in found[0]["parameters"]}  # fmt: skip
    assert row.idempotent == ("x-idempotency-key" in parameters)
    assert (row.signed and row.body is not None) == ("x-jws-signature" in parameters)
    if family == "aisp":  # the file of VRP names one scheme for all; its text asks for a customer's token to pay
        needs_customer = any("PSUOAuth2Security" in scheme for scheme in found[0]["security"])
        assert (row.token is TokenKind.CUSTOMER) == needs_customer


def test_an_answer_of_the_standard_passes() -> None:
    obuk.check(answer(200, balances()))


@pytest.mark.parametrize(
    "broken",
    [
        answer(200, balances(CreditDebitIndicator="Kredit")),
        answer(200, balances(Amount="1.00")),
        answer(200, {"Data": {"Balance": []}}),
        answer(200, balances(), path=f"{obuk.BASE}/aisp/nothing"),
        answer(418, {}),
        answer(401, {"Errors": []}),
        answer(400, {"Errors": [{"ErrorCode": "too long"}]}),
        answer(400, {"Errors": [{"ErrorCode": "U002"}]}, path=f"{obuk.BASE}/pisp/domestic-vrps/p1"),
    ],
    ids=["enumeration", "type", "empty", "path", "status", "body-of-401", "error", "unsigned"],
)
def test_an_answer_that_is_not_the_standards_is_noticed(broken: httpx.Response) -> None:
    with pytest.raises(obuk.ContractBroken):
        obuk.check(broken)


def test_a_signed_error_of_a_payment_passes() -> None:
    path = f"{obuk.BASE}/pisp/domestic-vrps/p1"
    obuk.check(answer(400, {"Errors": [{"ErrorCode": "U011"}]}, path=path, x_jws_signature="a..b"))
