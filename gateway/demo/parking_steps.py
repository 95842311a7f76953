"""Steps 4 to 6: a mandate given in the browser, a plate bound to it, cars in and out, a refund; then accounts."""

from datetime import UTC, datetime, timedelta
from typing import Any

from rich.table import Table

from gateway.demo.client import CallFailed, PartnerClient, Token
from gateway.demo.stage import AISP, PISP, V1, Stage, browse_consent, data
from gateway.demo.waiting import until
from gateway.money import parse_amount

PARKING = f"{V1}/parking"
MANDATE_LIMIT = "500.00"
PERMISSIONS = [
    "ReadAccountsDetail", "ReadBalances", "ReadTransactionsDetail", "ReadTransactionsCredits", "ReadTransactionsDebits",
]  # fmt: skip


async def give_mandate(stage: Stage) -> Table:
    """PAR, PKCE, login page, consent page, code, token; then the plate is bound to the mandate."""
    customer = (await stage.sandbox("/customers", {"Customer": [_driver(stage)]}))["Customer"][0]
    stage.notes["driver"] = customer
    consent = await create_mandate(stage.parkco, month="20000.00")
    address, verifier = await stage.parkco.push(consent["ConsentId"], kind="domestic-vrp-consent", scope="payments")
    callback = await browse_consent(stage.http, address, login=customer["Login"], passcode=customer["Passcode"])
    token = await stage.parkco.exchange(callback, verifier)
    stage.checks.expect("the code became a token of the customer's mandate", bool(token.value))
    shown = await stage.parkco.call("GET", f"{PISP}/domestic-vrp-consents/{consent['ConsentId']}")
    status = shown.json()["Data"]["Status"]
    stage.checks.expect("the mandate is authorised", status == "AUTH", status)
    agreement = await bind_plate(stage.parkco, f"沪A{stage.run[:5].upper()}", consent["ConsentId"])
    stage.checks.expect("the plate comes back masked", "*" in agreement["Plate"], agreement["Plate"])
    denied = await _deny(stage, customer)
    stage.checks.expect("a customer who says no gives no code", "error=access_denied" in denied, denied)
    table = Table("Mandate", "Status", "Plate", title="VRP mandate · 免密支付授权")
    table.add_row(consent["ConsentId"], status, agreement["Plate"])
    return table


async def create_mandate(client: PartnerClient, *, month: str) -> dict[str, Any]:
    """A VRP consent that awaits its customer."""
    body = {
        "Data": {
            "ControlParameters": {
                "MaximumIndividualAmount": {"Amount": MANDATE_LIMIT, "Currency": "CNY"},
                "PeriodicLimits": [
                    {"PeriodType": "Month", "PeriodAlignment": "Calendar", "Amount": month, "Currency": "CNY"}
                ],
                "VRPType": ["UK.OBIE.VRPType.Other"],
                "PSUAuthenticationMethods": ["UK.OBIE.SCANotRequired"],
            },
            "Initiation": {
                "CreditorAccount": {
                    "SchemeName": "CN.CNAPS.AccountNumber",
                    "Identification": "parkco-settlement",
                    "Name": "ParkCo City Parking",
                }
            },
        },
        "Risk": {},
    }
    return await data(client, "POST", f"{PISP}/domestic-vrp-consents", body=body, sign="jws")


async def bind_plate(client: PartnerClient, plate: str, consent_id: str) -> dict[str, Any]:
    body = {"Data": {"Plate": plate, "ConsentId": consent_id}}
    return await data(client, "POST", f"{PARKING}/vehicle-agreements", body=body)


async def park(stage: Stage) -> Table:
    """In for three hours, out for one fen off the best offer; a second stay; a refund; what each funder gave."""
    plate = f"沪A{stage.run[:5].upper()}"
    first = await _stay(stage, plate, hours=3.0, hours_ago=4.0)
    again = await _stay(stage, plate, hours=0.75, hours_ago=0.8)
    stage.checks.expect("the first stay has the one-fen offer", first["charge"].get("OfferId") == "first-park", first)
    off = first["charge"]["DiscountAmount"]["Amount"]
    stage.checks.expect("twenty yuan come off the first stay", off == "20.00", off)
    stage.checks.expect(
        "the offer is given once", again["charge"].get("OfferId") != "first-park", again["charge"].get("OfferId")
    )
    redemption = await data(stage.parkco, "GET", f"{V1}/redemptions/{first['charge']['RedemptionId']}")
    legs = {leg["Party"]: leg["Amount"]["Amount"] for leg in redemption["Funding"]}
    stage.checks.expect("bank and partner fund it 60 to 40", legs == {"bank": "12.00", "partner": "8.00"}, legs)
    refund = await data(
        stage.parkco, "POST", f"{PARKING}/charges/{first['charge']['ChargeId']}/refunds",
        body={"Data": {"Amount": {"Amount": "18.00", "Currency": "CNY"}}},
    )  # fmt: skip
    stage.checks.expect("half the fee is given back", refund["Status"] in ("SUCCESS", "ACCEPTED"), refund)
    redemption = await data(stage.parkco, "GET", f"{V1}/redemptions/{first['charge']['RedemptionId']}")
    back = {leg["Party"]: leg["ReversedAmount"]["Amount"] for leg in redemption["Funding"]}
    stage.checks.expect("half of each leg comes back on the original legs", _halves(legs, back), back)
    stage.notes["paid"] = first["charge"]["PayableAmount"]["Amount"]
    return _stays_table(first, again, legs, back)


async def _stay(stage: Stage, plate: str, *, hours: float, hours_ago: float) -> dict[str, Any]:
    """Entry, quote, exit."""
    entered = datetime.now(UTC) - timedelta(hours=hours_ago)
    left = entered + timedelta(hours=hours)
    session = await enter(stage.parkco, plate, "lot-1", at=entered)
    stage.checks.expect("the barrier lets the car in", session["EntryState"] == "NORMAL", session)
    path = f"{PARKING}/sessions/{session['SessionId']}"
    quote = await data(stage.parkco, "POST", f"{path}/quotes", body={"Data": {"OccurredAt": left.isoformat()}})
    charge = await leave(stage.parkco, session["SessionId"], at=left, key=f"{session['SessionId']}-out")
    stage.checks.expect("the barrier opens", charge["Status"] == "SUCCESS" and charge["OpenBarrier"], charge)
    repeated = await leave(stage.parkco, session["SessionId"], at=left, key=f"{session['SessionId']}-out")
    stage.checks.expect("a repeated charge is the same charge", repeated["ChargeId"] == charge["ChargeId"])
    return {"quote": quote, "charge": charge}


async def enter(client: PartnerClient, plate: str, site: str, *, at: datetime) -> dict[str, Any]:
    body = {"Data": {"SiteId": site, "Plate": plate, "OccurredAt": at.isoformat()}}
    return await data(client, "POST", f"{PARKING}/sessions", body=body)


async def leave(client: PartnerClient, session_id: str, *, at: datetime, key: str | None = None) -> dict[str, Any]:
    body = {"Data": {"OccurredAt": at.isoformat()}}
    return await data(client, "POST", f"{PARKING}/sessions/{session_id}/charges", body=body, key=key)


async def read_accounts(stage: Stage) -> Table:
    """With an account-access consent the partner reads accounts, balances and transactions."""
    consent = await data(
        stage.parkco, "POST", f"{AISP}/account-access-consents",
        body={"Data": {"Permissions": PERMISSIONS}, "Risk": {}},
    )  # fmt: skip
    address, verifier = await stage.parkco.push(consent["ConsentId"], kind="account-access-consent", scope="accounts")
    driver = stage.notes["driver"]
    callback = await browse_consent(stage.http, address, login=driver["Login"], passcode=driver["Passcode"])
    token = await stage.parkco.exchange(callback, verifier)
    account = (await data(stage.parkco, "GET", f"{AISP}/accounts", token=token))["Account"][0]
    stage.checks.expect("a card number is masked without ReadPAN", "*" in account["Account"][0]["Identification"])
    path = f"{AISP}/accounts/{account['AccountId']}"
    balances = (await data(stage.parkco, "GET", f"{path}/balances", token=token))["Balance"]
    rows = (await data(stage.parkco, "GET", f"{path}/transactions", token=token))["Transaction"]
    amounts = [(row["CreditDebitIndicator"], row["Amount"]["Amount"]) for row in rows]
    stage.checks.expect("the first stay was taken from the account", ("Debit", stage.notes["paid"]) in amounts, amounts)
    stage.checks.expect("the refund came back to it", ("Credit", "8.00") in amounts, amounts)
    await _read_after_end(stage, consent["ConsentId"], path, token)
    table = Table(
        "Booked", "", "Amount", "Information", title=f"{account['Nickname']} {balances[0]['Amount']['Amount']}"
    )
    for row in rows:
        table.add_row(row["BookingDateTime"], row["CreditDebitIndicator"], row["Amount"]["Amount"],
                      row.get("TransactionInformation", ""))  # fmt: skip
    return table


async def _read_after_end(stage: Stage, consent_id: str, path: str, token: Token) -> None:
    ended = await stage.parkco.call("DELETE", f"{AISP}/account-access-consents/{consent_id}")
    stage.checks.expect("the consent is ended", ended.status_code == 204, ended.status_code)

    async def refused() -> bool | None:
        return (await stage.parkco.call("GET", f"{path}/balances", token=token)).status_code in (400, 401, 403) or None

    stage.checks.expect("its token reads nothing any more, within a second",
                        await until(refused, what="the token is refused", patience_s=3))  # fmt: skip


async def _deny(stage: Stage, customer: dict[str, Any]) -> str:
    consent = await create_mandate(stage.parkco, month="100.00")
    address, _ = await stage.parkco.push(consent["ConsentId"], kind="domestic-vrp-consent", scope="payments")
    try:
        return await browse_consent(
            stage.http, address, login=customer["Login"], passcode=customer["Passcode"], decision="deny"
        )
    except CallFailed as failed:
        return str(failed)


def _driver(stage: Stage) -> dict[str, Any]:
    return {
        "Phone": stage.phone(99),
        "Name": "车主 Driver",
        "OpeningBalance": {"Amount": "10000.00", "Currency": "CNY"},
    }


def _halves(legs: dict[str, str], back: dict[str, str]) -> bool:
    return all(2 * abs(_minor(back[party])) == _minor(amount) for party, amount in legs.items())


def _minor(text: str) -> int:
    return parse_amount(text.lstrip("-"), "CNY").minor


def _stays_table(first: dict[str, Any], again: dict[str, Any], legs: dict[str, str], back: dict[str, str]) -> Table:
    table = Table("Stay", "Fee", "Off", "Paid", "Bank", "Partner", "Refunded legs", title="Parking · 停车")
    for name, stay in (("first · 首次", first), ("second · 第二次", again)):
        charge = stay["charge"]
        own = stay is first
        table.add_row(
            name, charge["FeeAmount"]["Amount"], charge["DiscountAmount"]["Amount"],
            charge["PayableAmount"]["Amount"], legs["bank"] if own else "", legs["partner"] if own else "",
            f"{back['bank']} / {back['partner']}" if own else "",
        )  # fmt: skip
    return table
