"""The composition root: every room is built here, once, from the settings, and plugged into the others by hand."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from gateway import metrics
from gateway.admission.addresses import AddressThrottle
from gateway.admission.door import FrontDoor
from gateway.admission.message_signature import MessageSignatures
from gateway.admission.operators import OperatorBook
from gateway.admission.possession import CertificateReader
from gateway.admission.spent import SpentProofs
from gateway.admission.tokens import TokenMemory
from gateway.chores import BackOffice, Chore
from gateway.collector import pass_over_what_is_here
from gateway.database import Database
from gateway.database.changes import ChangeFeed
from gateway.edge import Edge, Table
from gateway.keyring import Keyring, read_kek
from gateway.oauth.tokens import verify_access_token
from gateway.partners.snapshot import SnapshotKeeper
from gateway.policies.limits import Limiter
from gateway.policies.throttle import Throttle
from gateway.rooms import Foundation, build_rooms
from gateway.routes import bind
from gateway.settings import Settings, read_settings
from gateway.unready import Waiting
from gateway.watched import keep_doing, watch

STATIC = Path(__file__).parent / "static"
CLOSE_S = 3.0  # the house closes by then, or is left as it is: the process ends
FIRST_TRY_S = 5.0  # a worker that is not open by then says so to whoever asks, instead of keeping them waiting
AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


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
async def open_house(settings: Settings, *, clock_s: Callable[[], float] = time.monotonic) -> AsyncIterator[House]:
    """Build the rooms, keep them until the worker ends, close them in the opposite order.

    `clock_s` tells the age of what this worker knows.
    """
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(metrics.reporting(settings.metrics_socket))
        foundation = await lay_foundation(settings, stack, clock_s=clock_s)
        operators = OperatorBook(foundation.database)
        await operators.load()
        foundation.feed.subscribe(operators.refresh)
        rooms, chores = build_rooms(foundation, operators)
        edge = build_edge(foundation, rooms=rooms, operators=operators)
        if settings.chores == "inline":
            await stack.enter_async_context(BackOffice(foundation.database, chores).working())
        yield House(foundation, edge, rooms, chores)


async def lay_foundation(settings: Settings, stack: AsyncExitStack, *, clock_s: Callable[[], float]) -> Foundation:
    """Database, keys, and the frozen picture that the change feed keeps fresh."""
    database = await Database.connect(settings.database_url, pool_size=settings.pool_size)
    stack.push_async_callback(database.close)
    keyring = Keyring(read_kek(settings.home_path, make=settings.sandbox))
    async with database.transaction() as conn:
        await keyring.ensure(conn)
    feed = ChangeFeed(database, clock_s=clock_s)
    await feed.start()
    stack.push_async_callback(feed.stop)
    snapshots = SnapshotKeeper(database, age_s=lambda: feed.age_s)
    await snapshots.load()
    feed.subscribe(lambda changes: keyring.refresh(database, list(changes)))
    feed.subscribe(snapshots.refresh)
    metrics.probe("parasol_config_age_seconds", lambda: feed.age_s)
    bank = await Database.connect(settings.database_url, pool_size=settings.pool_size)
    stack.push_async_callback(bank.close)
    limiter = Limiter(settings.home_path / "limits")
    stack.callback(limiter.close)
    throttle = Throttle(settings.home_path / "throttle", secret=keyring.secret("throttle"))
    stack.callback(throttle.close)
    foundation = Foundation(settings, database, feed, keyring, snapshots, bank, limiter, throttle)
    metrics.probe("parasol_disk_full", foundation.disk_is_full)
    return foundation


def build_edge(base: Foundation, *, rooms: dict[type, Any], operators: OperatorBook) -> Edge:
    settings = base.settings
    certificates = CertificateReader(header=settings.client_cert_header, trusted=settings.trusted_proxies)
    messages = MessageSignatures(base.keyring, settings.issuer)
    tokens = TokenMemory(
        lambda token: verify_access_token(token, keys=base.keyring, issuer=settings.issuer, audience=settings.issuer)
    )
    base.feed.subscribe(tokens.forget)
    door = FrontDoor(
        tokens=tokens,
        certificates=certificates,
        limiter=base.limiter,
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
        addresses=AddressThrottle(base.throttle),
        fallback=Starlette(routes=[Mount("/static", StaticFiles(directory=STATIC))]),
    )


class Application:
    """What the server runs: the lifespan opens the house, every request goes straight to its edge.

    A database that is away is waited for, not ready: to die of it would help nobody.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._edge: Edge | Waiting = Waiting("database")
        self._lifespan = Starlette(lifespan=self._live)
        self._tried, self._leaving, self._closed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._broken: Exception | None = None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            return self._edge(scope, receive, send)
        return self._lifespan(scope, receive, send)

    @asynccontextmanager
    async def _live(self, _: Starlette) -> AsyncIterator[None]:
        house = watch("house", keep_doing("house", self._keep_open))
        try:
            await _within(FIRST_TRY_S, self._tried)
            if self._broken is not None:
                raise self._broken
            yield
        finally:
            self._leaving.set()
            if isinstance(self._edge, Edge):
                await _within(CLOSE_S, self._closed)
            await house.end()

    async def _keep_open(self) -> None:
        """Open the house, keep it until we leave, close it. Without its database: fail, and be asked again."""
        try:
            async with open_house(self._settings) as house:
                self._edge = house.edge
                pass_over_what_is_here()
                self._tried.set()
                await self._leaving.wait()
        except AWAY as error:
            self._edge = Waiting("migrations" if isinstance(error, asyncpg.UndefinedTableError) else "database")
            raise
        except Exception as error:  # what waiting does not mend ends this process
            self._broken = error
            raise
        finally:
            self._tried.set()
        self._closed.set()
        await asyncio.Event().wait()  # nothing is left but to be ended


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Wait for it, but no longer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def create() -> Application:
    """The factory that each worker process calls; settings come from PARASOL_* variables."""
    return Application(read_settings())
