"""A statement's file goes out in steps: small ones, each when the last was taken, and never read to issue it."""

import json
from collections.abc import MutableMapping
from typing import Any

import httpx

from gateway.demo.client import PartnerClient
from gateway.settlement.statement_files import STEP_BYTES, StatementFiles
from tests.api.settling import approved, calculate, close, issue, issued, jobs, reach_goals, today
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
    assert (answer.status_code, len(answer.content)) == (200, statement["SizeBytes"])
    assert statement["SizeBytes"] > 2 * STEP_BYTES
    assert server.steps[-1] == 0
    assert max(server.steps) == STEP_BYTES == 256 * 1024
    assert sum(server.steps) == int(answer.headers["content-length"]) == statement["SizeBytes"]


async def test_nothing_is_read_before_it_is_asked_for_and_a_reader_who_leaves_closes_the_file(world: World) -> None:
    statement = await large_statement(world)
    opened = await StatementFiles(world.home).open(statement["StatementId"], bytes.fromhex(statement["Sha256"]))
    assert opened is not None
    chunks = opened.chunks()
    assert len(await anext(chunks)) == STEP_BYTES
    assert opened.file.tell() == STEP_BYTES
    await chunks.aclose()
    assert opened.file.closed


async def test_what_is_sent_is_what_was_checked_though_another_file_takes_its_place(world: World) -> None:
    statement = await large_statement(world)
    files = StatementFiles(world.home)
    opened = await files.open(statement["StatementId"], bytes.fromhex(statement["Sha256"]))
    assert opened is not None
    path = files.path(statement["StatementId"])
    path.rename(path.with_suffix(".aside"))
    path.write_bytes(b"{}")
    assert sum([len(chunk) async for chunk in opened.chunks()]) == statement["SizeBytes"]


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
