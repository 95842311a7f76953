"""Durable hold and confirm over HTTP beside one guarded row a request: the same load, the same PostgreSQL, two workers.

Our side does it whole: token, policy, rate, idempotency, terms, limits, ledger, event. The peer only guards a row.
"""

import asyncio
import itertools
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench import load
from bench.compare import Comparison, RunUnusable, Side, compare
from bench.gateway import CERTIFICATE_HEADER, Gateway, partner_with_certificate
from bench.pinned import free_port, serving
from bench.row_per_request import URL_VARIABLE, prepare, spent
from gateway.clock import now_ms
from gateway.database import Database
from gateway.partners.store import know_customers

CONNECTIONS = load.DEFAULT_CONNECTIONS
OFFER, ORDER = "first-park", "30.00"  # 20.00 comes off
PEER_CAP_MINOR = 10**12
CUSTOMERS = 400_000  # more than a run has pairs
V1 = "/partner/v1"


@dataclass(frozen=True, slots=True)
class Spent:
    """What the campaign says of itself afterwards; nothing may be above its cap."""

    used: str
    cap: str
    overspent: bool


class _Redemption(msgspec.Struct, rename="pascal"):
    redemption_id: str


class _Held(msgspec.Struct, rename="pascal"):
    data: _Redemption


class _PeerHold(msgspec.Struct):
    id: int


_held, _peer_hold = msgspec.json.Decoder(_Held), msgspec.json.Decoder(_PeerHold)


def hold_and_confirm(gateway: Gateway, *, database_url: str, workers: int, cores: set[int], folder: Path) -> tuple[
    Comparison, Spent
]:  # fmt: skip
    """Raises RunUnusable when an answer was not 201, or when anybody overspent."""
    token, certificate = asyncio.run(_token(gateway))
    headers = (("authorization", f"Bearer {token}"), (CERTIFICATE_HEADER, certificate))
    asyncio.run(prepare(database_url, cap_minor=PEER_CAP_MINOR))
    asyncio.run(_know_customers(gateway.database_url))
    port = free_port()
    command = [
        str(Path(sys.executable).with_name("granian")), "--interface", "asgi", "--host", "127.0.0.1", "--port",
        str(port), "--workers", str(workers), "--no-ws", "bench.row_per_request:app",
    ]  # fmt: skip
    environ = {URL_VARIABLE: database_url}
    with serving(command, port=port, on=cores, log=folder / "peer.log", environ=environ) as process:
        ours = Side(
            "gateway",
            load.Target("127.0.0.1", gateway.port),
            gateway.process,
            lambda: [_ours(gateway.port, headers) for _ in range(CONNECTIONS)],
            yes=(201,),
            per_unit=2,
        )
        peer = Side(
            "row per request",
            load.Target("127.0.0.1", port),
            process,
            lambda: [_peers(port) for _ in range(CONNECTIONS)],
            yes=(200, 201),
            per_unit=2,
        )
        found = compare(ours, peer)
    used, cap, held = asyncio.run(spent(database_url))
    if not used == held <= cap:
        raise RunUnusable(f"The peer overspent: {used} used, {held} held of {cap}")
    return found, asyncio.run(_spent(gateway))


async def _token(gateway: Gateway) -> tuple[str, str]:
    client, certificate = partner_with_certificate(gateway, "parkco")
    async with client.http:
        return (await client.token()).value, certificate


async def _know_customers(database_url: str) -> None:
    """As if the partner had referred them all."""
    database = await Database.connect(database_url, pool_size=1)
    async with database.transaction() as conn:
        pairs = [("parkco", _token_of(number)) for number in range(CUSTOMERS)]
        await know_customers(conn, pairs, source="batch", now_ms=now_ms())
    await database.close()


def _token_of(number: int) -> str:
    return f"idt_1_{number:043d}"


async def _spent(gateway: Gateway) -> Spent:
    client, _ = partner_with_certificate(gateway, "parkco")
    async with client.http:
        shown = (await client.call("GET", f"{V1}/campaigns")).json()["Data"]["Campaign"]
    budget = next(campaign for campaign in shown if campaign["OfferId"] == OFFER)["Budget"]
    used, held, cap = (budget[name]["Amount"] for name in ("Used", "Held", "Cap"))
    return Spent(used, cap, _minor(used) + _minor(held) > _minor(cap))


_numbers = itertools.count()


def _ours(port: int, headers: Sequence[tuple[str, str]]) -> load.Script:
    """A hold of a customer and a plate that nobody else has, then its confirmation; each with a key of its own."""
    host, run = f"127.0.0.1:{port}", secrets.token_hex(4)
    while True:
        number = next(_numbers)
        order = {
            "OfferId": OFFER,
            "OrderAmount": {"Amount": ORDER, "Currency": "CNY"},
            "SiteId": "lot-1",
            "OrderReference": f"order-{number}",
            "CustomerToken": _token_of(number),
            "Plate": f"沪A{number % 10**5:05d}{run[0]}",
        }
        body = msgspec.json.encode({"Data": order})
        reply = yield load.post(f"{V1}/redemptions", host, (*headers, ("x-idempotency-key", f"h{run}{number}")), body)
        if load.status_of(reply) != 201:
            continue
        path = f"{V1}/redemptions/{_held.decode(load.body_of(reply)).data.redemption_id}/confirmation"
        yield load.post(path, host, (*headers, ("x-idempotency-key", f"c{run}{number}")), b'{"Data":{}}')


def _peers(port: int) -> load.Script:
    host = f"127.0.0.1:{port}"
    while True:
        reply = yield load.post("/holds", host, (), b'{"amount_minor":2000}')
        if load.status_of(reply) == 201:
            yield load.post(f"/holds/{_peer_hold.decode(load.body_of(reply)).id}/confirmation", host, (), b"{}")


def _minor(text: str) -> int:
    return int(text.replace(".", ""))
