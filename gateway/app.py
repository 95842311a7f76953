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

from gateway import metrics
from gateway.admission.door import FrontDoor
from gateway.admission.message_signature import MessageSignatures
from gateway.admission.operators import OperatorBook
from gateway.admission.possession import CertificateReader
from gateway.admission.spent import SpentProofs
from gateway.admission.tokens import TokenMemory
from gateway.chores import BackOffice, Chore
from gateway.database import Database
from gateway.database.changes import ChangeFeed
from gateway.edge import Edge, Table
from gateway.keyring import Keyring, read_kek
from gateway.oauth.tokens import verify_access_token
from gateway.partners.snapshot import SnapshotKeeper
from gateway.policies.limits import Limiter
from gateway.rooms import Foundation, build_rooms
from gateway.routes import bind
from gateway.settings import Settings, read_settings

STATIC = Path(__file__).parent / "static"


@dataclass(frozen=True, slots=True)
class House:
    """A worker's open house: the ASGI edge, its rooms, and the chores that somebody has to do."""

    foundation: Foundation
    edge: Edge
    rooms: dict[type, Any]
    chores: tuple[Chore, ...]

    @property
    def database(self) -> Database:
        return self.foundation.database


@asynccontextmanager
async def open_house(settings: Settings) -> AsyncIterator[House]:
    """Build the rooms, keep them until the worker ends, close them in the opposite order."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(metrics.reporting(settings.metrics_socket))
        foundation = await lay_foundation(settings, stack)
        operators = OperatorBook(foundation.database)
        await operators.load()
        foundation.feed.subscribe(operators.refresh)
        limiter = Limiter(settings.home_path / "limits")
        stack.callback(limiter.close)
        rooms, chores = build_rooms(foundation, operators)
        edge = build_edge(foundation, rooms=rooms, operators=operators, limiter=limiter)
        if settings.chores == "inline":
            await stack.enter_async_context(BackOffice(foundation.database, chores).working())
        yield House(foundation, edge, rooms, chores)


async def lay_foundation(settings: Settings, stack: AsyncExitStack) -> Foundation:
    """Database, keys, and the frozen picture that the change feed keeps fresh."""
    database = await Database.connect(settings.database_url, pool_size=settings.pool_size)
    stack.push_async_callback(database.close)
    keyring = Keyring(read_kek(settings.home_path, make=settings.sandbox))
    async with database.transaction() as conn:
        await keyring.ensure(conn)
    feed = ChangeFeed(database)
    await feed.start()
    stack.push_async_callback(feed.stop)
    snapshots = SnapshotKeeper(database, age_s=lambda: feed.age_s)
    await snapshots.load()
    feed.subscribe(lambda changes: keyring.refresh(database, list(changes)))
    feed.subscribe(snapshots.refresh)
    metrics.probe("parasol_config_age_seconds", lambda: feed.age_s)
    bank = await Database.connect(settings.database_url, pool_size=settings.pool_size)
    stack.push_async_callback(bank.close)
    foundation = Foundation(settings, database, feed, keyring, snapshots, bank)
    metrics.probe("parasol_disk_full", foundation.disk_is_full)
    return foundation


def build_edge(base: Foundation, *, rooms: dict[type, Any], operators: OperatorBook, limiter: Limiter) -> Edge:
    settings = base.settings
    certificates = CertificateReader(header=settings.client_cert_header, trusted=settings.trusted_proxies)
    messages = MessageSignatures(base.keyring, settings.issuer)
    door = FrontDoor(
        tokens=TokenMemory(
            lambda token: verify_access_token(
                token, keys=base.keyring, issuer=settings.issuer, audience=settings.issuer
            )
        ),
        certificates=certificates,
        limiter=limiter,
        spent=SpentProofs(base.database),
        messages=messages,
        public_url=settings.issuer,
        snapshot=base.snapshot,
    )
    return Edge(
        Table(bind(rooms, sandbox=settings.sandbox)),
        door=door,
        operators=operators,
        certificates=certificates,
        sign=messages.sign,
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
