"""Account information through the public door: consents, what their permissions show, pages, and each no."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from gateway.accounts.api import PAGE_ROWS
from gateway.clock import now_ms, rfc3339
from gateway.corebank.port import PaymentOrder
from gateway.corebank.sandbox.bank import Clock, SandboxBank
from gateway.corebank.sandbox.people import DEMO_OPENING_MINOR
from gateway.demo.client import CallFailed, Token
from gateway.money import Money
from tests.conftest import CONSENTS, ISSUER, World, past_all_rules

BASE = "/open-banking/v4.0/aisp"
CONSENT_PATH = f"{BASE}/account-access-consents"
KIND = CONSENTS["accounts"][0]
BASIC = ["ReadAccountsBasic", "ReadTransactionsBasic", "ReadTransactionsCredits", "ReadTransactionsDebits"]
DETAIL = ["ReadAccountsDetail", "ReadBalances", "ReadTransactionsDetail", "ReadTransactionsDebits"]
HOUR_MS = 3_600_000


async def ask(world: World, permissions: list[str], *, partner_id: str = "parkco", **data: Any) -> httpx.Response:
    body = {"Data": {"Permissions": permissions, **data}, "Risk": {}}
    return await world.client(partner_id).call("POST", CONSENT_PATH, body=body)


async def asked(world: World, permissions: list[str], **data: Any) -> str:
    made = await ask(world, permissions, **data)
    assert made.status_code == 201, made.text
    return str(made.json()["Data"]["ConsentId"])


async def given(world: World, permissions: list[str], **data: Any) -> Token:
    """The token of a consent that demo customer 1 has given."""
    consent_id = await asked(world, permissions, **data)
    return await world.client("parkco").approve(consent_id, kind=KIND, scope="accounts")


async def read(world: World, path: str, token: Token | None = None, *, partner_id: str = "parkco") -> httpx.Response:
    return await world.client(partner_id).call("GET", path, token=token)


async def own_account(world: World, login: str = "demo-1") -> Mapping[str, Any]:
    """By the bank's own book."""
    [row] = await world.sql(
        """SELECT account_id, customer_id, identification, a.holder FROM sandbox_bank.account a
           JOIN sandbox_bank.customer c USING (customer_id) WHERE login = $1""",
        login,
    )
    found: Mapping[str, Any] = row
    return found


async def spend(world: World, *, minor: int, times: int = 1) -> None:
    """The demo customer pays, at the bank itself."""
    bank = SandboxBank(world.house.foundation.bank, Clock(now_ms))
    account = await own_account(world)
    for number in range(times):
        order = PaymentOrder(
            f"pay_{minor}_{number}", account["account_id"], "parkco-settlement", Money(minor, "CNY"), f"stay {number}",
            "7523", now_ms() + HOUR_MS,
        )  # fmt: skip
        assert (await bank.post_payment(order)).status == "ACSC"


def refused(response: httpx.Response, *, status: int, code: str) -> None:
    assert response.status_code == status, response.text
    assert [error["ErrorCode"] for error in response.json()["Errors"]] == [code], response.text


# --- consents ----------------------------------------------------------------------------------------------------
async def test_a_consent_is_made_read_given_and_ended(world: World) -> None:
    until = rfc3339(now_ms() + HOUR_MS)
    made = await ask(world, BASIC, ExpirationDateTime=until)
    data = made.json()["Data"]
    assert (data["Status"], data["Permissions"], data["ExpirationDateTime"]) == ("AWAU", BASIC, until)
    path = f"{CONSENT_PATH}/{data['ConsentId']}"
    assert made.json()["Links"]["Self"] == ISSUER + path
    token = await world.client("parkco").approve(data["ConsentId"], kind=KIND, scope="accounts")
    assert (await read(world, path)).json()["Data"]["Status"] == "AUTH"
    assert (await read(world, f"{BASE}/accounts", token)).status_code == 200
    ended = await world.client("parkco").call("DELETE", path)
    assert (ended.status_code, ended.content) == (204, b"")
    await world.house.foundation.feed.catch_up()
    assert (await read(world, f"{BASE}/accounts", token)).status_code == 401
    refused(await read(world, path), status=400, code="U011")
    refused(await world.client("parkco").call("DELETE", path), status=400, code="U011")


@pytest.mark.parametrize(
    "permissions", [[], ["ReadBalances"], ["ReadAccountsBasic", "ReadTransactionsBasic"], ["ReadNothing"]], ids=str
)
async def test_permissions_that_do_not_fit_together_make_no_consent(
    shared_world: World, permissions: list[str]
) -> None:
    before = await shared_world.sql("SELECT count(*) FROM consent")
    refused(await ask(shared_world, permissions), status=400, code="U002")
    assert await shared_world.sql("SELECT count(*) FROM consent") == before


@pytest.mark.parametrize("moment", ["2020-01-01T00:00:00Z", "2090-01-01T00:00:00"], ids=["past", "no zone"])
async def test_an_end_that_cannot_be_used_makes_no_consent(shared_world: World, moment: str) -> None:
    refused(await ask(shared_world, BASIC, ExpirationDateTime=moment), status=400, code="U003")


async def test_a_consent_whose_time_is_over_says_so(world: World) -> None:
    consent_id = await asked(world, BASIC, ExpirationDateTime=rfc3339(now_ms() + HOUR_MS))
    token = await world.client("parkco").approve(consent_id, kind=KIND, scope="accounts")
    async with past_all_rules(world.url) as conn:
        await conn.execute("UPDATE consent SET expires_ms = $1", now_ms() - 1)
    assert (await read(world, f"{CONSENT_PATH}/{consent_id}")).json()["Data"]["Status"] == "EXPD"
    refused(await read(world, f"{BASE}/accounts", token), status=400, code="U009")
    ended = await world.client("parkco").call("DELETE", f"{CONSENT_PATH}/{consent_id}")
    refused(ended, status=400, code="U009")


async def test_another_partners_consent_is_neither_read_nor_ended(shared_world: World) -> None:
    path = f"{CONSENT_PATH}/{await asked(shared_world, BASIC)}"
    refused(await read(shared_world, path, partner_id="shopco"), status=403, code="D002")
    refused(await shared_world.client("shopco").call("DELETE", path), status=403, code="D002")
    assert (await read(shared_world, path)).json()["Data"]["Status"] == "AWAU"


async def test_a_mandate_is_no_account_access_consent(shared_world: World) -> None:
    _, path, body = CONSENTS["payments"]
    made = await shared_world.client("parkco").call("POST", path, body=body, sign="jws")
    consent_id = made.json()["Data"]["ConsentId"]
    refused(await read(shared_world, f"{CONSENT_PATH}/{consent_id}"), status=400, code="U011")
    with pytest.raises(CallFailed):
        await shared_world.client("parkco").approve(consent_id, kind="domestic-vrp-consent", scope="accounts payments")


# --- accounts and balances ---------------------------------------------------------------------------------------
async def test_basic_and_detail_show_other_fields(shared_world: World) -> None:
    account = await own_account(shared_world)
    basic, detail, pan = [
        (await read(shared_world, f"{BASE}/accounts", await given(shared_world, permissions))).json()["Data"]["Account"]
        for permissions in (BASIC, DETAIL, [*DETAIL, "ReadPAN"])
    ]
    number = account["identification"]
    assert [shown["AccountId"] for shown in (*basic, *detail, *pan)] == [account["account_id"]] * 3
    assert "Account" not in basic[0]
    [masked], [full] = detail[0]["Account"], pan[0]["Account"]
    assert (masked["Identification"], full["Identification"]) == (f"{number[:6]}******{number[-4:]}", number)
    assert number not in json.dumps([basic, detail])


async def test_one_account_is_read_by_its_id(shared_world: World) -> None:
    token, account = await given(shared_world, BASIC), await own_account(shared_world)
    path = f"{BASE}/accounts/{account['account_id']}"
    response = await read(shared_world, path, token)
    assert [each["AccountId"] for each in response.json()["Data"]["Account"]] == [account["account_id"]]
    assert response.json()["Links"]["Self"] == ISSUER + path


async def test_a_balance_says_what_was_true_and_when(shared_world: World) -> None:
    token, account = await given(shared_world, DETAIL), await own_account(shared_world, "demo-1")
    path = f"{BASE}/accounts/{account['account_id']}/balances"
    before_ms = now_ms()
    first, again = [await read(shared_world, path, token) for _ in range(2)]
    kinds = {each["Type"]: each for each in first.json()["Data"]["Balance"]}
    assert kinds.keys() == {"ITBD", "ITAV"}
    assert kinds["ITAV"]["Amount"] == {"Amount": Money(DEMO_OPENING_MINOR, "CNY").text, "Currency": "CNY"}
    assert kinds["ITAV"]["CreditDebitIndicator"] == "Credit"
    assert rfc3339(before_ms - 1_000) <= kinds["ITAV"]["DateTime"] <= rfc3339(now_ms())
    assert again.content == first.content


async def test_a_balance_follows_a_payment_at_once(world: World) -> None:
    token, account = await given(world, DETAIL), await own_account(world)
    path = f"{BASE}/accounts/{account['account_id']}/balances"
    await read(world, path, token)
    mandate_token = await world.customer_token("payments")
    mandate_id = (await world.sql("SELECT consent_id FROM consent WHERE kind = 'domestic-vrp'"))[0]["consent_id"]
    account_of_parkco = {
        "SchemeName": "CN.CNAPS.AccountNumber", "Identification": "parkco-settlement", "Name": "ParkCo",
    }  # fmt: skip
    body = {
        "Data": {
            "ConsentId": mandate_id, "PSUAuthenticationMethod": "UK.OBIE.SCANotRequired",
            "VRPType": "UK.OBIE.VRPType.Other", "Initiation": {},
            "Instruction": {
                "InstructionIdentification": "i", "EndToEndIdentification": "e", "CreditorAccount": account_of_parkco,
                "InstructedAmount": {"Amount": "12.50", "Currency": "CNY"},
            },
        },
        "Risk": CONSENTS["payments"][2]["Risk"],
    }  # fmt: skip
    paid = await world.client("parkco").call(
        "POST", "/open-banking/v4.0/pisp/domestic-vrps", token=mandate_token, body=body, sign="jws"
    )
    assert paid.json()["Data"]["Status"] == "ACSC", paid.text
    shown = (await read(world, path, token)).json()["Data"]["Balance"][0]["Amount"]["Amount"]
    assert shown == Money(DEMO_OPENING_MINOR - 1_250, "CNY").text


@pytest.mark.parametrize("rest", ["", "/balances", "/transactions"])
async def test_an_account_that_was_not_shared_is_not_read(shared_world: World, rest: str) -> None:
    token = await given(shared_world, DETAIL)
    other = await own_account(shared_world, "demo-2")
    for account_id in (other["account_id"], "acc_unknown"):
        refused(await read(shared_world, f"{BASE}/accounts/{account_id}{rest}", token), status=403, code="D002")


async def test_without_its_permission_nothing_is_read(shared_world: World) -> None:
    token, account = await given(shared_world, ["ReadAccountsBasic"]), await own_account(shared_world)
    for rest in ("balances", "transactions"):
        path = f"{BASE}/accounts/{account['account_id']}/{rest}"
        refused(await read(shared_world, path, token), status=403, code="D008")


async def test_the_apps_own_token_reads_no_account(shared_world: World) -> None:
    account = await own_account(shared_world)
    for rest in ("", f"/{account['account_id']}", f"/{account['account_id']}/balances"):
        answer = await read(shared_world, f"{BASE}/accounts{rest}")
        assert (answer.status_code, answer.content) == (401, b"")
        assert answer.headers["www-authenticate"].startswith("DPoP ")


# --- transactions ------------------------------------------------------------------------------------------------
async def test_credits_and_debits_decide_which_rows_and_detail_which_fields(world: World) -> None:
    await spend(world, minor=250)
    account = await own_account(world)
    path = f"{BASE}/accounts/{account['account_id']}/transactions"
    both = (await read(world, path, await given(world, BASIC))).json()["Data"]["Transaction"]
    assert [row["CreditDebitIndicator"] for row in both] == ["Credit", "Debit"]
    assert all("Balance" not in row and "TransactionInformation" not in row for row in both)
    [debit] = (await read(world, path, await given(world, DETAIL))).json()["Data"]["Transaction"]
    assert (debit["Amount"]["Amount"], debit["TransactionInformation"]) == ("2.50", "stay 0")
    assert debit["MerchantDetails"] == {"MerchantCategoryCode": "7523"}
    assert debit["Balance"]["Amount"]["Amount"] == Money(DEMO_OPENING_MINOR - 250, "CNY").text


async def test_pages_follow_each_other_and_end(world: World) -> None:
    await spend(world, minor=1, times=PAGE_ROWS)
    token, account = await given(world, BASIC), await own_account(world)
    first = (await read(world, f"{BASE}/accounts/{account['account_id']}/transactions", token)).json()
    following = urlsplit(first["Links"]["Next"])
    assert f"{following.scheme}://{following.netloc}" == ISSUER
    second = (await read(world, f"{following.path}?{following.query}", token)).json()
    assert "Next" not in second["Links"]
    pages = [first["Data"]["Transaction"], second["Data"]["Transaction"]]
    assert [len(page) for page in pages] == [PAGE_ROWS, 1]
    assert len({row["TransactionId"] for page in pages for row in page}) == PAGE_ROWS + 1


@pytest.mark.parametrize("page", ["x", "LTE", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5", "%00", "4pSA"])
async def test_a_page_that_was_never_handed_out_is_refused(shared_world: World, page: str) -> None:
    token, account = await given(shared_world, BASIC), await own_account(shared_world)
    path = f"{BASE}/accounts/{account['account_id']}/transactions?page={page}"
    assert (await read(shared_world, path, token)).status_code == 400


async def test_only_the_period_that_was_asked_for_and_allowed_is_shown(world: World) -> None:
    await spend(world, minor=250)
    account = await own_account(world)
    path = f"{BASE}/accounts/{account['account_id']}/transactions"
    yesterday, tomorrow = rfc3339(now_ms() - 24 * HOUR_MS), rfc3339(now_ms() + 24 * HOUR_MS)
    free = await given(world, BASIC)
    bound = await given(world, BASIC, TransactionFromDateTime=yesterday, TransactionToDateTime=tomorrow)

    async def count(token: Token, **query: str) -> int:
        text = "&".join(f"{name}BookingDateTime={value}" for name, value in query.items())
        response = await read(world, f"{path}?{text}" if text else path, token)
        return len(response.json()["Data"].get("Transaction", ()))

    assert await count(free) == 2
    assert await count(bound) == 1
    assert await count(free, **{"from": yesterday}) == 1
    assert await count(free, to=yesterday) == 1
    assert await count(bound, to=yesterday) == 0
    assert await count(bound, **{"from": "2020-01-01T00:00:00"}) == 1  # no more than the customer allowed


async def test_a_date_that_is_none_is_refused(shared_world: World) -> None:
    token, account = await given(shared_world, BASIC), await own_account(shared_world)
    path = f"{BASE}/accounts/{account['account_id']}/transactions?fromBookingDateTime=yesterday"
    refused(await read(shared_world, path, token), status=400, code="U003")
