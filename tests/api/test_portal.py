"""The pages for developers, read as they are: each operation with its codes, and each code with its entry."""

import re

import pytest

from tests.conftest import World
from tests.contract.own import OPENAPI

NAMES = [path.stem for path in sorted(OPENAPI.glob("*.yaml"))]
LINK = re.compile(r'href="/portal/errors#([a-z_0-9]+)"')


async def page(world: World, path: str) -> str:
    answer = await world.http.get(path)
    assert answer.status_code == 200, answer.text
    return answer.text


def section(text: str, operation_id: str) -> str:
    """The part of a reference page that is about that operation."""
    _, _, rest = text.partition(f'id="{operation_id}"')
    assert rest, f"{operation_id} is not on the page"
    return rest.partition("</section>")[0]


@pytest.mark.parametrize("name", NAMES)
async def test_every_code_on_a_reference_page_has_its_entry(shared_world: World, name: str) -> None:
    linked = set(LINK.findall(await page(shared_world, f"/portal/reference/{name}")))
    entries = set(re.findall(r'<tr id="([a-z_0-9]+)">', await page(shared_world, "/portal/errors")))
    assert linked <= entries, linked - entries
    assert bool(linked) == (name != "oauth.v1"), "OAuth's errors are RFC 6749's, and have no codes of ours"


async def test_an_operation_shows_its_own_codes_and_no_others(shared_world: World) -> None:
    text = await page(shared_world, "/portal/reference/partner.v1")
    hold, lots = section(text, "HoldRedemption"), section(text, "ListParkingLots")
    assert {"offer_exhausted", "too_late", "moment_out_of_range"} <= set(LINK.findall(hold))
    assert "offer_exhausted" not in LINK.findall(lots)


async def test_a_developer_reads_how_late_a_thing_may_be_told(shared_world: World) -> None:
    text = await page(shared_world, "/portal/reference/partner.v1")
    assert "within 15 minutes" in section(text, "HoldRedemption")
    assert "late_days" in section(text, "EnterParking")
    assert "2000 to 9998" in section(text, "GetRedemption")


async def test_there_is_no_page_of_a_contract_that_is_not_there(shared_world: World) -> None:
    answer = await shared_world.http.get("/portal/reference/nothing")
    assert answer.status_code == 404
