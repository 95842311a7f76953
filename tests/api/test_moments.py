"""Every time and day that a caller can name, at its extremes: an answer with a name, never a failure, nothing poisoned.

The places come from the contracts, ours and the standard's; SAMPLES says how to call each of their operations.
"""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from gateway.clock import EARLIEST_MS, END_MS, local_day, now_ms
from gateway.events.outbox import BANK_ZONE
from gateway.routes import OPERATIONS
from tests.api.moment_calls import PERSON, SAMPLES, charge
from tests.conftest import World
from tests.contract import obuk
from tests.contract.moments import Place, own_places, standard_places

MINUTE_MS, DAY_MS = 60_000, 86_400_000
UNESCAPED = ":"  # what a path may hold as it is (RFC 3986 §3.3)
OWN = tuple(dict.fromkeys(own_places()))
STANDARD = tuple(dict.fromkeys(standard_places({row.id for row in OPERATIONS}))) if obuk.AVAILABLE else ()

BEYOND, UNREADABLE = "moment_out_of_range", "body_malformed"
MOMENTS: dict[Any, str] = {
    "0001-01-01T00:00:00+14:00": BEYOND,
    "0001-01-01T00:00:00Z": BEYOND,
    "1970-01-01T00:00:00Z": BEYOND,
    "1999-12-31T23:59:59Z": BEYOND,
    "2000-01-01T00:00:00+14:00": BEYOND,
    "9998-12-31T23:59:59-14:00": BEYOND,
    "9999-01-01T00:00:00Z": BEYOND,
    "9999-12-31T23:59:59-14:00": BEYOND,
    "9999-12-31T23:59:60Z": UNREADABLE,
    "0000-01-01T00:00:00Z": UNREADABLE,
    "10000-01-01T00:00:00Z": UNREADABLE,
    "-0001-01-01T00:00:00Z": UNREADABLE,
    "2026-02-30T00:00:00Z": UNREADABLE,
    "2026-01-01T24:00:00Z": UNREADABLE,
    "2026-01-01T00:00:00+24:00": UNREADABLE,
    "2026-01-01T00:00:00": UNREADABLE,
    "2026-01-01 00:00:00Z": UNREADABLE,
    "2026-01-01": UNREADABLE,
    "20260102": UNREADABLE,
    "20260102T000000Z": UNREADABLE,
    "2026-W01-1": UNREADABLE,
    "1767225600": UNREADABLE,
    "２０２６-01-01T00:00:00Z": UNREADABLE,
    "": UNREADABLE,
    "yesterday": UNREADABLE,
    0: UNREADABLE,
    1e300: UNREADABLE,
}
DAYS: dict[Any, str] = {
    "0001-01-01": BEYOND,
    "1999-12-31": BEYOND,
    "9999-01-01": BEYOND,
    "9999-12-31": BEYOND,
    "10000-01-01": UNREADABLE,
    "-0001-01-01": UNREADABLE,
    "2026-02-30": UNREADABLE,
    "20200102": UNREADABLE,
    "2026-W01-1": UNREADABLE,
    "2026-01-01T00:00:00Z": UNREADABLE,
    "２０２６-01-01": UNREADABLE,
    "yesterday": UNREADABLE,
}
HTTP_DATES = ("Mon, 01 Jan 0001 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:60 UTC", "0001-01-01T00:00:00+14:00", "-1", "")


def said_now() -> dict[str, Any]:
    """Moments that a caller may well write: more digits than we keep, zones at their ends, small letters."""
    now = datetime.now(UTC) - timedelta(seconds=1)
    text = now.isoformat()[:19]
    return {
        "nanoseconds": f"{text}.123456789Z",
        "east": now.astimezone(timezone(timedelta(hours=14))).isoformat(),
        "west": now.astimezone(timezone(-timedelta(hours=12))).isoformat(),
        "small": f"{text}z".lower(),
    }


async def ask(world: World, place: Place, said: Any) -> httpx.Response:
    """The operation's usual request with that at that place."""
    send, body = SAMPLES[place.operation_id]
    if place.inside == "header":
        return await send(world, "", body, {place.path[0]: said})
    if place.inside == "query":
        return await send(world, f"?{place.path[0]}={quote(said)}", body, {})
    if place.inside == "path":
        return await send(world, quote(said, safe=UNESCAPED), body, {})
    return await send(world, "", put(body, place.path, said), {})


def put(node: Any, path: tuple[str, ...], value: Any) -> Any:
    """A copy of the body with that value there; what is missing on the way is made."""
    if not path:
        return value
    if path[0] == "0":
        return [put(node[0] if node else None, path[1:], value)]
    copied = dict(node or {})
    return {**copied, path[0]: put(copied.get(path[0]), path[1:], value)}


def code_of(answer: httpx.Response) -> str:
    """The stable code of a refusal; "" of a yes. A failure of ours is no answer."""
    assert answer.status_code < 500, answer.text
    if answer.status_code < 400:
        return ""
    said = answer.json()
    return str(said.get("code") or said["Code"].partition(" ")[2])


# --- all places, all extremes ----------------------------------------------------------------------------------------
def test_every_operation_with_a_date_is_tried() -> None:
    named = {place.operation_id for place in (*OWN, *STANDARD)}
    assert named <= SAMPLES.keys(), f"say in SAMPLES how to call {sorted(named - SAMPLES.keys())}"
    assert len(OWN) >= 8, "the walk through the contracts finds what is there"


@pytest.mark.parametrize("place", [p for p in (*OWN, *STANDARD) if p.inside == "body"], ids=str)
async def test_a_body_with_an_extreme_moment_is_refused_by_name(shared_world: World, place: Place) -> None:
    for said, code in (DAYS if place.kind == "date" else MOMENTS).items():
        answer = await ask(shared_world, place, said)
        assert (answer.status_code, code_of(answer)) == (400, code), (said, answer.text)
        where = json.loads(answer.text)
        path = where.get("path") or where["Errors"][0]["Path"]
        assert path.endswith(place.path[-1]), (said, answer.text)


@pytest.mark.parametrize("place", [p for p in (*OWN, *STANDARD) if p.inside == "path"], ids=str)
async def test_a_path_with_an_extreme_day_is_refused_by_name(shared_world: World, place: Place) -> None:
    for said, code in DAYS.items():
        answer = await ask(shared_world, place, said)
        escaped = "%" in quote(said, safe=UNESCAPED)  # no path of ours is written so: it is none
        expected = (404, "unknown_path") if escaped else (400, code)
        assert (answer.status_code, code_of(answer)) == expected, (said, answer.text)


@pytest.mark.parametrize("place", [p for p in STANDARD if p.inside == "query"], ids=str)
async def test_a_query_with_an_extreme_moment_has_an_answer(shared_world: World, place: Place) -> None:
    for said, code in MOMENTS.items():
        if isinstance(said, str):
            answer = await ask(shared_world, place, said)
            expected = code if said not in ("2026-01-01T00:00:00", "2026-01-01", "2026-01-01 00:00:00Z", "") else ""
            assert code_of(answer) in (code, expected), (said, answer.text)


@pytest.mark.parametrize("place", [p for p in STANDARD if p.inside == "header"], ids=str)
async def test_a_header_with_an_extreme_date_breaks_nothing(shared_world: World, place: Place) -> None:
    usual = code_of(await ask(shared_world, place, "Sun, 10 Sep 2017 19:43:31 UTC"))
    for said in HTTP_DATES:
        assert code_of(await ask(shared_world, place, said)) == usual


@pytest.mark.parametrize("place", [p for p in OWN if p.kind == "date-time"], ids=str)
async def test_what_a_clock_may_well_write_is_taken(shared_world: World, place: Place) -> None:
    if place.operation_id == "TellCustomerEvents":
        assert (await shared_world.http.post("/sandbox/v1/customers", json={"Customer": [PERSON]})).status_code == 201
    for name, said in said_now().items():
        answer = await ask(shared_world, place, said)
        assert answer.status_code in (201, 202), (name, answer.text)


async def test_after_all_of_them_the_day_is_closed_and_settled(shared_world: World) -> None:
    """The last test of this file: what the others have sent is in this day."""
    world = shared_world
    assert (await charge(world, "", {"Data": {}}, {})).status_code == 201
    [row] = await world.sql("SELECT min(occurred_at_ms) AS first, max(occurred_at_ms) AS last FROM event")
    assert row["first"] >= EARLIEST_MS
    assert row["last"] < END_MS
    day, why = local_day(now_ms(), BANK_ZONE).isoformat(), {"Reason": "test"}
    assert (await world.ops("ops-maker", "POST", f"/admin/v1/days/{day}/closure", json=why)).status_code == 202
    await world.do_chores()
    sealed = await world.ops("ops-maker", "GET", f"/admin/v1/days/{day}")
    assert sealed.json()["Data"]["Status"] == "SEALED", sealed.text
    wanted = {"PartnerId": "parkco", "ToDay": day, **why}
    asked = await world.ops("ops-maker", "POST", "/admin/v1/statements", json=wanted)
    assert asked.status_code == 202, asked.text
    await world.do_chores()
    path = f"/admin/v1/statements/{asked.json()['Data']['StatementId']}"
    statement = await world.ops("ops-maker", "GET", path)
    assert statement.json()["Data"]["Status"] == "CALCULATED", statement.text
