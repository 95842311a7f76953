"""What holds at every operation of the table, so that one that is added tomorrow is asked, too."""

import re
from typing import Any

import httpx
import pytest

from gateway.call import Operation, Protocol, TokenKind
from gateway.routes import OPERATIONS
from tests.api import test_parking as parking
from tests.api.referral_calls import PHONE, csv_file, send, token_of
from tests.api.settling import issued, redeem, today
from tests.api.test_bad_input import content_of, path_of
from tests.conftest import World

OWN = [op for op in OPERATIONS if op.strict_query]
READS = [op for op in OPERATIONS if op.method == "GET" and op.id != "Metrics"]  # whose page differs from time to time
OF_PARTNERS = [op for op in OPERATIONS if op.protocol is Protocol.OWN and op.token is TokenKind.CLIENT]
WITH_ID = [op for op in OF_PARTNERS if "{" in op.path]
V1 = "/partner/v1"


def by_id(operations: list[Operation]) -> Any:
    return pytest.mark.parametrize("operation", operations, ids=[op.id for op in operations])


async def ask(world: World, operation: Operation, path: str, *, method: str, partner: str = "parkco") -> httpx.Response:
    content, headers = content_of(operation)
    if operation.token is TokenKind.OPERATOR:
        return await world.ops("ops-maker", method, path, content=content)
    if operation.token is TokenKind.NONE:
        return await world.http.request(method, path)
    token = await world.customer_token(operation.scope) if operation.token is TokenKind.CUSTOMER else None
    return await world.client(partner).call(
        method, path, token=token, content=content, headers={"Accept": "*/*", **headers}
    )


@by_id(OWN)
async def test_a_query_field_that_nobody_reads_is_refused_whatever_the_method(
    shared_world: World, operation: Operation
) -> None:
    path = f"{path_of(operation)}?no%53uchField=1"
    answer = await ask(shared_world, operation, path, method=operation.method)
    assert (answer.status_code, answer.json()["path"]) == (400, "$query.noSuchField")


@by_id(READS)
async def test_head_answers_as_get_does(shared_world: World, operation: Operation) -> None:
    path = path_of(operation)
    got = await ask(shared_world, operation, path, method="GET")
    head = await ask(shared_world, operation, path, method="HEAD")
    assert (head.status_code, head.content) == (got.status_code, b"")
    for name in ("content-type", "content-length", "allow", "www-authenticate", "location"):
        assert (head.headers.get(name) or "")[:60] == (got.headers.get(name) or "")[:60]


@by_id([op for op in OPERATIONS if op.token is TokenKind.OPERATOR])
async def test_operators_are_asked_for_what_they_have(shared_world: World, operation: Operation) -> None:
    """An operator's key is a Bearer token: the challenge names that scheme, and not the partners'."""
    answer = await shared_world.http.request(operation.method, path_of(operation))
    assert (answer.status_code, answer.headers["www-authenticate"].split()[0]) == (401, "Bearer")


# --- another partner's things ----------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
async def things(shared_world: World) -> dict[str, str]:
    """One of parkco's of each kind that a path of ours names."""
    world, client = shared_world, shared_world.client("parkco")
    redemption = await redeem(world, "idt_1_a")
    agreement = await parking.bound(world)
    session = await parking.parked(world)
    charge = await parking.charged(world, session)
    batch = await send(world, "parkco", csv_file(await token_of(world, "parkco", PHONE)))
    link = await client.call("POST", f"{V1}/referral-links", body={"Data": {"Landing": "open-account"}}, key="door")
    (claim,) = (await client.call("GET", f"{V1}/claims")).json()["Data"]["Claim"]
    statement = await issued(world, today())
    return {
        "RedemptionId": redemption, "AgreementId": agreement["AgreementId"], "SessionId": session,
        "ChargeId": charge["ChargeId"], "BatchId": batch["BatchId"], "ClaimId": claim["ClaimId"],
        "LinkId": link.json()["Data"]["LinkId"], "StatementId": statement["StatementId"],
    }  # fmt: skip


def said(answer: httpx.Response, ident: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    """What a thief could tell two answers apart by."""
    headers = {name: value for name, value in answer.headers.items() if name != "x-fapi-interaction-id"}
    body = {name: str(value).replace(ident, "ID") for name, value in answer.json().items() if name != "instance"}
    return answer.status_code, headers, body


@by_id(WITH_ID)
async def test_another_partners_id_answers_as_an_unknown_one_at_every_operation(
    shared_world: World, things: dict[str, str], operation: Operation
) -> None:
    (name,) = re.findall(r"\{(\w+)\}", operation.path)
    real = things[name]
    kind, _, tail = real.rpartition("_")
    unknown = f"{kind}_{'0' * len(tail)}"
    path = re.sub(r"\{\w+\}", "{}", operation.path)
    before = await rows(shared_world)
    foreign, nothing = [
        await ask(shared_world, operation, path.format(ident), method=operation.method, partner="shopco")
        for ident in (real, unknown)
    ]
    assert said(foreign, real) == said(nothing, unknown)
    assert foreign.status_code >= 400
    assert await rows(shared_world) == before


async def rows(world: World) -> list[Any]:
    tables = ("event", "audit", "ledger_entry", "change")
    return [(await world.sql(f"SELECT count(*) FROM {table}"))[0][0] for table in tables]


async def test_another_partners_consent_in_a_body_answers_as_an_unknown_one(shared_world: World) -> None:
    """The one id of somebody else's that a body of ours takes."""
    real = await parking.consent(shared_world, partner="shopco")
    unknown = f"{real.rpartition('_')[0]}_{'0' * len(real.rpartition('_')[2])}"
    before = await rows(shared_world)
    answers = [
        await parking.post(shared_world, "/vehicle-agreements", {"Plate": "粤B·54321", "ConsentId": ident})
        for ident in (real, unknown)
    ]
    assert said(answers[0], real) == said(answers[1], unknown)
    assert answers[0].status_code == 404
    assert await rows(shared_world) == before
