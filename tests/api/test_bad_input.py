"""Every operation of the table against bad input: its own clear error, the same manners everywhere, nothing changed."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.call import Operation, Protocol, TokenKind
from gateway.routes import OPERATIONS
from tests.conftest import ISSUER, World, database_of_its_own, open_world

ADMITTED = [op for op in OPERATIONS if op.token in (TokenKind.CLIENT, TokenKind.CUSTOMER)]
WITH_BODY = [op for op in ADMITTED if op.body is not None]
IDEMPOTENT = [op for op in ADMITTED if op.idempotent]
OPERATOR = [op for op in OPERATIONS if op.token is TokenKind.OPERATOR]


def by_id(operations: list[Operation]) -> Any:
    return pytest.mark.parametrize("operation", operations, ids=[op.id for op in operations])


def path_of(operation: Operation) -> str:
    return re.sub(r"\{\w+\}", "unknown-id", operation.path)


def content_of(operation: Operation) -> tuple[bytes | None, dict[str, str]]:
    if operation.raw_body:
        return b"x\n", {"Content-Type": operation.raw_body}
    if operation.body is not None:
        return b"{}", {"Content-Type": "application/json"}
    return None, {}


async def facts(world: World) -> list[Any]:
    """What must not move when a request is refused."""
    counts = []
    for table in ("event", "idempotency", "redemption_step", "consent", "audit", "change"):
        counts.append((await world.sql(f"SELECT count(*) FROM {table}"))[0][0])
    return counts


def assert_refused(response: Any, operation: Operation, *, status: int, code: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["x-fapi-interaction-id"]
    if operation.protocol is Protocol.OB:
        if status == 401:
            assert response.content == b""
            return
        assert response.json()["Code"].endswith(code[:36]), response.text
        assert len(response.json()["Errors"][0]["ErrorCode"]) == 4
    else:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"] == code, response.text
        assert response.json()["detail"]


async def some_token(world: World, operation: Operation) -> Any:
    """A token that passes up to the body: the app's own, or one of a customer's consent."""
    client = world.client("parkco")
    if operation.token is TokenKind.CLIENT:
        return await client.token()
    return await world.customer_token(operation.scope)


async def send(world: World, operation: Operation, *, token: Any, **more: Any) -> Any:
    content, headers = content_of(operation)
    headers = {**headers, **more.pop("headers", {})}
    content = more.pop("content", content)
    return await world.client("parkco").call(
        operation.method, path_of(operation), token=token, content=content, headers=headers, **more
    )


@by_id(ADMITTED)
async def test_a_call_without_a_token_is_refused(shared_world: World, operation: Operation) -> None:
    response = await shared_world.http.request(operation.method, path_of(operation))
    assert_refused(response, operation, status=401, code="credential_missing")
    assert response.headers["www-authenticate"].startswith("DPoP ")


@by_id(ADMITTED)
async def test_a_token_without_its_proof_is_refused(shared_world: World, operation: Operation) -> None:
    token = await some_token(shared_world, operation)
    response = await shared_world.http.request(
        operation.method, path_of(operation), headers={"Authorization": f"DPoP {token.value}"}
    )
    assert_refused(response, operation, status=401, code="sender_not_proven")


@by_id(ADMITTED)
async def test_a_bound_token_sent_as_bearer_is_refused(shared_world: World, operation: Operation) -> None:
    token = await some_token(shared_world, operation)
    response = await shared_world.http.request(
        operation.method, path_of(operation), headers={"Authorization": f"Bearer {token.value}"}
    )
    assert_refused(response, operation, status=401, code="sender_not_proven")


@by_id([op for op in ADMITTED if op.body is None])
async def test_a_replayed_proof_is_refused(shared_world: World, operation: Operation) -> None:
    token = await some_token(shared_world, operation)
    proof = shared_world.client("parkco").proof(operation.method, ISSUER + path_of(operation), access_token=token.value)
    await send(shared_world, operation, token=token, headers={"DPoP": proof})
    before = await facts(shared_world)
    again = await send(shared_world, operation, token=token, headers={"DPoP": proof})
    assert_refused(again, operation, status=401, code="proof_replayed")
    assert await facts(shared_world) == before


@by_id(WITH_BODY)
@pytest.mark.parametrize(
    ("content", "why"),
    [(b"{", "cut"), (b"[]", "wrong shape"), (b'{"NoSuchMember": 1}', "unknown member"), (b"\xff\xfe", "not UTF-8")],
    ids=["cut", "wrong-shape", "unknown-member", "not-utf8"],
)
async def test_a_malformed_body_is_refused(shared_world: World, operation: Operation, content: bytes, why: str) -> None:
    token, before = await some_token(shared_world, operation), await facts(shared_world)
    response = await send(shared_world, operation, token=token, content=content)
    assert_refused(response, operation, status=400, code="body_malformed")
    assert await facts(shared_world) == before


@by_id(WITH_BODY)
async def test_a_body_above_the_limit_is_refused(shared_world: World, operation: Operation) -> None:
    token, before = await some_token(shared_world, operation), await facts(shared_world)
    response = await send(shared_world, operation, token=token, content=b" " * (operation.body_limit + 1))
    status = 400 if operation.protocol is Protocol.OB else 413
    assert_refused(response, operation, status=status, code="body_too_large")
    assert await facts(shared_world) == before


@by_id(WITH_BODY)
async def test_another_content_type_is_refused(shared_world: World, operation: Operation) -> None:
    token, before = await some_token(shared_world, operation), await facts(shared_world)
    response = await send(shared_world, operation, token=token, headers={"Content-Type": "text/plain"})
    assert_refused(response, operation, status=415, code="content_type")
    assert await facts(shared_world) == before


@by_id(IDEMPOTENT)
async def test_an_effect_without_an_idempotency_key_is_refused(shared_world: World, operation: Operation) -> None:
    token, before = await some_token(shared_world, operation), await facts(shared_world)
    response = await send(shared_world, operation, token=token, headers={"x-idempotency-key": "x" * 41})
    assert_refused(response, operation, status=400, code="header_invalid")
    client = shared_world.client("parkco")
    content, headers = content_of(operation)
    bare = await shared_world.http.request(
        operation.method, path_of(operation), content=content,
        headers={**headers, "Authorization": f"DPoP {token.value}",
                 "DPoP": client.proof(operation.method, ISSUER + path_of(operation), access_token=token.value)},
    )  # fmt: skip
    assert_refused(bare, operation, status=400, code="idempotency_key_missing")
    assert await facts(shared_world) == before


@by_id([op for op in ADMITTED if op.scope in ("accounts", "payments")])
async def test_a_token_of_the_other_kind_is_refused(shared_world: World, operation: Operation) -> None:
    client = shared_world.client("parkco")
    if operation.token is TokenKind.CLIENT:
        token = await shared_world.customer_token(operation.scope)
    else:
        token = await client.token()
    response = await send(shared_world, operation, token=token)
    if operation.token is TokenKind.CUSTOMER:  # UK Open Banking: the app's own token there is no authorization at all
        assert_refused(response, operation, status=401, code="customer_token_needed")
    else:
        assert_refused(response, operation, status=403, code="token_kind")


@by_id(ADMITTED)
async def test_a_token_without_the_scope_is_refused(shared_world: World, operation: Operation) -> None:
    other = "parking" if operation.scope != "parking" else "referrals"
    response = await send(shared_world, operation, token=await shared_world.client("parkco").token(other))
    assert_refused(response, operation, status=403, code="insufficient_scope")


@pytest.fixture(scope="module")
async def suspended(home: Path, server_url: str, template: str) -> AsyncIterator[tuple[World, dict[str, Any]]]:
    """A world in which parkco got its tokens, and was suspended afterwards."""
    async with database_of_its_own(server_url, template) as url, open_world(home, url) as world:
        customer_scopes = {op.scope for op in ADMITTED if op.token is TokenKind.CUSTOMER}
        tokens = {scope: await world.customer_token(scope) for scope in customer_scopes}
        tokens["client"] = await world.client("parkco").token()
        await world.suspend("parkco")
        yield world, tokens


@by_id(ADMITTED)
async def test_a_partner_that_was_suspended_is_refused_at_once(
    suspended: tuple[World, dict[str, Any]], operation: Operation
) -> None:
    world, tokens = suspended
    token = tokens[operation.scope if operation.token is TokenKind.CUSTOMER else "client"]
    response = await send(world, operation, token=token)
    assert_refused(response, operation, status=403, code="partner_not_active")


@by_id(OPERATOR)
async def test_an_operator_without_a_key_is_refused(shared_world: World, operation: Operation) -> None:
    response = await shared_world.http.request(operation.method, path_of(operation))
    assert_refused(response, operation, status=401, code="operator_not_accepted")


async def test_an_unknown_path_is_not_found(shared_world: World) -> None:
    response = await shared_world.http.get("/partner/v1/nothing-here")
    assert response.status_code == 404
    assert response.json()["code"] == "unknown_path"


async def test_a_method_that_the_path_does_not_take_says_which_it_takes(shared_world: World) -> None:
    response = await shared_world.http.delete("/healthz")
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD"
