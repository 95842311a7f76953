"""Identity keys and claims through the public door: what a partner reads, and what it does not."""

from base64 import urlsafe_b64decode

from gateway.clock import now_ms
from tests.api.referral_calls import PHONE, V1, csv_file, opened, reach, send, token_of
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


async def test_a_loser_reads_why_and_not_to_whom(world: World) -> None:
    await send(world, "shopco", csv_file(await token_of(world, "shopco", PHONE), touched_ms=now_ms() - 120_000))
    await send(world, "parkco", csv_file(await token_of(world, "parkco", PHONE), touched_ms=now_ms() - 60_000))
    await reach(world, opened("e1"))
    (lost,) = (await world.client("shopco").call("GET", f"{V1}/claims")).json()["Data"]["Claim"]
    assert lost["State"] == "LOST"
    answer = await world.client("shopco").call("GET", f"{V1}/claims/{lost['ClaimId']}")
    trace = answer.json()["Data"]["Trace"]
    assert [line["Code"] for line in trace] == ["later_touch_counts"]
    assert trace[0]["Chinese"] == "贵方申报未获归属：同级证据以较晚的触达为准"
    assert "parkco" not in answer.text
    assert PHONE not in answer.text
    assert "cus-" not in answer.text


async def test_claims_come_in_pages_and_by_state(world: World) -> None:
    tokens = [await token_of(world, "parkco", f"+861390000{n:04d}") for n in range(5)]
    await send(world, "parkco", csv_file(*tokens))
    client, address, seen = world.client("parkco"), f"{V1}/claims?Limit=2&State=ELIGIBLE", []
    while address:
        answer = (await client.call("GET", address)).json()
        seen += [claim["CustomerToken"] for claim in answer["Data"]["Claim"]]
        address = answer["Links"].get("Next", "").removeprefix(client.issuer)
    assert sorted(seen) == sorted(tokens)
    assert (await client.call("GET", f"{V1}/claims?State=LOST")).json()["Data"]["Claim"] == []
    assert (await client.call("GET", f"{V1}/claims?State=MINE")).status_code == 400


async def test_another_partner_s_claim_is_unknown(world: World) -> None:
    await send(world, "parkco", csv_file(await token_of(world, "parkco", PHONE)))
    (claim,) = (await world.client("parkco").call("GET", f"{V1}/claims")).json()["Data"]["Claim"]
    answer = await world.client("shopco").call("GET", f"{V1}/claims/{claim['ClaimId']}")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_resource")
