"""Signed links through the public door: what a scan is worth, and what a forged or replayed one is not."""

from typing import Any

import pytest

from gateway.clock import now_ms
from gateway.oauth.store import revoke_bank_key
from gateway.referrals import link as rules
from gateway.referrals.store import links
from tests.api.referral_calls import PHONE, V1, activated, csv_file, opened, reach, send, token_of
from tests.conftest import World


async def make_link(world: World, **asked: Any) -> dict[str, Any]:
    answer = await world.client("parkco").call("POST", f"{V1}/referral-links", body={"Data": asked})
    assert answer.status_code == 201, answer.text
    return dict(answer.json()["Data"])


async def follow(world: World, link: dict[str, Any]) -> str:
    """Returns the scan ticket that the bank's app would get."""
    answer = await world.http.get(link["Url"])
    assert answer.status_code == 303
    address, _, ticket = answer.headers["location"].partition("?ScanTicket=")
    assert address.startswith(world.client("parkco").issuer), "the bank's own page, never another address"
    page = await world.http.get(answer.headers["location"])
    assert page.status_code == 200
    assert ticket in page.text
    return ticket


async def test_a_link_leads_to_the_bank_and_its_scan_brings_the_customer(world: World) -> None:
    link = await make_link(world, Campaign="autumn")
    ticket = await follow(world, link)
    await send(world, "shopco", csv_file(await token_of(world, "shopco", PHONE)))
    await reach(world, account := opened("e1", ticket=ticket))
    assert not (await world.client("parkco").call("GET", f"{V1}/claims")).json()["Data"]["Claim"], "not before it pays"
    await reach(world, account, activated("e2", account))
    (claim,) = (await world.client("parkco").call("GET", f"{V1}/claims")).json()["Data"]["Claim"]
    assert claim["State"] == "PAID"
    full = (await world.client("parkco").call("GET", f"{V1}/claims/{claim['ClaimId']}")).json()["Data"]
    assert full["Touch"][0]["Evidence"] == "signed_scan"
    assert full["Touch"][0]["Campaign"] == "autumn"
    assert full["Touch"][0]["ConsentReference"].startswith("scan:")
    assert [line["English"] for line in full["Trace"]][1] == "not another partner's claim: signed_scan outranks batch"
    assert full["Goal"][0]["Goal"] == "CARD_ACTIVATED"
    (event,) = await world.sql("SELECT campaign, partner FROM event WHERE type = 'goal.reached'")
    assert (event["campaign"], event["partner"]) == ("autumn", "parkco")


async def test_a_preview_of_a_link_is_no_scan(world: World) -> None:
    """HEAD, as messengers and scanners send it, was counted and left a ticket."""
    link = await make_link(world)
    looked = await world.http.head(link["Url"])
    assert (looked.status_code, "ScanTicket" in looked.headers["location"]) == (303, False)
    assert await world.sql("SELECT FROM referral_scan") == []
    assert await follow(world, link)


async def test_a_ticket_counts_once(world: World) -> None:
    ticket = await follow(world, await make_link(world))
    await reach(world, opened("e1", ticket=ticket), opened("e2", "+8613900009999", ticket=ticket))
    assert len(await world.sql("SELECT FROM referral_touch")) == 1
    outcomes = await world.sql("SELECT outcome FROM referral_goal ORDER BY bank_event_id")
    assert [row["outcome"] for row in outcomes] == ["no_commission", "nobody"]


async def test_a_made_up_ticket_and_one_from_after_the_goal_are_worth_nothing(world: World) -> None:
    ticket = await follow(world, await make_link(world))
    await reach(
        world, opened("e1", ticket="tkt_" + "A" * 27), opened("e2", "+8613900009999", ticket=ticket, after_ms=-60_000)
    )
    assert not await world.sql("SELECT FROM referral_touch")


async def test_a_forged_code_is_refused_and_leaves_no_scan(world: World) -> None:
    link = await make_link(world)
    base, _, code = link["Url"].rpartition("/")
    other = (await make_link(world))["Url"].rpartition("/")[2]
    for forged in (code[:-5] + "AAAAA", code[:26] + other[26:], other[:26] + code[26:], "x", "0" * 26 + code[26:]):
        answer = await world.http.get(f"{base}/{forged}")
        assert answer.status_code == 404, forged
    assert not await world.sql("SELECT FROM referral_scan")


async def test_a_link_signed_by_a_revoked_key_of_the_bank_leads_nowhere(world: World) -> None:
    link, keyring = await make_link(world), world.house.foundation.keyring
    kid = keyring.signing_key("link").kid
    async with world.house.database.transaction() as conn:
        await keyring.rotate(conn, "link")
    assert (await world.http.get(link["Url"])).status_code == 303, "a key that signs no more is still good"
    async with world.house.database.transaction() as conn:
        await revoke_bank_key(conn, kid, actor="test", reason="it got out", now_ms=now_ms())
        await keyring.ensure(conn)
    await world.house.foundation.feed.catch_up()  # a reading that began before may have ended after
    assert (await world.http.get(link["Url"])).status_code == 404
    await follow(world, await make_link(world))


async def test_terms_changed_in_the_database_break_the_link(world: World) -> None:
    link = await make_link(world)
    await world.sql("UPDATE referral_link SET partner_id = 'shopco'")
    assert (await world.http.get(link["Url"])).status_code == 404


async def test_an_expired_link_says_so(world: World) -> None:
    link = rules.make_link(
        world.house.foundation.keyring, partner_id="parkco", landing="open-account", campaign="", site="", life_days=1,
        now_ms=now_ms() - rules.DAY_MS,
    )  # fmt: skip
    async with world.house.database.transaction() as conn:
        await links.insert(conn, link)
    answer = await world.http.get(f"{world.client('parkco').issuer}/r/{rules.code_of(link)}")
    assert answer.status_code == 410
    assert not await world.sql("SELECT FROM referral_scan")


@pytest.mark.parametrize(
    "asked",
    [
        {"Landing": "https://evil.example"},
        {"Site": "not-a-lot"},
        {"LifeDays": 0},
        {"LifeDays": 401},
        {"Campaign": "a b"},
    ],
)
async def test_a_link_that_cannot_be_is_refused(world: World, asked: dict[str, Any]) -> None:
    answer = await world.client("parkco").call("POST", f"{V1}/referral-links", body={"Data": asked})
    assert (answer.status_code, answer.json()["code"]) == (400, "link_malformed")


async def test_making_a_link_twice_with_one_key_makes_one(world: World) -> None:
    client = world.client("parkco")
    first = await client.call("POST", f"{V1}/referral-links", body={"Data": {}}, key="k-1")
    again = await client.call("POST", f"{V1}/referral-links", body={"Data": {}}, key="k-1")
    assert first.json() == again.json()
    other = await client.call("POST", f"{V1}/referral-links", body={"Data": {"Campaign": "x"}}, key="k-1")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")


async def test_a_link_is_shown_as_svg_and_png_to_its_partner_only(world: World) -> None:
    link = await make_link(world)
    path = f"{V1}/referral-links/{link['LinkId']}"
    svg = await world.client("parkco").call("GET", f"{path}/qr")
    png = await world.client("parkco").call("GET", f"{path}/qr?Format=png")
    assert (svg.headers["content-type"], svg.content[:4]) == ("image/svg+xml", b"<svg")
    assert (png.headers["content-type"], png.content[:4]) == ("image/png", b"\x89PNG")
    assert (await world.client("parkco").call("GET", f"{path}/qr?Format=gif")).status_code == 400
    for address in (path, f"{path}/qr"):
        assert (await world.client("shopco").call("GET", address)).status_code == 404
