"""Steps 4 to 6: a mandate given in the browser, plates bound to mandates, cars in and out, a refund; then accounts."""

from datetime import UTC, datetime, timedelta
from typing import Any

from rich.table import Table

from gateway.demo.client import CallFailed, PartnerClient, Token
from gateway.demo.stage import AISP, PISP, V1, Stage, browse_consent, data
from gateway.demo.waiting import until
from gateway.money import amount_json, parse_amount

PARKING = f"{V1}/parking"
MANDATE_LIMIT = "500.00"
PERMISSIONS = [
    "ReadAccountsDetail", "ReadBalances", "ReadTransactionsDetail", "ReadTransactionsCredits", "ReadTransactionsDebits",
]  # fmt: skip


async def give_mandate(stage: Stage) -> Table:
    """PAR, PKCE, login page, consent page, code, token; then the plate is bound to the mandate.

    A second driver gives one, too, by the sandbox's short way: the welcome offer is given once to a customer.
    """
    people = [_driver(stage, number) for number in (99, 98)]
    customer, second = (await stage.sandbox("/customers", {"Customer": people}))["Customer"]
    stage.notes["driver"] = customer
    consent = await create_mandate(stage.parkco, month="20000.00")
    address, verifier = await stage.parkco.push(consent["ConsentId"], kind="domestic-vrp-consent", scope="payments")
    callback = await browse_consent(stage.http, address, login=customer["Login"], passcode=customer["Passcode"])
    token = await stage.parkco.exchange(callback, verifier)
    stage.checks.expect("the code became a token of the customer's mandate", bool(token.value))
    shown = await stage.parkco.call("GET", f"{PISP}/domestic-vrp-consents/{consent['ConsentId']}")
    status = shown.json()["Data"]["Status"]
    stage.checks.expect("the mandate is authorised", status == "AUTH", status)
    agreement = await bind_plate(stage.parkco, _plate(stage, "A"), consent["ConsentId"])
    other = (await create_mandate(stage.parkco, month="20000.00"))["ConsentId"]
    await stage.parkco.approve(other, kind="domestic-vrp-consent", scope="payments", CustomerId=second["CustomerId"])
    await bind_plate(stage.parkco, _plate(stage, "B"), other)
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
    """Two cars: a first stay that costs one fen and a second one that does not; a first stay that costs more than the
    offer gives, and half of it back; what each funder gave."""
    first = await _stay(stage, _plate(stage, "A"), hours=1.5, hours_ago=4.0)
    again = await _stay(stage, _plate(stage, "A"), hours=0.75, hours_ago=0.8)
    longer = await _stay(stage, _plate(stage, "B"), hours=3.0, hours_ago=4.0)
    paid = [stay["PayableAmount"]["Amount"] for stay in (first, longer)]
    stage.checks.expect("both first stays have the one-fen offer",
                        {first.get("OfferId"), longer.get("OfferId")} == {"first-park"}, (first, longer))  # fmt: skip
    stage.checks.expect("the first stay costs one fen", paid[0] == "0.01", first)
    stage.checks.expect("the offer gives twenty yuan at most", paid[1] == "16.00", longer)
    stage.checks.expect("the offer is given once", again.get("OfferId") != "first-park", again.get("OfferId"))
    await _give_half_back(stage, longer)
    given = [await _legs(stage, stay) for stay in (first, longer)]
    one_fen = sum(_minor(given[0][party]["Amount"]) for party in ("bank", "partner"))
    stage.checks.expect("what came off the first stay is funded to the fen", one_fen == 1_499, given[0])
    return _stays_table([(first, given[0]), (again, {}), (longer, given[1])])


async def _give_half_back(stage: Stage, charge: dict[str, Any]) -> None:
    """Half the fee: half of what was paid goes to the customer, half of what was funded back to each funder."""
    half = amount_json(_minor(charge["FeeAmount"]["Amount"]) // 2, "CNY")
    refund = await data(
        stage.parkco, "POST", f"{PARKING}/charges/{charge['ChargeId']}/refunds", body={"Data": {"Amount": half}}
    )
    stage.checks.expect("half the fee is given back", refund["Status"] in ("SUCCESS", "ACCEPTED"), refund)
    stage.checks.expect("the customer gets half of what was paid", refund["CashAmount"]["Amount"] == "8.00", refund)
    legs = await _legs(stage, charge)
    gave = {party: leg["Amount"] for party, leg in legs.items()}
    stage.checks.expect("bank and partner fund it 60 to 40", gave == {"bank": "12.00", "partner": "8.00"}, gave)
    back = {party: leg["Back"] for party, leg in legs.items()}
    stage.checks.expect("half of each leg comes back on the original legs", _halves(gave, back), back)


async def _legs(stage: Stage, charge: dict[str, Any]) -> dict[str, dict[str, str]]:
    """What each party funds of a charge's discount, and what came back of it."""
    redemption = await data(stage.parkco, "GET", f"{V1}/redemptions/{charge['RedemptionId']}")
    return {
        leg["Party"]: {"Amount": leg["Amount"]["Amount"], "Back": leg["ReversedAmount"]["Amount"]}
        for leg in redemption["Funding"]
    }


async def _stay(stage: Stage, plate: str, *, hours: float, hours_ago: float) -> dict[str, Any]:
    """Entry, quote, exit, and the exit told again; the charge."""
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
    same = quote["FeeAmount"] == charge["FeeAmount"]
    stage.checks.expect("the fee is the one that was quoted", same, (quote, charge))
    return charge


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
    stage.checks.expect("one fen was taken from the account", ("Debit", "0.01") in amounts, amounts)
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


def _plate(stage: Stage, letter: str) -> str:
    return f"沪{letter}{stage.run[:5].upper()}"


def _driver(stage: Stage, number: int) -> dict[str, Any]:
    return {
        "Phone": stage.phone(number),
        "Name": "车主 Driver",
        "OpeningBalance": {"Amount": "10000.00", "Currency": "CNY"},
    }


def _halves(legs: dict[str, str], back: dict[str, str]) -> bool:
    return all(2 * abs(_minor(back[party])) == _minor(amount) for party, amount in legs.items())


def _minor(text: str) -> int:
    return parse_amount(text.lstrip("-"), "CNY").minor


def _stays_table(stays: list[tuple[dict[str, Any], dict[str, dict[str, str]]]]) -> Table:
    table = Table("Stay", "Fee", "Off", "Paid", "Bank", "Partner", "Refunded legs", title="Parking · 停车")
    names = ("first · 首次", "second · 第二次", "other · 另一车")
    for name, (charge, legs) in zip(names, stays, strict=True):
        gave = [legs[party]["Amount"] if legs else "" for party in ("bank", "partner")]
        back = " / ".join(legs[party]["Back"] for party in ("bank", "partner") if legs and _minor(legs[party]["Back"]))
        table.add_row(
            name, charge["FeeAmount"]["Amount"], charge["DiscountAmount"]["Amount"],
            charge["PayableAmount"]["Amount"], *gave, back,
        )  # fmt: skip
    return table
