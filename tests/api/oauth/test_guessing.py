"""Guessing passcodes: delays that grow, wherever the guesses come from, and no customer is locked out by it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from gateway.oauth import login_guard
from gateway.oauth.login_guard import EVERYWHERE, HERE
from gateway.policies.policy import Rate
from tests.api.oauth.conftest import Browser, Server
from tests.conftest import ISSUER

WRONG = "000000"


@pytest.fixture(autouse=True)
async def afresh(server: Server) -> None:
    await server.sql("DELETE FROM login_failure")


@asynccontextmanager
async def browser_at(server: Server, address: str) -> AsyncIterator[Browser]:
    """A browser whose connection comes from there."""
    transport = httpx.ASGITransport(app=server.edge, client=(address, 40000))
    async with httpx.AsyncClient(transport=transport, base_url=ISSUER) as http:
        yield Browser(http)


async def login_page(server: Server, browser: Browser) -> Browser:
    await browser.open(await server.push(await server.consent()))
    return browser


async def guess(server: Server, address: str, *, passcode: str = WRONG, login: str = "demo-1") -> httpx.Response:
    async with browser_at(server, address) as browser:
        return await (await login_page(server, browser)).log_in(login, passcode)


async def guess_from_everywhere(server: Server) -> None:
    for number in range(EVERYWHERE.free + 1):
        assert (await guess(server, f"198.51.100.{number + 1}")).status_code == 400


async def test_a_name_guessed_at_from_one_address_has_to_wait_longer_and_longer(server: Server) -> None:
    for _ in range(HERE.free + 1):
        assert (await guess(server, "198.51.100.1")).status_code == 400
    waits = []
    for _ in range(3):
        refused = await guess(server, "198.51.100.1")
        assert refused.status_code == 429
        waits.append(int(refused.headers["retry-after"]))
        await server.sql("UPDATE login_failure SET next_ms = 0")  # as if the time were over
        assert (await guess(server, "198.51.100.1")).status_code == 400
    assert waits[2] > waits[1] > waits[0]


async def test_a_wait_of_a_clock_that_has_gone_back_a_day_is_over_and_the_count_goes_on(server: Server) -> None:
    for _ in range(HERE.free + 1):
        await guess(server, "198.51.100.7")
    assert (await guess(server, "198.51.100.7")).status_code == 429
    await server.sql("UPDATE login_failure SET last_ms = last_ms + 86400000, next_ms = next_ms + 86400000")
    assert (await guess(server, "198.51.100.7")).status_code == 400
    assert (await guess(server, "198.51.100.7")).status_code == 429, "it has failed once more"


async def test_a_right_passcode_during_the_wait_tells_nothing(server: Server) -> None:
    for _ in range(HERE.free + 1):
        await guess(server, "198.51.100.1")
    assert (await guess(server, "198.51.100.1", passcode="246810")).status_code == 429


async def test_guesses_at_once_are_counted_one_by_one(server: Server) -> None:
    async with AsyncExitStack() as stack:
        browsers = [
            await login_page(server, await stack.enter_async_context(browser_at(server, "198.51.100.1")))
            for _ in range(16)
        ]
        found = await asyncio.gather(*(browser.log_in("demo-1", WRONG) for browser in browsers))
    assert sorted(page.status_code for page in found) == [400] * (HERE.free + 1) + [429] * (15 - HERE.free)


async def test_guesses_from_many_addresses_wait_too_but_not_the_browser_that_the_customer_knows(server: Server) -> None:
    """The lock-out that an attacker cannot turn against a customer: it is for strangers."""
    async with browser_at(server, "203.0.113.5") as own:
        await login_page(server, own)
        assert (await own.log_in()).status_code == 303
        await guess_from_everywhere(server)
        assert (await guess(server, "192.0.2.200")).status_code == 429
        assert (await guess(server, "192.0.2.200", login="demo-2", passcode="246810")).status_code == 303
        await login_page(server, own)
        assert (await own.log_in()).status_code == 303  # at once, though strangers wait


async def test_one_address_that_tries_many_names_uses_up_nobody_elses_log_ins(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every name has its own count, so that only the address holds such an address up, and not what is its client's."""
    monkeypatch.setattr(login_guard, "ADDRESS_LOGINS", Rate(1, 4))
    monkeypatch.setattr(login_guard, "CLIENT_LOGINS", Rate(1, 10))
    found = [(await guess(server, "198.51.100.77", login=f"name-{number}")).status_code for number in range(14)]
    assert (found[:4], 429 in found[4:]) == ([400] * 4, True)
    assert (await guess(server, "203.0.113.77", passcode="246810")).status_code == 303


async def test_customers_behind_one_address_who_get_it_right_do_not_use_it_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mobile network shows thousands of customers under one address."""
    monkeypatch.setattr(login_guard, "ADDRESS_LOGINS", Rate(1, 3))
    for number in range(12):
        name = f"demo-{number % 4 + 1}"
        assert (await guess(server, "198.51.100.91", login=name, passcode="246810")).status_code == 303
    answers = {(await guess(server, "198.51.100.91", login=f"nobody-{number}")).status_code for number in range(6)}
    assert answers == {400, 429}


async def test_a_known_browser_has_a_count_of_its_own(server: Server) -> None:
    """Or a stolen phone could guess without end."""
    async with browser_at(server, "203.0.113.5") as own:
        await login_page(server, own)
        await own.log_in()
        for _ in range(HERE.free + 1):
            await login_page(server, own)
            assert (await own.log_in(passcode=WRONG)).status_code == 400
        await login_page(server, own)
        assert (await own.log_in()).status_code == 429


@pytest.mark.parametrize("cookie", ["x.y", "known.", ".", "a" * 3000, '%C3%A9."x"'])
async def test_a_made_up_proof_of_a_known_browser_is_none(server: Server, cookie: str) -> None:
    await guess_from_everywhere(server)
    async with browser_at(server, "192.0.2.200") as stranger:
        await login_page(server, stranger)
        own = stranger.http.cookies["parasol"]
        stranger.http.cookies.clear()
        stranger.http.headers["cookie"] = f"parasol={own}; parasol-known={cookie}"
        assert (await stranger.log_in()).status_code == 429


async def test_a_proof_of_another_customers_browser_is_none(server: Server) -> None:
    async with browser_at(server, "203.0.113.5") as own:
        await login_page(server, own)
        await own.log_in("demo-2")
        await guess_from_everywhere(server)
        await login_page(server, own)
        assert (await own.log_in("demo-1")).status_code == 429


async def test_a_customer_who_gets_it_right_is_forgiven(server: Server) -> None:
    for _ in range(HERE.free):
        await guess(server, "203.0.113.5")
    assert (await guess(server, "203.0.113.5", passcode="246810")).status_code == 303
    for _ in range(HERE.free):
        assert (await guess(server, "203.0.113.5")).status_code == 400


async def test_the_counts_tell_nobody_who_was_guessed_at(server: Server) -> None:
    await guess(server, "198.51.100.1")
    rows: list[Any] = await server.sql("SELECT key FROM login_failure")
    assert len(rows) == 2
    assert "demo-1" not in str(rows)
    assert "198.51.100.1" not in str(rows)
