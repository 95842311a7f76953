"""A bank with a clock of its own, for the machine that drives it: every service that money passes, and what was done.

The services are the gateway's own over a real database; time is a number that the machine moves. What is done is
written down as facts of reckoner.py, by whoever did it and never from what the gateway stored about amounts.
"""

import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from gateway.call import Decision, Operator, OpsCall
from gateway.clock import Day, local_day
from gateway.database import Database
from gateway.discounts.desk import RedemptionDesk
from gateway.discounts.model import Redemption
from gateway.discounts.redemption import FinalOrder
from gateway.events.outbox import BANK_ZONE
from gateway.jobs.model import JobKind
from gateway.jobs.runner import JobRunner
from gateway.keyring import Keyring, read_kek
from gateway.money import Money
from gateway.partners.apply import apply
from gateway.partners.occasion import Occasion
from gateway.partners.snapshot import SnapshotKeeper
from gateway.settings import Settings
from gateway.settlement.day_closing import DayClosing
from gateway.settlement.days_api import DaysApi
from gateway.settlement.ops_api import ApproveStatement, CalculateStatement, SettlementOps
from gateway.settlement.posting import CommissionBooking
from gateway.settlement.sealed_files import SealedFiles
from gateway.settlement.statement_work import StatementCalculation, StatementProcesses, StatementRemaking
from tests.conftest import past_all_rules
from tests.unit.conftest import FILES
from tests.unit.settlement.money_goals import Referred
from tests.unit.settlement.reckoner import Fact, Recorded, Redeemed, Returned

BANK = "Machine City Bank"
DAY_MS = 86_400_000
NOON_MS = 1_790_136_000_000  # 2026-09-23T04:00:00Z: noon in Shanghai
OPERATIONS = frozenset(("ListCampaigns", "HoldRedemption", "GetRedemption"))
MAKER, CHECKER = Operator("ops-maker", "Maker", "maker"), Operator("ops-checker", "Checker", "checker")


@dataclass(slots=True)
class Bank:
    """Everything that money passes, and `facts`: what was done to each partner, in order."""

    database: Database
    home: Path
    folder: Path
    keyring: Keyring
    snapshots: SnapshotKeeper
    desk: RedemptionDesk
    days: DaysApi
    ops: SettlementOps
    runner: JobRunner
    referred: Referred
    now_ms: int = NOON_MS
    documents: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    facts: dict[str, list[Fact]] = field(default_factory=dict)
    done: dict[str, tuple[Redemption, int]] = field(default_factory=dict)  # confirmed redemptions, what is left of each
    hidden: list[dict[str, Any]] = field(default_factory=list)  # documents that this program cannot read

    @property
    def today(self) -> date:
        return local_day(self.now_ms, BANK_ZONE)

    # --- contracts -----------------------------------------------------------------------------------------------
    async def record(self, partner_id: str, document: dict[str, Any], *, readable: bool) -> None:
        """A version as bank operations apply it; by a newer program, if it is not readable. Raises DocumentInvalid."""
        path = self.folder / "partners" / partner_id / "contract.toml"
        before = path.read_text() if path.exists() else None
        path.parent.mkdir(parents=True, exist_ok=True)
        if before is not None:
            last = self.documents[partner_id][-1]["contract"]["version"]
            path.rename(path.with_name(f"contract.v{last}.toml"))
        path.write_text(toml(document))
        try:
            await apply(self.database, self.folder, OPERATIONS, actor="machine", reason="test", now_ms=self.now_ms)
        except BaseException:
            path.unlink()
            if before is not None:
                path.with_name(f"contract.v{last}.toml").rename(path)
            raise
        self.documents.setdefault(partner_id, []).append(document)
        self.facts.setdefault(partner_id, []).append(Recorded(await self._recorded_in(), document))
        if not readable:
            self.hidden.append(document)
            await self._rewrite(document, 'body || \'{"halo": "golden"}\'')
        await self.snapshots.load()

    async def reveal(self) -> None:
        """What an upgrade does for this program: everything can be read, and is what was recorded."""
        for document in self.hidden:
            await self._rewrite(document, "body - 'halo'")
        self.hidden.clear()

    async def _rewrite(self, document: dict[str, Any], body: str) -> None:
        """A term that no program of now knows, in or out: the recorded hash stays that of what was agreed."""
        head = document["contract"]
        async with past_all_rules(self.database.url) as conn:
            await conn.execute(
                f"UPDATE document SET body = {body} WHERE kind = 'contract' AND id = $1 AND version = $2",
                head["id"], head["version"],
            )  # fmt: skip

    def take_over(self, before: "Bank") -> None:
        """What is known of a bank whose program was replaced by this one."""
        self.now_ms, self.documents, self.facts = before.now_ms, before.documents, before.facts
        self.done, self.hidden = before.done, before.hidden
        self.referred.deeds, self.referred.told = before.referred.deeds, before.referred.told

    # --- discounts -----------------------------------------------------------------------------------------------
    async def redeem(self, partner_id: str, discount: str, *, order: int, final: int, ago_ms: int) -> Redemption:
        """Hold and confirm. Raises the refusal of either; a hold that is not confirmed is given back."""
        at_ms, key = self.now_ms - ago_ms, secrets.token_hex(8)
        contract = self.snapshots.current.contract_at(partner_id, at_ms)
        currency = contract.currency if contract is not None else "CNY"
        occasion = Occasion(Money(order, currency), at_ms, None, None, None, None)
        quote = self.desk.quote(partner_id, discount, occasion=occasion, now_ms=self.now_ms)
        held = await self.desk.hold(
            quote, operation="HoldRedemption", key=key, request_hash=key.encode(), order_reference=key,
            now_ms=self.now_ms,
        )  # fmt: skip
        confirmed = await self.desk.confirm(
            partner_id, held.redemption_id, final=FinalOrder(Money(final, currency)), operation="ConfirmRedemption",
            key=key, request_hash=key.encode(), now_ms=self.now_ms,
        )  # fmt: skip
        minor = confirmed.discount_minor
        self.done[confirmed.redemption_id] = (confirmed, minor)
        self.facts[partner_id].append(
            Redeemed(await self._recorded_in(), confirmed.redemption_id, confirmed.contract_version, discount, minor,
                     f"{key}|{confirmed.redemption_id}")
        )  # fmt: skip
        return confirmed

    async def give_back(self, redemption_id: str, minor: int) -> None:
        """Raises ReversalExceedsRedemption."""
        redemption, left = self.done[redemption_id]
        await self.desk.reverse(
            redemption.partner_id, redemption_id, amount=Money(minor, redemption.currency),
            operation="ReverseRedemption", key=secrets.token_hex(8), request_hash=b"", now_ms=self.now_ms,
        )  # fmt: skip
        self.done[redemption_id] = (redemption, left - minor)
        self.facts[redemption.partner_id].append(Returned(await self._recorded_in(), redemption_id, minor))

    # --- days and statements ---------------------------------------------------------------------------------------
    async def close(self, day: str) -> Mapping[str, Any]:
        """Raises the refusal of the API."""
        answer = await self.days.close_day(self._call(MAKER, Decision("it is over"), Day=day))
        return dict(answer.payload["Data"])

    async def calculate(self, partner_id: str, to_day: date, currency: str | None) -> str:
        """The statement's id. Raises the refusal of the API."""
        wanted = CalculateStatement(partner_id, Day(to_day.year, to_day.month, to_day.day), "it is due", currency)
        answer = await self.ops.calculate(self._call(MAKER, wanted))
        return str(answer.payload["Data"]["StatementId"])

    async def statement(self, statement_id: str) -> Mapping[str, Any]:
        answer = await self.ops.get_statement(self._call(MAKER, None, StatementId=statement_id))
        return dict(answer.payload["Data"])

    async def issue(self, statement_id: str) -> None:
        shown = await self.statement(statement_id)
        for operator in (MAKER, CHECKER):
            said = ApproveStatement(operator.role, shown["Sha256"], "looked")  # type: ignore[arg-type]
            await self.ops.approve(self._call(operator, said, StatementId=statement_id))
        await self.ops.issue(self._call(CHECKER, Decision("both looked"), StatementId=statement_id))

    async def refuse(self, statement_id: str) -> None:
        await self.ops.refuse(self._call(CHECKER, Decision("not today"), StatementId=statement_id))

    async def work(self) -> None:
        """Every job that is due or waits for another try, until none is left."""
        while True:
            done = [await self.runner.run_next(kind, self.now_ms + DAY_MS) for kind in self.runner.kinds]
            if not any(done):
                return

    async def sql(self, statement: str, *values: object) -> list[Any]:
        async with self.database.connection() as conn:
            return list(await conn.fetch(statement, *values))

    async def _recorded_in(self) -> date:
        """The day that facts are recorded in: today, or the first one after those that are shut."""
        shut = (await self.sql("SELECT max(day) FROM business_day"))[0][0]
        return max(self.today, shut + timedelta(days=1)) if shut else self.today

    def _call(self, operator: Operator, body: Any, **path: str) -> OpsCall:
        return OpsCall(None, self.now_ms, "machine", operator, path, {}, {}, body)  # type: ignore[arg-type]


@asynccontextmanager
async def open_bank(url: str, home: Path) -> AsyncIterator[Bank]:
    """A bank without partners over an empty, migrated database; its home is its own."""
    database = await Database.connect(url, pool_size=6)
    try:
        keyring = Keyring(read_kek(home, make=True))
        async with database.transaction() as conn:
            await keyring.ensure(conn)
        snapshots = SnapshotKeeper(database)
        await snapshots.load()
        runner = JobRunner(database, job_kinds(database, keyring, url=url, home=home))
        desk = RedemptionDesk(database, snapshot=lambda: snapshots.current, secret=bytes(32))
        yield Bank(
            database, home, made_folder(home / "agreed"), keyring, snapshots, desk, DaysApi(database),
            SettlementOps(database, snapshots), runner, Referred.build(database, keyring, snapshots),
        )  # fmt: skip
    finally:
        await database.close()


def job_kinds(database: Database, keyring: Keyring, *, url: str, home: Path) -> tuple[JobKind, ...]:
    settings = Settings(database_url=url, home=str(home), issuer="https://bank.example", sandbox=True)
    files, processes = SealedFiles(database, home), StatementProcesses(settings)
    works = (
        DayClosing(database, keyring, files, BANK),
        StatementCalculation(database, files, processes),
        CommissionBooking(database),
        StatementRemaking(database, files, processes),
    )
    return tuple(work.kind() for work in works)


def made_folder(folder: Path) -> Path:
    """Two partners of whom one is poisoned later, without contracts; and policies. As it is where it is there."""
    if folder.exists():
        return folder
    for name, text in FILES.items():
        if not name.endswith("contract.toml"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    ferry = folder / "partners" / "ferry"
    ferry.mkdir()
    partner = (folder / "partners" / "metro" / "partner.toml").read_text()
    (ferry / "partner.toml").write_text(partner.replace("metro", "ferry"))
    return folder


def toml(document: Mapping[str, Any]) -> str:
    """The document as a file: tables of plain values and lists of inline tables."""
    lines = []
    for name, value in document.items():
        if isinstance(value, list):
            for item in value:
                lines += [f"[[{name}]]", *(f"{key} = {_spelled(member)}" for key, member in item.items())]
        else:
            lines += [f"[{name}]", *(f"{key} = {_spelled(member)}" for key, member in value.items())]
    return "\n".join(lines) + "\n"


def _spelled(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_spelled(member)}" for key, member in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_spelled, value)) + "]"
    return json.dumps(value)
