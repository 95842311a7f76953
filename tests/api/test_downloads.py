"""A statement's file goes out in steps: small ones, each when the last was taken, and never read to issue it."""

import json
import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import metrics
from gateway.demo.client import PartnerClient
from gateway.settlement.statement_files import STEP_BYTES, StatementFileDiffers, StatementFiles
from tests.api.settling import approved, calculate, close, download, issue, issued, jobs, reach_goals, today
from tests.conftest import ISSUER, World


class SlowServer:
    """The ASGI server between the gateway and a partner: notes the size of each step."""

    def __init__(self, world: World) -> None:
        self._app = world.house.edge
        self.steps: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def noting(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.body":
                self.steps.append(len(message["body"]))
            await send(message)

        await self._app(scope, receive, noting)


async def large_statement(world: World) -> dict[str, Any]:
    await reach_goals(world, 1_500)
    return await issued(world, today())


async def test_a_worker_sends_at_most_a_quarter_of_a_mebibyte_a_step(world: World) -> None:
    statement = await large_statement(world)
    server = SlowServer(world)
    credentials = json.loads((world.home / "sandbox" / "parkco.json").read_text())
    transport = httpx.ASGITransport(app=server, client=("127.0.0.1", 40001))
    async with httpx.AsyncClient(transport=transport, base_url=ISSUER) as http:
        client = PartnerClient(http, credentials)
        await client.token()
        server.steps.clear()
        answer = await client.call("GET", f"/partner/v1/statements/{statement['StatementId']}/file")
        steps = list(server.steps)
        server.steps.clear()
        head = await client.call("HEAD", f"/partner/v1/statements/{statement['StatementId']}/file")
    for name in ("content-length", "content-type", "etag"):
        assert head.headers[name] == answer.headers[name]
    assert server.steps == [0]  # who asks for the head alone has nothing read to it
    assert (answer.status_code, len(answer.content)) == (200, statement["SizeBytes"])
    assert statement["SizeBytes"] > 2 * STEP_BYTES
    assert steps[-1] == 0
    assert max(steps) == STEP_BYTES == 256 * 1024
    assert sum(steps) == int(answer.headers["content-length"]) == statement["SizeBytes"]


def opening(world: World, statement: dict[str, Any]) -> Any:
    return StatementFiles(world.home).open(
        statement["StatementId"], digest=bytes.fromhex(statement["Sha256"]), size=statement["SizeBytes"]
    )


async def test_nothing_is_read_before_it_is_asked_for_and_a_reader_who_leaves_closes_the_file(world: World) -> None:
    opened = await opening(world, await large_statement(world))
    assert opened is not None
    assert opened.file.tell() == 0  # a large file is read once: hashed on its way, not before
    chunks = opened.chunks()
    assert len(await anext(chunks)) == STEP_BYTES
    assert opened.file.tell() == STEP_BYTES
    await chunks.aclose()
    assert opened.file.closed


async def test_what_is_sent_is_what_was_opened_though_another_file_takes_its_place(world: World) -> None:
    statement = await large_statement(world)
    opened = await opening(world, statement)
    assert opened is not None
    path = StatementFiles(world.home).path(statement["StatementId"])
    path.rename(path.with_suffix(".aside"))
    path.write_bytes(b"{}")
    assert sum([len(chunk) async for chunk in opened.chunks()]) == statement["SizeBytes"]
    StatementFiles(world.home).remove(statement["StatementId"], opened)
    assert path.exists()  # the other one


def swap_a_byte(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("place", [0, STEP_BYTES, -1], ids=["first byte", "in the middle", "last byte"])
async def test_a_large_file_that_was_changed_is_never_sent_whole_and_is_made_again(world: World, place: int) -> None:
    statement = await large_statement(world)
    whole = (await download(world, statement["StatementId"])).content
    swap_a_byte(StatementFiles(world.home).path(statement["StatementId"]), place)
    before = await differing()
    server = SlowServer(world)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=server, client=("127.0.0.1", 40001)), base_url=ISSUER
    ) as http:
        client = PartnerClient(http, json.loads((world.home / "sandbox" / "parkco.json").read_text()))
        await client.token()
        server.steps.clear()
        with pytest.raises(StatementFileDiffers):
            await client.call("GET", f"/partner/v1/statements/{statement['StatementId']}/file")
    assert sum(server.steps) <= len(whole) - len(whole) % STEP_BYTES < len(whole)
    assert await differing() == before + 1
    assert (await download(world, statement["StatementId"])).status_code == 503
    await world.do_chores()
    assert (await download(world, statement["StatementId"])).content == whole


@pytest.mark.parametrize("change", ["swapped", "cut", "longer"])
async def test_a_small_file_that_was_changed_is_refused_before_its_first_byte(world: World, change: str) -> None:
    await reach_goals(world, 2)
    statement = await issued(world, today())
    assert statement["SizeBytes"] <= STEP_BYTES
    path = StatementFiles(world.home).path(statement["StatementId"])
    content = path.read_bytes()
    if change == "swapped":
        swap_a_byte(path, len(content) // 2)
    else:
        path.write_bytes(content[:-1] if change == "cut" else content + b" ")
    assert (await download(world, statement["StatementId"])).status_code == 503
    await world.do_chores()
    assert (await download(world, statement["StatementId"])).content == content


async def test_a_file_that_is_cut_while_it_is_read_breaks_off(world: World) -> None:
    statement = await large_statement(world)
    opened = await opening(world, statement)
    chunks = opened.chunks()
    await anext(chunks)
    os.truncate(StatementFiles(world.home).path(statement["StatementId"]), STEP_BYTES)
    with pytest.raises(StatementFileDiffers):
        await anext(chunks)
    assert opened.file.closed


async def differing() -> float:
    for line in (await metrics.page()).decode().splitlines():
        if line.startswith("parasol_statement_files_differing_total "):
            return float(line.split()[1])
    return 0.0


async def test_issuing_reads_no_file_and_books_nothing_in_the_request(world: World) -> None:
    await reach_goals(world, 3)
    await close(world, today())
    statement = await calculate(world, today())
    await approved(world, statement)
    StatementFiles(world.home).path(statement["StatementId"]).unlink()
    assert (await issue(world, statement)).status_code == 200
    booked = await world.sql("SELECT count(*) FROM ledger_entry WHERE cause LIKE 'commission.accrued:%'")
    assert booked[0][0] == 0
    (job,) = await jobs(world, Kind="commission_booking")
    assert job["Status"] == "WAITING"
