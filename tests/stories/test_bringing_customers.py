"""Two partners bring customers: a file, a scanned link, the bank's counter, and whose customer it is in the end."""

from gateway.clock import now_ms, rfc3339
from tests.api.referral_calls import V1, bank_sees, csv_file, send, token_of
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

    (owned,) = await bank_sees(world, "parkco", "?State=OWNING")
    assert owned["CustomerToken"] == await token_of(world, "parkco", SCANNED)
    trace = (await world.ops("ops-maker", "GET", f"/admin/v1/partners/parkco/claims/{owned['ClaimId']}")).json()
    assert trace["Data"]["Trace"][1]["English"] == "not shopco: signed_scan outranks batch"
    assert {claim["CustomerToken"]: claim["State"] for claim in await bank_sees(world, "shopco")} == {
        await token_of(world, "shopco", SCANNED): "LOST",
        await token_of(world, "shopco", FILED): "OWNING",
    }
    assert {claim["State"] for claim in (await shopco.call("GET", f"{V1}/claims")).json()["Data"]["Claim"]} == {
        "RECORDED"
    }
    (late,) = (await parkco.call("GET", f"{V1}/claims")).json()["Data"]["Claim"]
    assert late["CustomerToken"] == await token_of(world, "parkco", ALONE), "came alone: nobody is told"
    assert not await world.sql("SELECT FROM event WHERE type = 'goal.reached'"), "an account pays nothing by itself"

    spend = {"Kind": "SPEND", "OccurredDateTime": rfc3339(now_ms()), "Amount": {"Amount": "12.50", "Currency": "CNY"}}
    events = [{"EventId": f"spend-{phone}", "Phone": phone, **spend} for phone in (SCANNED, ALONE)]
    told = await world.http.post("/sandbox/v1/customer-events", json={"Event": events})
    assert told.status_code == 202, told.text
    await world.do_chores()
    spent = await world.sql("SELECT partner, campaign, amount_minor FROM event WHERE type = 'goal.reached'")
    assert [tuple(event) for event in spent] == [("parkco", "autumn", 1250)]
    seen = {claim["State"] for claim in (await parkco.call("GET", f"{V1}/claims")).json()["Data"]["Claim"]}
    assert seen == {"RECORDED", "PAID"}
