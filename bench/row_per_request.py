"""The peer of hold+confirm: the plain way, one guarded row and one transaction for each request.

No token, no contract, no idempotency, no ledger: what is left when only the money must not be overspent.
Served by `granian bench.row_per_request:app` with as many workers as the gateway, on the same PostgreSQL.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

URL_VARIABLE = "BENCH_DATABASE_URL"
POOL_SIZE = 8  # connections a worker, as the gateway's own default
BUDGET = "first-parking"
SCHEMA = """
CREATE TABLE budget (id text PRIMARY KEY, cap_minor bigint NOT NULL, used_minor bigint NOT NULL DEFAULT 0);
CREATE TABLE hold (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, budget_id text NOT NULL REFERENCES budget,
    amount_minor bigint NOT NULL, state text NOT NULL DEFAULT 'held');
"""
TAKE = "UPDATE budget SET used_minor = used_minor + $2 WHERE id = $1 AND used_minor + $2 <= cap_minor"
HOLD = "INSERT INTO hold (budget_id, amount_minor) VALUES ($1, $2) RETURNING id"
CONFIRM = "UPDATE hold SET state = 'confirmed' WHERE id = $1 AND state = 'held'"


class HoldOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a hold."""

    amount_minor: int


_order = msgspec.json.Decoder(HoldOrder)


async def hold(request: Request) -> Response:
    order = _order.decode(await request.body())
    async with request.app.state.pool.acquire() as conn, conn.transaction():
        if await conn.execute(TAKE, BUDGET, order.amount_minor) != "UPDATE 1":
            return _json({"error": "exhausted"}, status=409)
        hold_id = await conn.fetchval(HOLD, BUDGET, order.amount_minor)
    return _json({"id": hold_id}, status=201)


async def confirm(request: Request) -> Response:
    await request.body()
    async with request.app.state.pool.acquire() as conn, conn.transaction():
        done = await conn.execute(CONFIRM, int(request.path_params["hold_id"]))
    return _json({"state": "confirmed"}, status=200) if done == "UPDATE 1" else _json({"error": "gone"}, status=409)


def _json(payload: dict[str, str | int], *, status: int) -> Response:
    return Response(msgspec.json.encode(payload), status_code=status, media_type="application/json")


@asynccontextmanager
async def _pool(application: Starlette) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ[URL_VARIABLE], min_size=POOL_SIZE, max_size=POOL_SIZE) as pool:
        application.state.pool = pool
        yield


app = Starlette(
    routes=[
        Route("/holds", hold, methods=["POST"]),
        Route("/holds/{hold_id:int}/confirmation", confirm, methods=["POST"]),
    ],
    lifespan=_pool,
)


async def prepare(url: str, *, cap_minor: int) -> None:
    """The two tables, and a budget that holds this much."""
    conn = await asyncpg.connect(url)
    try:
        await conn.execute(SCHEMA)
        await conn.execute("INSERT INTO budget (id, cap_minor) VALUES ($1, $2)", BUDGET, cap_minor)
    finally:
        await conn.close()


async def spent(url: str) -> tuple[int, int, int]:
    """(used, cap, sum of the holds), to see that the peer did not overspend either."""
    conn = await asyncpg.connect(url)
    try:
        row = await conn.fetchrow(
            "SELECT used_minor, cap_minor, (SELECT coalesce(sum(amount_minor), 0)::bigint FROM hold) FROM budget"
        )
        assert row is not None, "prepare() made the one budget"
        return row[0], row[1], row[2]
    finally:
        await conn.close()
