"""A fresh world for each test: a database cloned from a migrated template, the app in process, signing clients."""

import asyncio
import json
import os
import secrets
import shutil
import string
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from gateway.app import House, open_house
from gateway.clock import now_ms
from gateway.database import Connection, Database
from gateway.database.embedded import start_embedded
from gateway.demo.client import PartnerClient, Token
from gateway.partners.store import know_customers
from gateway.provision import provision
from gateway.settings import Settings
from tests import watchdog
from tests.contract.obuk import check_open_banking
from tests.contract.own import check_own

ROOT = Path(__file__).parent.parent
ISSUER = "http://gateway.test"
TEMPLATE = "parasol_template"
MEMORY_NEEDED = 2 * 1024**3  # bytes: the cluster, and a hundred databases should any be left over


ALONE = ("tests/faults/", "tests/stories/")  # real processes, signals and ports: never two of these at once
SLOW = "tests/unit/settlement/"  # begun early, so that no process is left with it in the end


def alone(nodeid: str) -> bool:
    return nodeid.startswith(ALONE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests stay together and in their order."""
    items.sort(key=lambda item: (not alone(item.nodeid), not item.nodeid.startswith(SLOW)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `-n`: a process takes whole files, over a home and a PostgreSQL of its own; one takes all of ALONE."""
    from xdist.scheduler import LoadScopeScheduling

    class WholeFiles(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return "alone" if alone(nodeid) else nodeid.split("::", 1)[0]

    config.option.loadscopereorder = False
    return WholeFiles(config, log)


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A home folder for the whole run: key-encryption key, sandbox credentials, embedded PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="parasol-test-", dir=memory_folder()) as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as a user of its own when the tests run as root
        yield Path(folder)


@pytest.fixture(scope="session")
def server_url(home: Path) -> Iterator[str]:
    """A PostgreSQL: the one of PARASOL_TEST_DATABASE_URL, or an embedded one."""
    given = os.environ.get("PARASOL_TEST_DATABASE_URL")
    if given:
        yield given
        return
    cluster = start_embedded(home)
    watchdog.before_end.append(cluster.cleanup)
    asyncio.run(forget_durability(cluster.get_uri()))
    yield cluster.get_uri()
    cluster.cleanup()


async def forget_durability(url: str) -> None:
    """Nobody pulls the plug of this machine during a test; processes are killed, which loses nothing of what was
    written. Databases are made and dropped by the hundred, and each would wait for the disk."""
    admin = await asyncpg.connect(url)
    try:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            await admin.execute(f"ALTER SYSTEM SET {setting} = off")
        await admin.execute("SELECT pg_reload_conf()")
    finally:
        await admin.close()


def memory_folder() -> str | None:
    """Memory where there is some: a database is cloned ten times as fast there. None: wherever temporary files go."""
    memory = Path("/dev/shm")
    return str(memory) if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > MEMORY_NEEDED else None


def settings_for(home: Path, url: str, **more: Any) -> Settings:
    return Settings(
        database_url=url, home=str(home), issuer=ISSUER, sandbox=True, data_dir=str(ROOT), chores="manual", **more
    )


@pytest.fixture(scope="session")
async def template(home: Path, server_url: str) -> str:
    """A database with everything that a fresh sandbox has; tests clone it."""
    admin = await asyncpg.connect(server_url)
    try:
        await admin.execute(f"CREATE DATABASE {TEMPLATE}")
    finally:
        await admin.close()
    await provision(settings_for(home, with_database(server_url, TEMPLATE)))
    names = [*string.ascii_lowercase, *map(str, range(100))]
    await know_test_customers(with_database(server_url, TEMPLATE), names)
    return TEMPLATE


async def know_test_customers(url: str, names: Sequence[str]) -> None:
    """The tokens `idt_1_<name>`, as if each partner had referred these customers."""
    pairs = [(partner_id, f"idt_1_{name}") for partner_id in ("parkco", "shopco") for name in names]
    database = await Database.connect(url, pool_size=1)
    async with database.transaction() as conn:
        await know_customers(conn, pairs, source="batch", now_ms=now_ms())
    await database.close()


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    head, _, query = url.partition("?")
    base = head.rsplit("/", 1)[0]
    return f"{base}/{name}" + (f"?{query}" if query else "")


CONSENTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "accounts": (
        "account-access-consent",
        "/open-banking/v4.0/aisp/account-access-consents",
        {
            "Data": {
                "Permissions": [
                    "ReadAccountsDetail", "ReadBalances", "ReadTransactionsDetail", "ReadTransactionsCredits",
                    "ReadTransactionsDebits",
                ]
            },
            "Risk": {},
        },
    ),
    "payments": (
        "domestic-vrp-consent",
        "/open-banking/v4.0/pisp/domestic-vrp-consents",
        {
            "Data": {
                "ControlParameters": {
                    "VRPType": ["UK.OBIE.VRPType.Other"],
                    "PSUAuthenticationMethods": ["UK.OBIE.SCANotRequired"],
                    "MaximumIndividualAmount": {"Amount": "200.00", "Currency": "CNY"},
                    "PeriodicLimits": [
                        {"PeriodType": "Day", "PeriodAlignment": "Calendar", "Amount": "300.00", "Currency": "CNY"},
                        {"PeriodType": "Year", "PeriodAlignment": "Consent", "Amount": "9000.00", "Currency": "CNY"},
                    ],
                },
                "Initiation": {},
            },
            "Risk": {"PaymentContextCode": "BillingGoodsAndServicesInArrears"},
        },
    ),
}  # fmt: skip


@dataclass(slots=True)
class PictureClock:
    """What tells the age of a house's picture of the terms. It stands still: on a busy machine a feed whose turn comes
    late is no reason to serve nobody. A test of that says `clock.s += …`."""

    s: float = 0.0

    def __call__(self) -> float:
        return self.s


@dataclass(slots=True)
class World:
    """The app over one fresh database, and the people who call it."""

    house: House
    http: httpx.AsyncClient
    home: Path
    url: str
    clock: PictureClock
    _clients: dict[str, PartnerClient] = field(default_factory=dict)

    def client(self, partner_id: str) -> PartnerClient:
        """The partner's signing client, with the sandbox credentials that any partner gets."""
        if partner_id not in self._clients:
            credentials = json.loads((self.home / "sandbox" / f"{partner_id}.json").read_text())
            self._clients[partner_id] = PartnerClient(self.http, credentials)
        return self._clients[partner_id]

    async def ops(self, operator: str, method: str, path: str, **rest: Any) -> httpx.Response:
        """A call of bank operations by one of the sandbox's operators (`ops-maker`, `ops-checker`)."""
        operators = json.loads((self.home / "sandbox" / "operators.json").read_text())
        key = next(entry["key"] for entry in operators if entry["id"] == operator)
        return await self.http.request(method, path, headers={"Authorization": f"Bearer {key}"}, **rest)

    async def customer_token(self, scope: str, partner_id: str = "parkco") -> Token:
        """A token of the demo customer's consent: reading accounts, or collecting under a mandate."""
        client = self.client(partner_id)
        kind, path, body = CONSENTS[scope]
        made = await client.call("POST", path, body=body, sign="jws" if scope == "payments" else "")
        assert made.status_code == 201, made.text
        return await client.approve(made.json()["Data"]["ConsentId"], kind=kind, scope=scope)

    async def suspend(self, partner_id: str) -> None:
        """By the bank, and seen by this worker."""
        done = await self.ops(
            "ops-maker", "POST", f"/admin/v1/partners/{partner_id}/suspension", json={"Reason": "test"}
        )
        assert done.status_code == 200, done.text
        await self.house.foundation.feed.catch_up()

    async def do_chores(self) -> None:
        """What the back office would do, until nothing is left to do."""
        for chore in self.house.chores:
            while await chore.run(now_ms()):
                pass

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        """Looks straight into the database: for invariants that no API shows."""
        async with self.house.database.connection() as conn:
            return list(await conn.fetch(statement, *values))


@asynccontextmanager
async def database_of_its_own(server_url: str, template: str) -> AsyncIterator[str]:
    """A clone of the template, dropped afterwards."""
    name = f"t_{secrets.token_hex(6)}"
    admin = await asyncpg.connect(server_url)
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        yield with_database(server_url, name)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@asynccontextmanager
async def past_all_rules(url: str) -> AsyncIterator[Connection]:
    """A connection for what nobody may do, rights and triggers or not: what a thief of the machine could."""
    place, _, query = url.partition("?")
    kept = [field for field in query.split("&") if field and not field.startswith("role=")]
    database = await Database.connect(f"{place}?{'&'.join([*kept, 'role=none'])}", pool_size=1)
    async with database.connection() as conn:
        await conn.execute("SET session_replication_role = replica")
        yield conn
    await database.close()


@asynccontextmanager
async def open_world(home: Path, database_url: str) -> AsyncIterator[World]:
    clock = PictureClock()
    async with open_house(settings_for(home, database_url), clock_s=clock) as house:
        transport = httpx.ASGITransport(app=house.edge, client=("127.0.0.1", 40000))
        hooks = {"response": [check_open_banking, check_own]}  # every answer is held to its contract
        async with httpx.AsyncClient(transport=transport, base_url=ISSUER, event_hooks=hooks) as http:
            yield World(house, http, home, database_url, clock)


@pytest.fixture
async def database_url(server_url: str, template: str) -> AsyncIterator[str]:
    """A database of its own for this test."""
    async with database_of_its_own(server_url, template) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Connections to this test's own database, for stores below the API."""
    opened = await Database.connect(database_url, pool_size=4)
    yield opened
    await opened.close()


@pytest.fixture
async def world(home: Path, database_url: str) -> AsyncIterator[World]:
    """A fresh database behind the app."""
    async with open_world(home, database_url) as opened:
        yield opened


@pytest.fixture(scope="module")
async def shared_world(home: Path, server_url: str, template: str) -> AsyncIterator[World]:
    """One world for a module's tests: for those that change nothing, or nothing that another one sees."""
    async with database_of_its_own(server_url, template) as url, open_world(home, url) as opened:
        yield opened
