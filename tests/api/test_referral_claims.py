"""Identity keys and claims through the public door: what a partner reads, and what it does not."""

from base64 import urlsafe_b64decode
from dataclasses import replace

from gateway.clock import now_ms
from tests.api.referral_calls import PHONE, V1, activated, bank_sees, csv_file, opened, reach, send, token_of
from tests.conftest import World


async def test_a_partner_gets_its_own_key_and_always_the_same(world: World) -> None:
    first = (await world.client("parkco").call("GET", f"{V1}/identity-keys")).json()["Data"]
    again = (await world.client("parkco").call("GET", f"{V1}/identity-keys")).json()["Data"]
    other = (await world.client("shopco").call("GET", f"{V1}/identity-keys")).json()["Data"]
    assert first == again
    assert first["IdentityKey"][0]["Key"] != other["IdentityKey"][0]["Key"]
    assert first["Example"]["CustomerToken"] == await token_of(world, "parkco", first["Example"]["Phone"])
    sealed = await world.sql("SELECT key_sealed FROM identity_key")
    assert urlsafe_b64decode(first["IdentityKey"][0]["Key"] + "=") not in [row["key_sealed"] for row in sealed]


async def test_a_claim_shows_its_fate_once_it_pays_and_not_before(world: World) -> None:
    await send(world, "parkco", csv_file(await token_of(world, "parkco", PHONE)))
    client, account = world.client("parkco"), opened("e1")
    (claim,) = (await client.call("GET", f"{V1}/claims")).json()["Data"]["Claim"]
    path = f"{V1}/claims/{claim['ClaimId']}"
    before = (await client.call("GET", path)).json()
    await reach(world, account)
    assert [seen["State"] for seen in await bank_sees(world, "parkco")] == ["OWNING"]
    assert (await client.call("GET", path)).json() == before, "an account opened pays nothing here: nothing is told"
    assert not await world.sql("SELECT FROM event WHERE partner = 'parkco' AND type IN ('goal.reached', 'claim.owned')")
    await reach(world, account, activated("e2", account))
    paid = (await client.call("GET", path)).json()["Data"]
    assert paid["State"] == "PAID"
    assert [goal["Goal"] for goal in paid["Goal"]] == ["CARD_ACTIVATED"]
    assert [line["Code"] for line in paid["Trace"]] == ["won"]
    assert [seen["ClaimId"] for seen in (await client.call("GET", f"{V1}/claims?State=PAID")).json()["Data"]["Claim"]]


async def test_a_loser_is_not_told_and_the_bank_reads_why(world: World) -> None:
    await send(world, "shopco", csv_file(await token_of(world, "shopco", PHONE), touched_ms=now_ms() - 120_000))
    await send(world, "parkco", csv_file(await token_of(world, "parkco", PHONE), touched_ms=now_ms() - 60_000))
    (mine,) = (await world.client("shopco").call("GET", f"{V1}/claims")).json()["Data"]["Claim"]
    path = f"{V1}/claims/{mine['ClaimId']}"
    before = (await world.client("shopco").call("GET", path)).json()
    await reach(world, account := opened("e1"), activated("e2", account))
    assert (await world.client("shopco").call("GET", path)).json() == before
    (lost,) = await bank_sees(world, "shopco", "?State=LOST")
    full = await world.ops("ops-checker", "GET", f"/admin/v1/partners/shopco/claims/{lost['ClaimId']}")
    trace = full.json()["Data"]["Trace"]
    assert [line["Code"] for line in trace] == ["won", "later_touch_counts"]
    assert trace[1]["Chinese"] == "shopco未获归属：同级证据以较晚的触达为准"
    assert PHONE not in full.text
    assert "cus-" not in full.text


async def test_a_sprayed_list_of_the_bank_s_customers_owns_nobody_and_learns_nothing(world: World) -> None:
    """30 people bank here; a file names them among 30 others; then the 30 activate cards and spend."""
    phones = [f"+861390000{n:04d}" for n in range(60)]
    accounts = [opened(f"a{n:02d}", phone, after_ms=-200_000) for n, phone in enumerate(phones[:30])]
    await reach(world, *accounts)
    tokens = [await token_of(world, "parkco", phone) for phone in phones]
    batch = await send(world, "parkco", csv_file(*tokens))
    assert batch["Counts"] == {"OK": 60, "ERROR": 0, "EXCLUDED": 0}
    await reach(world, *[activated(f"c{n:02d}", account) for n, account in enumerate(accounts)])
    assert not await world.sql("SELECT FROM event WHERE type = 'goal.reached'")
    listed = (await world.client("parkco").call("GET", f"{V1}/claims")).json()["Data"]["Claim"]
    assert {claim["CustomerToken"] for claim in listed} == set(tokens)
    assert len({(claim["State"], claim["RecordedDateTime"], claim["ExpirationDateTime"]) for claim in listed}) == 1
    excluded = await bank_sees(world, "parkco", "?State=EXCLUDED")
    assert {claim["CustomerToken"] for claim in excluded} == set(tokens[:30])
    assert {claim["Reason"] for claim in excluded} == {"had_account"}


async def test_counts_before_pay_come_in_tens(world: World) -> None:
    phones = [f"+861390000{n:04d}" for n in range(21)]
    await send(world, "parkco", csv_file(*[await token_of(world, "parkco", phone) for phone in phones]))
    for brought, shown in ((0, 0), (9, 0), (10, 10), (19, 10), (20, 20)):
        await reach(world, *[opened(f"{brought:02d}-{n:02d}", phone) for n, phone in enumerate(phones[:brought])])
        counts = (await world.client("parkco").call("GET", f"{V1}/claims/summary")).json()["Data"]
        assert counts == {"Recorded": 21, "Brought": shown, "Paid": 0, "Floor": 10}
    assert (await world.client("parkco").call("GET", f"{V1}/claims/summary?State=PAID")).status_code == 400


async def test_claims_come_in_pages_and_no_filter_probes_them(world: World) -> None:
    tokens = [await token_of(world, "parkco", f"+861390000{n:04d}") for n in range(5)]
    await send(world, "parkco", csv_file(*tokens))
    client, address, seen = world.client("parkco"), f"{V1}/claims?Limit=2&State=RECORDED", []
    while address:
        answer = (await client.call("GET", address)).json()
        seen += [claim["CustomerToken"] for claim in answer["Data"]["Claim"]]
        address = answer["Links"].get("Next", "").removeprefix(client.issuer)
    assert sorted(seen) == sorted(tokens)
    assert (await client.call("GET", f"{V1}/claims?State=PAID")).json()["Data"]["Claim"] == []
    for state in ("ELIGIBLE", "OWNING", "LOST", "EXCLUDED", "MINE"):
        assert (await client.call("GET", f"{V1}/claims?State={state}")).status_code == 400
    assert len(await bank_sees(world, "parkco", "?State=ELIGIBLE&Limit=3")) == 3
    refused = await world.ops("ops-maker", "GET", "/admin/v1/partners/parkco/claims?State=MINE")
    assert (refused.status_code, refused.json()["code"]) == (400, "query_malformed")


async def test_operators_see_what_of_the_feed_cannot_be(world: World) -> None:
    await reach(world, replace(opened("e1"), phone="unknown"), replace(opened("e2"), amount_minor=-1))
    answer = await world.ops("ops-maker", "GET", "/admin/v1/goals-set-aside?Limit=1")
    (newest,) = answer.json()["Data"]["GoalSetAside"]
    assert (newest["BankEventId"], newest["Reason"]) == ("e2", "amount_malformed")
    path = f"/admin/v1/goals-set-aside?Cursor={answer.json()['Data']['NextCursor']}"
    (older,) = (await world.ops("ops-maker", "GET", path)).json()["Data"]["GoalSetAside"]
    assert (older["BankEventId"], older["Reason"]) == ("e1", "phone_malformed")
    assert (await world.ops("ops-maker", "GET", "/admin/v1/goals-set-aside?Cursor=x")).status_code == 400
    assert (await world.client("parkco").call("GET", "/admin/v1/goals-set-aside")).status_code == 401


async def test_another_partner_s_claim_is_unknown(world: World) -> None:
    await send(world, "parkco", csv_file(await token_of(world, "parkco", PHONE)))
    (claim,) = (await world.client("parkco").call("GET", f"{V1}/claims")).json()["Data"]["Claim"]
    answer = await world.client("shopco").call("GET", f"{V1}/claims/{claim['ClaimId']}")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_resource")
