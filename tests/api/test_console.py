"""The operators' pages: nothing for strangers, everything readable for an operator, out as soon as the key is."""

import json

from gateway.admission.operators import revoke
from gateway.clock import now_ms
from tests.conftest import World


def key_of(world: World, operator_id: str) -> str:
    operators = json.loads((world.home / "sandbox" / "operators.json").read_text())
    return str(next(entry["key"] for entry in operators if entry["id"] == operator_id))


async def enter(world: World, key: str) -> str:
    """The session's cookie, or an empty text."""
    answer = await world.http.post("/console/login", data={"key": key})
    world.http.cookies.clear()
    return answer.headers.get("set-cookie", "").partition(";")[0]


async def test_a_stranger_sees_only_the_login_form(world: World) -> None:
    page = await world.http.get("/console")
    assert page.status_code == 200
    assert 'id="key"' in page.text
    assert "parkco" not in page.text


async def test_a_wrong_key_opens_nothing(world: World) -> None:
    answer = await world.http.post("/console/login", data={"key": "pop_nothing"})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


async def test_an_operator_sees_partners_apps_keys_campaigns_statements_and_the_trail(world: World) -> None:
    cookie = await enter(world, key_of(world, "ops-maker"))
    page = await world.http.get("/console", headers={"Cookie": cookie})
    for text in ("parkco", "shopco", "first-park", 'id="statements"', 'id="audit"', "ACTIVE"):
        assert text in page.text
    assert "script-src 'none'" in page.headers["content-security-policy"]
    assert "<script" not in page.text


async def test_a_cookie_changed_by_one_character_is_nobody(world: World) -> None:
    cookie = await enter(world, key_of(world, "ops-maker"))
    forged = cookie[:-1] + ("A" if cookie[-1] != "A" else "B")
    page = await world.http.get("/console", headers={"Cookie": forged})
    assert 'id="key"' in page.text


async def test_an_operator_whose_key_is_withdrawn_is_out_at_the_next_page(world: World) -> None:
    cookie = await enter(world, key_of(world, "ops-checker"))
    async with world.house.database.transaction() as conn:
        await revoke(conn, "ops-checker", actor="test", now_ms=now_ms())
    await world.house.foundation.feed.catch_up()
    page = await world.http.get("/console", headers={"Cookie": cookie})
    assert 'id="key"' in page.text


async def test_the_session_cookie_is_for_this_site_and_no_script(world: World) -> None:
    answer = await world.http.post("/console/login", data={"key": key_of(world, "ops-maker")})
    assert answer.status_code == 303
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=Strict" in answer.headers["set-cookie"]


async def test_a_page_that_refuses_is_as_strict_as_any_other(world: World) -> None:
    page = await world.http.get("/r/nonsense")
    assert page.status_code >= 400
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "DENY"
