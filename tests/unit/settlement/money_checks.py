"""What must be so at the end of every history of the money machine, and what its rules look at."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from hypothesis.stateful import RuleBasedStateMachine

from gateway.events import outbox
from gateway.refusal import Refusal
from gateway.settlement.verify import verify_files
from tests.conftest import ROOT
from tests.unit.settlement.money_machine import DAY_MS, NOON_MS, Bank, open_bank
from tests.unit.settlement.reckoner import Reckoner
from tests.unit.settlement.reference import term

T = TypeVar("T")
ASKED = "SELECT statement_id, currency, from_day, to_day, totals, state FROM statement WHERE partner_id = $1"


class MoneyChecks(RuleBasedStateMachine):
    """One bank, one partner that trades, one that is poisoned; and what must be so at the end."""

    loop: asyncio.AbstractEventLoop
    new_database: Callable[[], Awaitable[str]]
    unreadable: Counter[str]  # what became of statements over a version that the program could not read

    def __init__(self) -> None:
        super().__init__()
        self.stack = AsyncExitStack()
        self.home = Path(tempfile.mkdtemp(prefix="money-"))
        self.url = self.run(self.new_database())
        self.bank: Bank = self.run(self.stack.enter_async_context(open_bank(self.url, self.home)))
        self.poisoned = False

    def run(self, awaitable: Awaitable[T]) -> T:
        return asyncio.run_coroutine_threadsafe(_as_coroutine(awaitable), self.loop).result(timeout=120)

    # --- the end ---------------------------------------------------------------------------------------------------
    def teardown(self) -> None:
        try:
            if self.bank.documents:
                self._settle_everything()
        finally:
            self.run(self.stack.aclose())
            shutil.rmtree(self.home, ignore_errors=True)

    def _settle_everything(self) -> None:
        self._upgrade()
        self.run(self.bank.referred.tell([], now_ms=self.bank.now_ms))  # goals have waited for terms
        open_day = self.run(self.bank._recorded_in())
        self.bank.now_ms = NOON_MS + (open_day - self._noon_day()).days * DAY_MS
        self.run(self.bank.close(open_day.isoformat()))
        self.run(self.bank.work())
        for row in self.run(self.bank.sql(ASKED, "metro")):
            if row["state"] == "CALCULATED":
                self.run(self.bank.issue(row["statement_id"]))
        for currency in self._currencies():
            self._issue_the_rest(currency)
        self.run(self.bank.work())
        if self.poisoned:
            self._neighbour_is_refused()
        self._nothing_waits()
        for currency in self._currencies():
            self._statements_are_the_reckoning(currency)
        self._verifier_accepts_these_and_nothing_else()

    def _issue_the_rest(self, currency: str) -> None:
        last = self._last_head()
        assert last is not None
        with suppress(Refusal):  # everything through that day is on a statement already
            statement_id = self.run(self.bank.calculate("metro", last, currency))
            self.run(self.bank.work())
            shown = self.run(self.bank.statement(statement_id))
            assert shown["Status"] == "CALCULATED", shown.get("Failure")
            self.run(self.bank.issue(statement_id))

    def _neighbour_is_refused(self) -> None:
        last = self._last_head()
        assert last is not None
        with suppress(Refusal):
            statement_id = self.run(self.bank.calculate("ferry", last, None))
            self.run(self.bank.work())
            shown = self.run(self.bank.statement(statement_id))
            assert shown["Status"] == "FAILED"
            assert "evt_poison" in shown["Failure"]

    def _nothing_waits(self) -> None:
        found = self.run(self.bank.sql("SELECT kind, subject, failure FROM job WHERE state IN ('WAITING', 'RUNNING')"))
        assert not found

    def _statements_are_the_reckoning(self, currency: str) -> None:
        rows = [row for row in self._issued() if row["currency"] == currency]
        goals = self.run(self.bank.referred.facts(self.bank.documents["metro"]))
        own = Reckoner(currency).take([*self.bank.facts["metro"], *goals])
        carried, commission = 0, 0
        for row in rows:
            sums, totals = own.period(row["from_day"], row["to_day"]), row["totals"]
            due = sums.net + carried
            pay = due if due > 0 and due >= own.least_pay(row["to_day"]) else 0
            assert totals == {
                "bank_owes_minor": sums.bank_owes, "partner_owes_minor": sums.partner_owes, "net_minor": sums.net,
                "carried_in_minor": carried, "payable_minor": pay, "carried_out_minor": due - pay,
            }  # fmt: skip
            carried, commission = due - pay, commission + sums.commission
        whole = own.period(date.min, date.max)
        assert sum(row["totals"]["net_minor"] for row in rows) == whole.net, "every fact is on one statement"
        assert self._balance(f"merchant_clearing:metro:{currency}") == -whole.discounts
        assert self._balance(f"funded_receivable:metro:{currency}") == whole.funded
        assert self._balance(f"discount_expense:bank:{currency}") == whole.discounts - whole.funded
        assert self._balance(f"commission_payable:metro:{currency}") == -commission

    def _verifier_accepts_these_and_nothing_else(self) -> None:
        jwks = {"keys": [dict(self.bank.keyring.signing_key("statement").public_jwk)]}
        files = [self.home / "statements" / f"{row['statement_id']}.statement" for row in self._issued()]
        if not files:
            return
        report = verify_files(files, jwks=jwks)
        assert report.accepted, [file.faults for file in report.files]
        raw = bytearray(files[-1].read_bytes())
        place = int.from_bytes(os.urandom(4)) % len(raw)
        raw[place] ^= 1
        changed = self.home / "changed.json"
        changed.write_bytes(raw)
        assert not verify_files([changed], jwks=jwks).accepted, f"byte {place} was changed"

    # --- terms that cannot be read ---------------------------------------------------------------------------------
    def _upgrade(self) -> None:
        """A program that can read everything takes over: another process, with a picture of its own."""
        self.run(self.bank.reveal())
        before = self.bank
        self.run(self.stack.aclose())
        self.stack = AsyncExitStack()
        self.bank = self.run(self.stack.enter_async_context(open_bank(self.url, self.home)))
        self.bank.take_over(before)

    def _unreadable_at(self, at_ms: int) -> bool:
        """From the start of a version that cannot be read on, nothing is priced."""
        return any(term(document)[0] <= at_ms for document in self.bank.hidden)

    def _assert_calculated(self, statement_id: str, to_day: date) -> bool:
        """It is, unless a version has started by its last day and cannot be read: then it says so."""
        shown = self.run(self.bank.statement(statement_id))
        started = any(document["contract"]["valid_from"] <= to_day.isoformat() for document in self.bank.hidden)
        if self.bank.hidden:
            self.unreadable[shown["Status"]] += 1
        if started:
            assert shown["Status"] == "FAILED"
            assert "has no document that this program can read" in shown["Failure"]
            return False
        assert shown["Status"] == "CALCULATED", shown.get("Failure")
        return True

    # --- looks -----------------------------------------------------------------------------------------------------
    def _record(self, partner_id: str, terms: dict[str, Any], *, starts: date, version: int, currency: str,
                ends: date | None = None, readable: bool = True) -> None:  # fmt: skip
        head: dict[str, Any] = {
            "id": f"{partner_id}-2026", "version": version, "currency": currency, "valid_from": starts.isoformat(),
        }  # fmt: skip
        if ends is not None:
            head["valid_to"] = ends.isoformat()
        self.run(self.bank.record(partner_id, {"contract": head, **terms}, readable=readable))

    async def _write_poison(self) -> None:
        event = outbox.Event(
            "goal.reached", self.bank.now_ms, {"goal": "SPEND", "claim_id": "clm_1", "anchor_at_ms": self.bank.now_ms},
            partner="ferry", contract="ferry-2026", contract_version=99, currency="CNY", amount_minor=100,
            subject_token="idt_1_x", event_id="evt_poison",
        )  # fmt: skip
        async with self.bank.database.transaction() as conn:
            await outbox.append(conn, [event], now_ms=self.bank.now_ms)

    async def _work_and_die(self, after_ms: int) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.unit.settlement.taker", self.url, str(self.home), str(self.bank.now_ms),
            cwd=ROOT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(after_ms / 1000 + 0.001):
                await process.wait()
        except TimeoutError:
            process.send_signal(signal.SIGKILL)
            await process.wait()

    def _last_head(self) -> date | None:
        found: date | None = self.run(self.bank.sql("SELECT max(day) FROM sealed_day"))[0][0]
        return found

    def _issued(self) -> list[Any]:
        rows = self.run(self.bank.sql(f"{ASKED} AND state = 'ISSUED' ORDER BY currency, number", "metro"))
        return list(rows)

    def _currencies(self) -> list[str]:
        """Of the facts that have lines."""
        rows = self.run(self.bank.sql(
            """SELECT DISTINCT currency FROM event WHERE partner = 'metro'
                 AND (type LIKE 'redemption.%' OR type = 'goal.reached') ORDER BY 1"""
        ))  # fmt: skip
        return [row[0] for row in rows]

    def _balance(self, account: str) -> int:
        found = self.run(self.bank.sql("SELECT sum(amount_minor) FROM ledger_posting WHERE account = $1", account))
        return int(found[0][0] or 0)

    def _sealed_files(self) -> list[Path]:
        return sorted((self.home / "sealed").glob("*.parquet"))

    def _noon_day(self) -> date:
        return date(2026, 9, 23)


async def _as_coroutine(awaitable: Awaitable[T]) -> T:
    return await awaitable
