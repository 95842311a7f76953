"""Alive, ready, counted: what balancers and dashboards ask."""

from pathlib import Path

import asyncpg
import httpx
from prometheus_client.parser import text_string_to_metric_families

from gateway.app import open_house
from tests.conftest import ISSUER, World, past_all_rules, settings_for


async def test_a_working_gateway_is_alive_and_ready(world: World) -> None:
    assert (await world.http.get("/healthz")).json() == {"status": "alive"}
    ready = await world.http.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["status"] == "ready"


async def test_a_gateway_is_not_ready_while_the_schema_lacks_a_migration(world: World) -> None:
    async with past_all_rules(world.url) as conn:
        await conn.execute("DELETE FROM _yoyo_migration WHERE migration_id = '0008.settlement'")
    ready = await world.http.get("/readyz")
    assert (ready.status_code, ready.json()["missing"]) == (503, "migrations")
    assert (await world.http.get("/healthz")).status_code == 200


async def test_a_newer_schema_does_not_stop_an_older_program(world: World) -> None:
    async with past_all_rules(world.url) as conn:
        await conn.execute("INSERT INTO _yoyo_migration VALUES ('x', '9999.from-the-future')")
    assert (await world.http.get("/readyz")).status_code == 200


async def test_a_gateway_without_its_database_is_alive_but_not_ready(world: World) -> None:
    name = world.url.partition("?")[0].rpartition("/")[2]
    admin = await asyncpg.connect(world.url.replace(f"/{name}", "/postgres"))
    try:
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", name)
        ready = await world.http.get("/readyz")
        assert (ready.status_code, ready.json()["missing"]) == (503, "database")
        assert (await world.http.get("/healthz")).status_code == 200
    finally:
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await admin.close()


async def test_requests_and_refusals_are_on_the_metrics_page(world: World) -> None:
    assert (await world.http.get("/no/such/path")).status_code == 404
    page = await world.http.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    counted = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page.text)
        for sample in family.samples
    }
    assert counted["parasol_refusals_total", ("reason", "unknown_path")] >= 1
    assert counted[
        "parasol_requests_total", ("code", "404"), ("operation", "unmatched"), ("outcome", "unmatched"), ("partner", "")
    ] >= 1  # fmt: skip
    assert ("parasol_config_generation",) in counted


async def test_metrics_with_a_port_of_their_own_are_not_beside_the_rest(home: Path, database_url: str) -> None:
    settings = settings_for(home, database_url, metrics_port=9464)
    async with open_house(settings) as house:
        transport = httpx.ASGITransport(app=house.edge, client=("127.0.0.1", 40000))
        async with httpx.AsyncClient(transport=transport, base_url=ISSUER) as http:
            assert (await http.get("/metrics")).status_code == 404
            assert (await http.get("/healthz")).status_code == 200
