"""How each operation that takes a date or a time is called, for tests/api/test_moments.py: SAMPLES, a row each."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from gateway.clock import now_ms
from gateway.demo.client import Token
from gateway.partners.store import know_customers
from tests.api.test_parking import bound, parked
from tests.api.test_sandbox_bank import PHONE
from tests.api.vrp_calls import MANDATES, PAYMENTS, mandate_body, payment_body
from tests.conftest import CONSENTS, World

Asked = Awaitable[httpx.Response]
Ask = Callable[[World, str, Any, dict[str, str]], Asked]  # world, text for the path or query, body, headers


async def _partner(world: World, method: str, path: str, body: Any, headers: dict[str, str]) -> httpx.Response:
    sign = "jws" if "/pisp/" in path else ""
    return await world.client("parkco").call(method, path, body=body, headers=headers, sign=sign)


async def _customer(world: World, scope: str, method: str, path: str, body: Any, headers: Any) -> httpx.Response:
    token = await customer_token(world, scope)
    sign = "jws" if body is not None and scope == "payments" else ""
    return await world.client("parkco").call(method, path, token=token, body=body, headers=headers, sign=sign)


_TOKENS: dict[tuple[int, str], Token] = {}


async def customer_token(world: World, scope: str) -> Token:
    """One a world: giving a consent takes longer than all that is tried with it."""
    key = (id(world), scope)
    if key not in _TOKENS:
        _TOKENS[key] = await world.customer_token(scope)
    return _TOKENS[key]


async def _account_path(world: World) -> str:
    listed = await _customer(world, "accounts", "GET", f"{AISP}/accounts", None, {})
    return f"{AISP}/accounts/{listed.json()['Data']['Account'][0]['AccountId']}"


async def _made(world: World, path: str, body: Any) -> str:
    made = await _partner(world, "POST", path, body, {})
    assert made.status_code == 201, made.text
    return f"{path}/{made.json()['Data']['ConsentId']}"


async def _stay(world: World) -> str:
    """The path of a new car's stay; it came in an hour ago."""
    plate = f"粤B{len(_PLATES):05d}"
    _PLATES.append(plate)
    await bound(world, plate=plate)
    return f"/partner/v1/parking/sessions/{await parked(world, plate=plate, hours=1.0)}"


_PLATES: list[str] = []
AISP = "/open-banking/v4.0/aisp"
ORDER = {"OrderAmount": {"Amount": "30.00", "Currency": "CNY"}, "SiteId": "lot-1"}
HOLD = {"Data": {**ORDER, "OfferId": "first-park"}}
CONSENT = CONSENTS["accounts"][2]
PERSON = {"Phone": PHONE}
SPEND = {"EventId": "e-1", "Kind": "CARD_ACTIVATED", "Phone": PHONE}


async def hold(world: World, text: str, body: Any, headers: dict[str, str]) -> httpx.Response:
    """By a customer of its own: an offer is for each of them once."""
    _PLATES.append("")
    number = len(_PLATES)
    who = {"CustomerToken": f"idt_1_times-{number}", "Plate": f"粤B{number:05d}", "OrderReference": f"order {number}"}
    async with world.house.database.transaction() as conn:
        await know_customers(conn, [("parkco", who["CustomerToken"])], source="consent", now_ms=now_ms())
    return await _partner(world, "POST", "/partner/v1/redemptions", {"Data": {**who, **body["Data"]}}, headers)


async def charge(world: World, text: str, body: Any, headers: dict[str, str]) -> httpx.Response:
    return await _partner(world, "POST", f"{await _stay(world)}/charges", body, headers)


async def quote_stay(world: World, text: str, body: Any, headers: dict[str, str]) -> httpx.Response:
    return await _partner(world, "POST", f"{await _stay(world)}/quotes", body, headers)


async def transactions(world: World, text: str, body: Any, headers: dict[str, str]) -> httpx.Response:
    path = f"{await _account_path(world)}/transactions{text}"
    return await _customer(world, "accounts", "GET", path, None, headers)


async def pay(world: World, text: str, body: Any, headers: dict[str, str]) -> httpx.Response:
    return await _customer(world, "payments", "POST", PAYMENTS, body, headers)


def to(method: str, path: str) -> Ask:
    return lambda world, text, body, headers: _partner(world, method, path, body, headers)


def by_operator(method: str, path: str) -> Ask:
    return lambda world, text, body, headers: world.ops("ops-maker", method, path.format(Day=text), json=body)


def in_sandbox(path: str) -> Ask:
    return lambda world, text, body, headers: world.http.post(path, json=body, headers=headers)


def reading(path: str) -> Ask:
    return lambda world, text, body, headers: _customer(world, "accounts", "GET", f"{AISP}{path}", None, headers)


def of_mandate(method: str, path: str) -> Ask:
    return lambda world, text, body, headers: _partner(world, method, f"/open-banking/v4.0/pisp/{path}", None, headers)


# An operation of the contracts with a date and without a row here fails test_every_operation_with_a_date_is_tried.
SAMPLES: dict[str, tuple[Ask, Any]] = {
    "QuoteRedemption": (to("POST", "/partner/v1/redemption-quotes"), {"Data": ORDER}),
    "HoldRedemption": (hold, HOLD),
    "EnterParking": (to("POST", "/partner/v1/parking/sessions"), {"Data": {"SiteId": "lot-1", "Plate": "粤B12345"}}),
    "QuoteParking": (quote_stay, {"Data": {}}),
    "ChargeParking": (charge, {"Data": {}}),
    "CloseDay": (by_operator("POST", "/admin/v1/days/{Day}/closure"), {"Reason": "test"}),
    "GetDay": (by_operator("GET", "/admin/v1/days/{Day}"), None),
    "CalculateStatement": (by_operator("POST", "/admin/v1/statements"), {"PartnerId": "parkco", "Reason": "test"}),
    "OpenAccounts": (in_sandbox("/sandbox/v1/customers"), {"Customer": [PERSON]}),
    "MoveBusinessDate": (in_sandbox("/sandbox/v1/business-date"), {}),
    "TellCustomerEvents": (in_sandbox("/sandbox/v1/customer-events"), {"Event": [SPEND]}),
    "CreateAccountAccessConsents": (to("POST", f"{AISP}/account-access-consents"), CONSENT),
    "GetAccountAccessConsentsConsentId": (to("GET", f"{AISP}/account-access-consents/cns_none"), None),
    "DeleteAccountAccessConsentsConsentId": (to("DELETE", f"{AISP}/account-access-consents/cns_none"), None),
    "GetAccounts": (reading("/accounts"), None),
    "GetAccountsAccountId": (reading("/accounts/acc_none"), None),
    "GetAccountsAccountIdBalances": (reading("/accounts/acc_none/balances"), None),
    "GetAccountsAccountIdTransactions": (transactions, None),
    "domesticVrpConsentsPost": (to("POST", MANDATES), mandate_body()),
    "domesticVrpConsentsGet": (of_mandate("GET", "domestic-vrp-consents/cns_none"), None),
    "domesticVrpConsentsDelete": (of_mandate("DELETE", "domestic-vrp-consents/cns_none"), None),
    "domesticVrpConsentsFundsConfirmation": (
        lambda world, text, body, headers: _customer(
            world, "payments", "POST", f"{MANDATES}/cns_none/funds-confirmation", body, headers
        ),
        {"Data": {"ConsentId": "cns_none", "InstructedAmount": {"Amount": "1.00", "Currency": "CNY"}}},
    ),
    "domesticVrpPost": (pay, payment_body("cns_none")),
    "domesticVrpGet": (of_mandate("GET", "domestic-vrps/pay_none"), None),
    "domesticVrpPaymentDetailsGet": (of_mandate("GET", "domestic-vrps/pay_none/payment-details"), None),
}
