"""Two partners bring customers: a file, a scanned link, the bank's counter, and whose customer it is in the end."""

from gateway.clock import now_ms, rfc3339
from tests.api.referral_calls import V1, csv_file, send, token_of
from tests.conftest import World

SCANNED, FILED, ALONE = "+8613700000001", "+8613700000002", "+8613700000003"


async def test_a_scan_beats_a_file_and_spending_follows_the_owner(world: World) -> None:
    parkco, shopco = world.client("parkco"), world.client("shopco")
    link = (await parkco.call("POST", f"{V1}/referral-links", body={"Data": {"Campaign": "autumn"}})).json()["Data"]
    ticket = (await world.http.get(link["Url"])).headers["location"].partition("ScanTicket=")[2]
    await send(world, "shopco", csv_file(*[await token_of(world, "shopco", phone) for phone in (SCANNED, FILED)]))

    people = [{"Phone": SCANNED, "ScanTicket": ticket}, {"Phone": FILED}, {"Phone": ALONE}]
    opened = await world.http.post("/sandbox/v1/customers", json={"Customer": people})
    assert opened.status_code == 201, opened.text
    await world.do_chores()
    await send(world, "parkco", csv_file(await token_of(world, "parkco", ALONE)))

    owned = (await parkco.call("GET", f"{V1}/claims?State=OWNING")).json()["Data"]["Claim"]
    assert [claim["CustomerToken"] for claim in owned] == [await token_of(world, "parkco", SCANNED)]
    trace = (await parkco.call("GET", f"{V1}/claims/{owned[0]['ClaimId']}")).json()["Data"]["Trace"]
    assert trace[1]["English"] == "not another partner's claim: signed_scan outranks batch"
    theirs = (await shopco.call("GET", f"{V1}/claims")).json()["Data"]["Claim"]
    assert {claim["CustomerToken"]: claim["State"] for claim in theirs} == {
        await token_of(world, "shopco", SCANNED): "LOST",
        await token_of(world, "shopco", FILED): "OWNING",
    }
    (late,) = (await parkco.call("GET", f"{V1}/claims?State=ELIGIBLE")).json()["Data"]["Claim"]
    assert late["CustomerToken"] == await token_of(world, "parkco", ALONE), "came alone: nobody is told"
    goals = await world.sql("SELECT partner, campaign FROM event WHERE type = 'goal.reached' ORDER BY partner")
    assert [(goal["partner"], goal["campaign"]) for goal in goals] == [("parkco", "autumn"), ("shopco", None)]

    spend = {"Kind": "SPEND", "OccurredDateTime": rfc3339(now_ms()), "Amount": {"Amount": "12.50", "Currency": "CNY"}}
    events = [{"EventId": f"spend-{phone}", "Phone": phone, **spend} for phone in (SCANNED, ALONE)]
    told = await world.http.post("/sandbox/v1/customer-events", json={"Event": events})
    assert told.status_code == 202, told.text
    await world.do_chores()
    spent = await world.sql("SELECT partner, amount_minor FROM event WHERE type = 'goal.reached' AND amount_minor > 0")
    assert [(event["partner"], event["amount_minor"]) for event in spent] == [("parkco", 1250)]
