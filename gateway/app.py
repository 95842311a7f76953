"""The composition root: every room is built here, once, from the settings, and plugged into the others by hand."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from gateway.admission.door import FrontDoor
from gateway.admission.operators import OperatorBook
from gateway.admission.possession import CertificateReader
from gateway.admission.spent import SpentProofs
from gateway.admission.tokens import TokenMemory
from gateway.database import Database
from gateway.database.changes import ChangeFeed
from gateway.edge import Edge, Table
from gateway.health import HealthApi
from gateway.keyring import Keyring, read_kek
from gateway.oauth.tokens import verify_access_token
from gateway.partners.snapshot import SnapshotKeeper
from gateway.policies.limits import Limiter
from gateway.routes import bind
from gateway.settings import Settings, read_settings

STATIC = Path(__file__).parent / "static"


@dataclass(slots=True)
class House:
    """A worker's open house: the ASGI edge and what tests and chores reach."""

    settings: Settings
    database: Database
    feed: ChangeFeed
    keyring: Keyring
    snapshots: SnapshotKeeper
    edge: Edge
    rooms: dict[type, Any]


@asynccontextmanager
async def open_house(settings: Settings) -> AsyncIterator[House]:
    """Build the rooms, keep them until the worker ends, close them in the opposite order."""
    async with AsyncExitStack() as stack:
        database = await Database.connect(settings.database_url, pool_size=settings.pool_size)
        stack.push_async_callback(database.close)
        keyring = Keyring(read_kek(settings.home_path, make=settings.sandbox))
        async with database.transaction() as conn:
            await keyring.ensure(conn)
        feed = ChangeFeed(database)
        await feed.start()
        stack.push_async_callback(feed.stop)
        snapshots = SnapshotKeeper(database)
        await snapshots.load()
        feed.subscribe(lambda changes: keyring.refresh(database, list(changes)))
        feed.subscribe(snapshots.refresh)
        rooms = build_rooms(settings, database=database, keyring=keyring, snapshots=snapshots)
        edge = build_edge(settings, database=database, keyring=keyring, snapshots=snapshots, rooms=rooms)
        yield House(settings, database, feed, keyring, snapshots, edge, rooms)


def build_rooms(
    settings: Settings, *, database: Database, keyring: Keyring, snapshots: SnapshotKeeper
) -> dict[type, Any]:
    """The capabilities, each with what it needs and nothing else."""
    health = HealthApi(database, lambda: snapshots.current.generation)
    return {type(room): room for room in (health,)}


def build_edge(
    settings: Settings, *, database: Database, keyring: Keyring, snapshots: SnapshotKeeper, rooms: dict[type, Any]
) -> Edge:
    certificates = CertificateReader(header=settings.client_cert_header, trusted=settings.trusted_proxies)
    door = FrontDoor(
        tokens=TokenMemory(
            lambda token: verify_access_token(
                token, keys=keyring, issuer=settings.issuer, audience=settings.issuer
            )
        ),
        certificates=certificates,
        limiter=Limiter(settings.home_path / "limits"),
        spent=SpentProofs(database),
        public_url=settings.issuer,
        snapshot=lambda: snapshots.current,
    )
    return Edge(
        Table(bind(rooms, sandbox=settings.sandbox)),
        door=door,
        operators=OperatorBook(database),
        certificates=certificates,
        sign=lambda body, moment_ms: "",
        fallback=Starlette(routes=[Mount("/static", StaticFiles(directory=STATIC))]),
    )


class Application:
    """What the server runs: the lifespan opens the house, every request goes straight to its edge."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._edge: Edge | None = None
        self._lifespan = Starlette(lifespan=self._open)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._edge is not None:
            await self._edge(scope, receive, send)
        else:
            await self._lifespan(scope, receive, send)

    @asynccontextmanager
    async def _open(self, _: Starlette) -> AsyncIterator[None]:
        async with open_house(self._settings) as house:
            self._edge = house.edge
            yield
            self._edge = None


def create() -> Application:
    """The factory that each worker process calls; settings come from PARASOL_* variables."""
    return Application(read_settings())
