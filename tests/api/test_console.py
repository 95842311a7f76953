"""The operators' pages: nothing for strangers, everything readable for an operator, out as soon as the key is."""

import json
from typing import Any

import httpx
import pytest

from gateway.admission.operators import revoke
from gateway.clock import now_ms
from tests.api.oauth.conftest import hidden
from tests.conftest import World


def key_of(world: World, operator_id: str) -> str:
    operators = json.loads((world.home / "sandbox" / "operators.json").read_text())
    return str(next(entry["key"] for entry in operators if entry["id"] == operator_id))


async def enter(world: World, key: str) -> str:
    """The session's cookie, or an empty text."""
    answer = await send_key(world, key)
    world.http.cookies.clear()
    return cookie_of(answer) if answer.status_code == 303 else ""


async def send_key(world: World, key: str, **headers: str) -> httpx.Response:
    """The login form as a browser sends it, with its cookie and its hidden token."""
    page = await world.http.get("/console")
    return await world.http.post("/console/login", data={**hidden(page.text), "key": key}, headers=headers)


def cookie_of(answer: httpx.Response) -> str:
    return answer.headers.get("set-cookie", "").partition(";")[0]


async def test_a_stranger_sees_only_the_login_form(world: World) -> None:
    page = await world.http.get("/console")
    assert page.status_code == 200
    assert 'id="key"' in page.text
    assert "parkco" not in page.text


async def test_a_wrong_key_opens_nothing(world: World) -> None:
    answer = await send_key(world, "pop_nothing")
    assert answer.status_code == 401
    page = await world.http.get("/console")
    assert 'id="key"' in page.text


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
        await revoke(conn, "ops-checker", actor="test", reason="test", now_ms=now_ms())
    await world.house.foundation.feed.catch_up()
    page = await world.http.get("/console", headers={"Cookie": cookie})
    assert 'id="key"' in page.text


async def test_the_session_cookie_is_for_this_site_and_no_script(world: World) -> None:
    answer = await send_key(world, key_of(world, "ops-maker"))
    assert answer.status_code == 303
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=Strict" in answer.headers["set-cookie"]


async def test_a_page_that_refuses_is_as_strict_as_any_other(world: World) -> None:
    page = await world.http.get("/r/nonsense")
    assert page.status_code >= 400
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "DENY"


async def trail(world: World) -> list[Any]:
    rows = await world.sql("SELECT actor, action, detail FROM audit WHERE subject = 'console' ORDER BY seq")
    return [(row["actor"], row["action"], row["detail"]["from"]) for row in rows]


async def test_a_logged_out_session_is_over_even_for_a_copy_of_its_cookie(world: World) -> None:
    cookie = await enter(world, key_of(world, "ops-maker"))
    page = await world.http.get("/console", headers={"Cookie": cookie})
    assert 'id="logout"' in page.text
    out = await world.http.post("/console/logout", data=hidden(page.text), headers={"Cookie": cookie})
    assert out.status_code == 303
    assert "Max-Age=0" in out.headers["set-cookie"]
    again = await world.http.get("/console", headers={"Cookie": cookie})
    assert 'id="key"' in again.text


async def test_a_log_out_ends_no_other_session(world: World) -> None:
    first, second = [await enter(world, key_of(world, "ops-maker")) for _ in range(2)]
    page = await world.http.get("/console", headers={"Cookie": first})
    await world.http.post("/console/logout", data=hidden(page.text), headers={"Cookie": first})
    assert 'id="logout"' in (await world.http.get("/console", headers={"Cookie": second})).text


@pytest.mark.parametrize("csrf", ["", "x" * 64, None])
async def test_a_log_in_or_log_out_that_another_site_sends_is_refused(world: World, csrf: str | None) -> None:
    """A forged log-in would have an operator work under another's name; a forged log-out is a nuisance."""
    key = key_of(world, "ops-maker")
    cookie = await enter(world, key)
    forged = {"csrf": csrf} if csrf is not None else {}
    out = await world.http.post("/console/logout", data=forged, headers={"Cookie": cookie})
    assert out.status_code == (400 if not forged else 403)
    assert 'id="logout"' in (await world.http.get("/console", headers={"Cookie": cookie})).text
    world.http.cookies.clear()
    login = await world.http.get("/console")
    assert (await world.http.post("/console/login", data={"key": key, **forged})).status_code == 403
    cross = {"Sec-Fetch-Site": "cross-site"}
    sent = {**hidden(login.text), "key": key}
    assert (await world.http.post("/console/login", data=sent, headers=cross)).status_code == 403
    world.http.cookies.clear()  # the form of one browser in another one
    assert (await world.http.post("/console/login", data=sent)).status_code == 403


async def test_log_ins_that_fail_are_audited_and_counted(world: World) -> None:
    key = key_of(world, "ops-maker")
    broken = key[:-1] + ("0" if key[-1] != "0" else "1")
    for sent in (broken, "", "pop_x"):
        assert (await send_key(world, sent)).status_code == 401
    await enter(world, key)
    assert await trail(world) == [
        *[("unknown", "operator.login_failed", "127.0.0.1")] * 3,
        ("ops-maker", "operator.login", "127.0.0.1"),
    ]
    assert key not in str(await world.sql("SELECT * FROM audit"))
    page = (await world.http.get("/metrics")).text
    assert 'parasol_logins_total{outcome="failed",who="operator"}' in page or (
        'parasol_logins_total{who="operator",outcome="failed"}' in page
    )


async def test_a_log_out_is_audited(world: World) -> None:
    cookie = await enter(world, key_of(world, "ops-checker"))
    page = await world.http.get("/console", headers={"Cookie": cookie})
    await world.http.post("/console/logout", data=hidden(page.text), headers={"Cookie": cookie})
    assert (await trail(world))[-1] == ("ops-checker", "operator.logout", "127.0.0.1")


async def test_a_customers_cookie_is_no_operators(world: World) -> None:
    cookie = await enter(world, key_of(world, "ops-maker"))
    await world.sql("UPDATE person_session SET kind = 'customer'")
    assert 'id="key"' in (await world.http.get("/console", headers={"Cookie": cookie})).text
