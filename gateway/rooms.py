"""The rooms, built by hand: each wing makes its desks from the foundation and names what its back office has to do."""

import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway.accounts.api import AccountsApi, render_balance
from gateway.accounts.fresh import FreshBalances
from gateway.accounts.sandbox_api import SandboxBankApi
from gateway.admission.operators import OperatorBook
from gateway.chores import Chore
from gateway.clock import now_ms
from gateway.consents.book import ConsentBook
from gateway.console.api import OpsApi
from gateway.console.pages import ConsolePages
from gateway.console.session import COOKIE as CONSOLE_COOKIE
from gateway.console.session import ConsoleSessions
from gateway.corebank.measured import measured
from gateway.corebank.port import CoreBank, OrderOutcome
from gateway.corebank.sandbox.bank import Clock, SandboxBank
from gateway.corebank.sandbox.people import Counter
from gateway.database import Database, idempotency
from gateway.database.changes import CHANGES, ChangeFeed
from gateway.discounts.api import DiscountsApi
from gateway.discounts.desk import RedemptionDesk
from gateway.discounts.store import DATED_COUNTERS
from gateway.health import HealthApi
from gateway.jobs.api import JobsApi
from gateway.jobs.model import by_name
from gateway.jobs.runner import JobRunner
from gateway.keyring import Keyring
from gateway.oauth import store as oauth
from gateway.oauth.api import OAuthApi, oauth_templates
from gateway.oauth.browser import Browser
from gateway.oauth.expiry import expire_consents_due
from gateway.oauth.login import Logins
from gateway.oauth.login_guard import LoginGuard
from gateway.oauth.sandbox import SandboxApi
from gateway.oauth.vouching import Vouching
from gateway.oauth.withdrawal import COOKIE, WithdrawalPages
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
from gateway.payments.store import USAGE
from gateway.policies.limits import Limiter
from gateway.policies.throttle import Throttle
from gateway.portal.api import PortalApi
from gateway.referrals.api import ReferralsApi
from gateway.referrals.attributing import GoalDesk
from gateway.referrals.bank_api import ReferralsOps
from gateway.referrals.batch_api import BatchApi
from gateway.referrals.feed import bank_feed
from gateway.referrals.link_api import LinkApi
from gateway.referrals.receiving import BatchDesk
from gateway.referrals.store.links import SCANS
from gateway.referrals.terms import terms_book
from gateway.retention.dropping import Retention
from gateway.routes import OPERATIONS
from gateway.settings import Settings
from gateway.settlement.api import SettlementApi
from gateway.settlement.audit_anchor import AuditTeller
from gateway.settlement.day_closing import DayClosing
from gateway.settlement.days_api import BusinessDateApi, DaysApi
from gateway.settlement.drafts import remove_abandoned
from gateway.settlement.keys_api import StatementKeysApi
from gateway.settlement.ops_api import SettlementOps
from gateway.settlement.posting import CommissionBooking
from gateway.settlement.sealed_files import SealedFiles
from gateway.settlement.statement_files import StatementFiles
from gateway.settlement.statement_work import StatementCalculation, StatementProcesses, StatementRemaking

CURRENCY = "CNY"  # of the sandbox's accounts
BANK = "Sandbox City Bank"
EXPIRIES = (idempotency.KEYS, CHANGES, DATED_COUNTERS, USAGE, SCANS, *oauth.EXPIRIES)  # decision 28 has the whole table
HOME_FREE_BYTES = 64 * 1024**2  # four segments of PostgreSQL's log: below it, writing is about to fail


@dataclass(frozen=True, slots=True)
class Foundation:
    """What every room stands on."""

    settings: Settings
    database: Database
    feed: ChangeFeed
    keyring: Keyring
    snapshots: SnapshotKeeper
    bank: Database  # the sandbox bank's own connections: it is never inside a transaction of the gateway
    limiter: Limiter  # by partner, as policies say
    throttle: Throttle  # by address, where nobody has been recognised yet

    @property
    def issuer(self) -> str:
        return self.settings.issuer

    def snapshot(self) -> Snapshot:
        return self.snapshots.current

    def disk_is_full(self) -> bool:
        """The database has just said so, or no room is left where we keep sealed files, and a sandbox all its data."""
        said = self.database.disk_is_full or self.bank.disk_is_full
        return said or shutil.disk_usage(self.settings.home_path).free < HOME_FREE_BYTES

    def partner(self, partner_id: str) -> Partner | None:
        return self.snapshots.current.partners.get(partner_id)


@dataclass(frozen=True, slots=True)
class Wing:
    """Rooms that belong together, and their chores."""

    rooms: tuple[object, ...]
    chores: tuple[Chore, ...] = ()


@dataclass(frozen=True, slots=True)
class Common:
    """Desks that several wings use: one of each in a worker."""

    bank: CoreBank
    decide_order: Callable[..., Awaitable[OrderOutcome | None]]
    counter: Counter
    consents: ConsentBook
    identities: IdentityKeys
    plates: PlateReader
    redemptions: RedemptionDesk


def build_rooms(base: Foundation, operators: OperatorBook) -> tuple[dict[type, Any], tuple[Chore, ...]]:
    """The capabilities, each with what it needs and nothing else; and what they do in the back office."""
    bank = SandboxBank(base.bank, Clock(now_ms))
    common = Common(
        measured(bank),
        bank.decide,
        Counter(base.bank),
        ConsentBook(base.database),
        IdentityKeys(base.database, base.keyring),
        PlateReader(base.keyring.secret("plates")),
        RedemptionDesk(base.database, snapshot=base.snapshot, secret=base.keyring.secret("quotes")),
    )
    base.feed.subscribe(common.consents.refresh)
    wings = (
        authorization(base, common),
        money(base, common),
        referrals(base, common),
        settlement(base),
        pages(base, common, operators),
    )
    rooms = {type(room): room for wing in wings for room in wing.rooms}
    drop = Chore("drop expired rows", 10, Retention(base.database, EXPIRIES).drop_expired_due)
    return rooms, (drop, *(chore for wing in wings for chore in wing.chores))


def authorization(base: Foundation, common: Common) -> Wing:
    """The authorization server, and the sandbox's shortcuts."""
    server = OAuthApi.build(
        base.settings, database=base.database, keyring=base.keyring, snapshots=base.snapshots, corebank=common.bank,
        counter=common.counter if base.settings.sandbox else None, limiter=base.limiter, throttle=base.throttle,
    )  # fmt: skip
    vouching = Vouching(common.bank, common.identities)
    approvals = SandboxApi(base.database, common.bank, common.counter, vouching)
    sandbox = (approvals, SandboxBankApi(common.counter, CURRENCY, common.decide_order))
    withdrawal = withdrawal_pages(base, common)
    chores = (Chore("expire consents", 5, partial(expire_consents_due, base.database)),)
    return Wing((server, withdrawal, *sandbox), chores)


def withdrawal_pages(base: Foundation, common: Common) -> WithdrawalPages:
    """Where customers take consents back."""
    guard = LoginGuard(
        issuer=base.issuer, secret=base.keyring.secret("log-ins"), limiter=base.limiter, throttle=base.throttle
    )
    return WithdrawalPages(
        base.database, base.snapshots,
        Browser(issuer=base.issuer, secret=base.keyring.secret("consents forms"), cookie=COOKIE),
        Logins(base.database, common.bank, guard), oauth_templates(), base.issuer,
        common.counter if base.settings.sandbox else None,
    )  # fmt: skip


def money(base: Foundation, common: Common) -> Wing:
    """Accounts, payments, discounts, and parking, which is plugged into the two before it."""
    database, issuer = base.database, base.issuer
    fresh = FreshBalances(common.bank.balance, partial(render_balance, issuer=issuer))
    till = Till(database, common.bank, on_moved=fresh.drop)
    refunds = RefundDesk(database, common.bank, on_moved=fresh.drop)
    desk, collections = common.redemptions, MandateCollections(till, refunds)
    agreements = AgreementDesk(database, common.consents, common.bank, common.identities)
    barrier = Barrier(database, discounts=desk, collections=collections)
    cashier = RefundCounter(database, discounts=desk, collections=collections)
    tariffs = read_tariffs(base.settings.data_path / "partners")
    gate = EntryGate(database, agreements)
    rooms = (
        AccountsApi(database, common.consents, common.bank, fresh, issuer),
        PaymentsApi(database, common.consents, common.bank, till, issuer),
        DiscountsApi(desk, database, base.snapshot, common.plates, issuer),
        ParkingApi(database, agreements, gate, barrier, cashier, common.plates, base.snapshot, tariffs, issuer),
    )
    chores = (
        Chore("settle pending payments", 1, till.settle_pending_due),
        Chore("settle pending refunds", 1, refunds.settle_refunds_due),
        Chore("expire holds", 1, desk.expire_holds_due),
        Chore("report budgets", 5, desk.report_budgets_due),
        Chore("resume parking charges", 1, barrier.resume_charges_due),
        Chore("resume parking refunds", 1, cashier.resume_refunds_due),
    )
    return Wing(rooms, chores)


def referrals(base: Foundation, common: Common) -> Wing:
    """Who brought whom."""
    database, issuer, keys = base.database, base.issuer, common.identities
    terms = terms_book(lambda partner_id, at_ms: base.snapshot().contract_at(partner_id, at_ms))
    batches = BatchDesk(database, keys, terms, base.partner)
    goals = GoalDesk(database, keys, terms, bank_feed(common.bank))
    rooms = (
        ReferralsApi(database, keys, issuer),
        ReferralsOps(database),
        BatchApi(batches, issuer),
        LinkApi(database, base.keyring, keys, terms, base.partner, landings(base.settings), issuer),
    )
    chores = (
        Chore("apply referral batches", 0.2, batches.apply_batches_due),
        Chore("attribute goals", 0.2, goals.attribute_goals_due),
        Chore("expire claims", 60, goals.expire_claims_due),
    )
    return Wing(rooms, chores)


def landings(settings: Settings) -> dict[str, str]:
    """The bank's own pages that a partner's link may lead to; in a sandbox, a page that says what would open."""
    return {"open-account": f"{settings.issuer}/sandbox/v1/landings/open-account"} if settings.sandbox else {}


def settlement(base: Foundation) -> Wing:
    """Closed days and statements; what they wish for is done by jobs."""
    database, home = base.database, base.settings.home_path
    files, processes = SealedFiles(database, home), StatementProcesses(base.settings)
    kinds = (
        DayClosing(database, base.keyring, files, BANK).kind(),
        StatementCalculation(database, files, processes).kind(),
        CommissionBooking(database).kind(),
        StatementRemaking(database, files, processes).kind(),
    )
    rooms = (
        SettlementApi(database, StatementFiles(home), base.issuer),
        StatementKeysApi(base.keyring),
        SettlementOps(database, base.snapshots),
        DaysApi(database),
        BusinessDateApi(database),
        JobsApi(database, by_name(kinds)),
    )
    chores = (
        Chore("remove abandoned drafts", 60, lambda _: remove_abandoned(home)),
        Chore("tell the audit trail's end", 60, AuditTeller(database).tell_due),
    )
    return Wing(rooms, (*chores, *JobRunner(database, kinds).chores()))


def pages(base: Foundation, common: Common, operators: OperatorBook) -> Wing:
    """What people and probes look at."""
    database, snapshots, settings = base.database, base.snapshots, base.settings
    forms = Browser(
        issuer=base.issuer, secret=base.keyring.secret("console forms"), cookie=CONSOLE_COOKIE, same_site="Strict"
    )
    sessions = ConsoleSessions(database, operators, forms, base.limiter)
    campaigns = DiscountsApi(common.redemptions, database, base.snapshot, common.plates, base.issuer).campaigns
    return Wing(
        (
            OpsApi(database, snapshots),
            ConsolePages.build(database, snapshots=snapshots, sessions=sessions, campaigns=campaigns),
            PortalApi.load(
                settings.data_path / "openapi", operations=OPERATIONS, issuer=base.issuer, sandbox=settings.sandbox
            ),
            HealthApi(
                database,
                lambda: base.snapshot().generation,
                lambda: base.feed.age_s,
                base.disk_is_full,
                settings.metrics_port,
            ),
        )
    )
