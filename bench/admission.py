"""What each step of the front door costs: the same admitted balance read, step by step, in µs of one core."""

import asyncio
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from bench.reads import AISP, PERMISSIONS
from gateway.admission.arrival import Arrival, read_arrival
from gateway.admission.door import FrontDoor, Passage
from gateway.app import House, open_house
from gateway.call import Operation
from gateway.database.embedded import start_embedded
from gateway.demo.client import PartnerClient, Token
from gateway.oauth.dpop import Proof
from gateway.provision import provision
from gateway.settings import Settings

ISSUER = "http://gateway.bench"
PASSES, ROUNDS = 1_000, 7
SPENDERS = 64  # proofs that are spent at once
ROOT = Path(__file__).parent.parent


async def measure(folder: Path) -> list[tuple[str, float]]:
    cluster = start_embedded(folder)
    try:
        settings = Settings(
            database_url=cluster.get_uri(), home=str(folder), issuer=ISSUER, sandbox=True, data_dir=str(ROOT),
            chores="manual", log_level="warning",
        )  # fmt: skip
        await provision(settings)
        async with open_house(settings) as house:
            return await _steps(house, folder)
    finally:
        cluster.cleanup()


async def _steps(house: House, folder: Path) -> list[tuple[str, float]]:
    scope, operation, path = await _read(house, folder)
    door: FrontDoor = house.edge._door
    arrival = read_arrival(scope)
    passage = Passage(operation, arrival, path, time.time_ns() // 1_000_000, house.foundation.snapshot())
    costs = [("read_arrival", _median_us(lambda: read_arrival(scope)))]
    for step in door.steps:
        step(passage)
        costs.append((getattr(step, "__name__", str(step)), _median_us(lambda step=step: step(passage))))
    return [*costs, (f"spend_proof, {SPENDERS} at once, until committed", await _spending_us(door, arrival, passage))]


async def _read(house: House, folder: Path) -> tuple[dict[str, Any], Operation, dict[str, str]]:
    """The scope of a DPoP balance read, as the server would hand it over."""
    transport = httpx.ASGITransport(app=house.edge, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url=ISSUER) as http:
        client = PartnerClient(http, json.loads((folder / "sandbox" / "parkco.json").read_text()))
        body = {"Data": {"Permissions": list(PERMISSIONS)}, "Risk": {}}
        made = (await client.call("POST", f"{AISP}/account-access-consents", body=body)).json()
        consent_id = made["Data"]["ConsentId"]
        token: Token = await client.approve(consent_id, kind="account-access-consent", scope="accounts")
        account = (await client.call("GET", f"{AISP}/accounts", token=token)).json()["Data"]["Account"][0]
    path = f"{AISP}/accounts/{account['AccountId']}/balances"
    match = house.edge.table.find("GET", path)
    assert match is not None
    proof = client.proof("GET", ISSUER + path, access_token=token.value)
    headers = [
        (b"authorization", f"DPoP {token.value}".encode()),
        (b"dpop", proof.encode()),
        (b"host", b"gateway.bench"),
        (b"x-fapi-interaction-id", b"93bac548-d2de-4546-b106-880a5018460d"),
    ]
    scope = {"method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers,
             "client": ("127.0.0.1", 1)}  # fmt: skip
    return scope, match.operation, match.path


async def _spending_us(door: FrontDoor, arrival: Arrival, passage: Passage) -> float:
    """A share of the batch: 64 callers wait for one durable statement."""
    assert passage.proof is not None
    rounds = []
    for number in range(ROUNDS * 5):
        passages = []
        for place in range(SPENDERS):
            proof = Proof(passage.proof.jkt, f"{number} {place} {time.time_ns()}", passage.proof.iat)
            copy = Passage(passage.operation, arrival, passage.path, passage.now_ms, passage.snapshot)
            copy.proof = proof
            passages.append(copy)
        started = time.perf_counter()
        await asyncio.gather(*(door.last_step(each) for each in passages))
        rounds.append((time.perf_counter() - started) / SPENDERS * 1e6)
    return median(rounds)


def _median_us(work: Any) -> float:
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(PASSES):
            work()
        rounds.append((time.perf_counter() - started) / PASSES * 1e6)
    return median(rounds)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="parasol-bench-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as a user of its own when the bench runs as root
        costs = asyncio.run(measure(Path(folder)))
    table = Table("Step", "µs", title="The front door, a DPoP balance read whose token is known")
    for name, us in costs:
        table.add_row(name, f"{us:.1f}")
    table.add_row("together", f"{sum(us for _, us in costs):.1f}", style="bold")
    Console().print(table)


if __name__ == "__main__":
    main()
