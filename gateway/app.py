"""The composition root: every room is built here, once, from the settings, and plugged into the others by hand."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from gateway import metrics
from gateway.accounts.api import AccountsApi, render_balance
from gateway.accounts.fresh import FreshBalances
from gateway.accounts.sandbox_api import SandboxBankApi
from gateway.admission.door import FrontDoor
from gateway.admission.message_signature import MessageSignatures
from gateway.admission.operators import OperatorBook
from gateway.admission.possession import CertificateReader
from gateway.admission.spent import SpentProofs
from gateway.admission.tokens import TokenMemory
from gateway.chores import BackOffice, Chore
from gateway.clock import now_ms
from gateway.consents.book import ConsentBook
from gateway.console.api import OpsApi
from gateway.console.pages import ConsolePages
from gateway.console.session import ConsoleSessions
from gateway.corebank.sandbox.bank import Clock, SandboxBank
from gateway.corebank.sandbox.people import Counter
from gateway.database import Database
from gateway.database.changes import ChangeFeed
from gateway.discounts.api import DiscountsApi
from gateway.discounts.desk import RedemptionDesk
from gateway.edge import Edge, Table
from gateway.health import HealthApi
from gateway.keyring import Keyring, read_kek
from gateway.oauth.api import OAuthApi
from gateway.oauth.expiry import expire_consents_due, forget_due
from gateway.oauth.sandbox import SandboxApi
from gateway.oauth.tokens import verify_access_token
from gateway.parking.agreements import AgreementDesk
from gateway.parking.api import ParkingApi
from gateway.parking.charging import Barrier
from gateway.parking.entry import EntryGate
from gateway.parking.refunding import RefundCounter
from gateway.parking.tariff import read_tariffs
from gateway.partners.identity import IdentityKeys
from gateway.partners.partner import Partner
from gateway.partners.plate import PlateReader
from gateway.partners.snapshot import Snapshot, SnapshotKeeper
from gateway.payments.api import PaymentsApi
from gateway.payments.collect import MandateCollections
from gateway.payments.paying import Till
from gateway.payments.refunding import RefundDesk
from gateway.policies.limits import Limiter
from gateway.portal.api import PortalApi
from gateway.referrals.api import ReferralsApi
from gateway.referrals.attributing import GoalDesk
from gateway.referrals.batch_api import BatchApi
from gateway.referrals.feed import bank_feed
from gateway.referrals.link_api import LinkApi
from gateway.referrals.receiving import BatchDesk
from gateway.referrals.terms import terms_book
from gateway.routes import OPERATIONS, bind
from gateway.settings import Settings, read_settings
from gateway.settlement.api import SettlementApi
from gateway.settlement.closing import Backroom
from gateway.settlement.ops_api import SettlementOps

CURRENCY = "CNY"  # of the sandbox's accounts
BANK = "Sandbox City Bank"
STATIC = Path(__file__).parent / "static"


@dataclass(frozen=True, slots=True)
class Foundation:
    """What every room stands on."""

    settings: Settings
    database: Database
    feed: ChangeFeed
    keyring: Keyring
    snapshots: SnapshotKeeper
    bank: Database  # the sandbox bank's own connections: it is never inside a transaction of the gateway

    def snapshot(self) -> Snapshot:
        return self.snapshots.current

    def partner(self, partner_id: str) -> Partner | None:
        return self.snapshots.current.partners.get(partner_id)


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
    snapshots = SnapshotKeeper(database)
    await snapshots.load()
    feed.subscribe(lambda changes: keyring.refresh(database, list(changes)))
    feed.subscribe(snapshots.refresh)
    metrics.probe("parasol_config_age_seconds", lambda: feed.age_s)
    bank = await Database.connect(settings.database_url, pool_size=settings.pool_size)
    stack.push_async_callback(bank.close)
    return Foundation(settings, database, feed, keyring, snapshots, bank)


def build_rooms(base: Foundation, operators: OperatorBook) -> tuple[dict[type, Any], tuple[Chore, ...]]:
    """The capabilities, each with what it needs and nothing else; and what they do in the back office."""
    settings, database = base.settings, base.database
    bank, counter = SandboxBank(base.bank, Clock(now_ms)), Counter(base.bank)
    book = ConsentBook(database)
    base.feed.subscribe(book.refresh)
    keys = IdentityKeys(database, base.keyring)
    terms = terms_book(lambda partner_id, at_ms: base.snapshot().contract_at(partner_id, at_ms))
    plates = PlateReader(base.keyring.secret("plates"))
    desk = RedemptionDesk(database, snapshot=base.snapshot, secret=base.keyring.secret("quotes"))
    batches = BatchDesk(database, keys, terms, base.partner)
    goals = GoalDesk(database, keys, terms, bank_feed(bank))
    fresh = FreshBalances(bank.balance, partial(render_balance, issuer=settings.issuer))
    till = Till(database, bank, on_moved=fresh.drop)
    refunds = RefundDesk(database, bank, on_moved=fresh.drop)
    collections = MandateCollections(till, refunds)
    agreements = AgreementDesk(database, book, bank, keys)
    barrier = Barrier(database, discounts=desk, collections=collections)
    counter_of_refunds = RefundCounter(database, discounts=desk, collections=collections)
    backroom = Backroom(database, base.keyring, base.snapshots, settings.home_path, settings.issuer, BANK)
    sessions = ConsoleSessions(base.keyring, operators, settings.issuer.startswith("https://"))
    discounts = DiscountsApi(desk, database, base.snapshot, plates, settings.issuer)
    rooms = (
        OAuthApi.build(
            settings,
            database=database,
            keyring=base.keyring,
            snapshots=base.snapshots,
            corebank=bank,
            counter=counter if settings.sandbox else None,
        ),
        SandboxApi(database, bank, counter),
        SandboxBankApi(counter, CURRENCY),
        AccountsApi(database, book, bank, fresh, settings.issuer),
        discounts,
        PaymentsApi(database, book, bank, till, settings.issuer),
        ParkingApi(
            database,
            agreements,
            EntryGate(database, agreements),
            barrier,
            counter_of_refunds,
            plates,
            read_tariffs(settings.data_path / "partners"),
            settings.issuer,
        ),
        ReferralsApi(database, keys, settings.issuer),
        BatchApi(batches, settings.issuer),
        LinkApi(database, base.keyring, keys, terms, base.partner, landings(settings), settings.issuer),
        SettlementApi(database, settings.issuer),
        SettlementOps(database, base.snapshots, settings.sandbox),
        OpsApi(database, base.snapshots),
        ConsolePages.build(database, snapshots=base.snapshots, sessions=sessions, campaigns=discounts.campaigns),
        PortalApi.load(
            settings.data_path / "openapi", operations=OPERATIONS, issuer=settings.issuer, sandbox=settings.sandbox
        ),
        HealthApi(database, lambda: base.snapshot().generation),
    )
    chores = (
        _chore("apply referral batches", 0.2, batches.apply_batches_due),
        _chore("attribute goals", 0.2, goals.attribute_goals_due),
        _chore("expire claims", 60, goals.expire_claims_due),
        _chore("report budgets", 5, desk.report_budgets_due),
        _chore("expire holds", 1, desk.expire_holds_due),
        _chore("settle pending payments", 1, till.settle_pending_due),
        _chore("settle pending refunds", 1, refunds.settle_refunds_due),
        _chore("resume parking charges", 1, barrier.resume_charges_due),
        _chore("resume parking refunds", 1, counter_of_refunds.resume_refunds_due),
        _chore("expire consents", 5, partial(expire_consents_due, database)),
        _chore("forget spent proofs", 30, partial(forget_due, database)),
        _chore("close days", 0.5, backroom.close_days_due),
        _chore("calculate statements", 0.5, backroom.calculate_due),
    )
    return {type(room): room for room in rooms}, chores


def _chore(name: str, every_s: float, run: Callable[[int], Awaitable[int]]) -> Chore:
    return Chore(name, every_s, run)


def landings(settings: Settings) -> dict[str, str]:
    """The bank's own pages that a partner's link may lead to; in a sandbox, a page that says what would open."""
    return {"open-account": f"{settings.issuer}/sandbox/v1/landings/open-account"} if settings.sandbox else {}


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
