"""Contracts, discounts, closings, statements and crashes in any order: at the end every reckoning says the same.

Driven by hypothesis: versions recorded in any order of start, redemptions and reversals, closings of any day (twice, of
the past, of the future), sealed files that are lost, cut, changed or extra, statements refused and asked for again, a
poisoned partner, and the back office killed with SIGKILL at any moment. At the end of each run: the statements are the
own reckoning (reckoner.py) and the book; the verifier accepts what was issued and refuses a change of it; and nothing
waits for anything poisoned.
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import date, timedelta
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from gateway.document import DocumentInvalid
from gateway.events import outbox
from gateway.refusal import Refusal
from gateway.settlement.verify import verify_files
from tests.conftest import ROOT, with_database
from tests.unit.settlement.money_machine import DAY_MS, NOON_MS, Bank, open_bank
from tests.unit.settlement.reckoner import Reckoner, Recorded, in_force

T = TypeVar("T")
PLACE = st.integers(0, 10**6)  # of something in a list whose length the crashes decide: taken by remainder
OFFERS = ("fen", "tenth", "five")
ASKED = "SELECT statement_id, currency, from_day, to_day, totals, state FROM statement WHERE partner_id = $1"


# --- contracts -------------------------------------------------------------------------------------------------------
@st.composite
def funds(draw: st.DrawFn) -> list[dict[str, Any]]:
    partner = draw(st.integers(0, 10_000))
    shares: list[dict[str, Any]] = [{"party": "bank", "bps": 10_000 - partner}, {"party": "partner", "bps": partner}]
    if draw(st.booleans()):
        shares[1] |= {"cap_minor": draw(st.integers(0, 3000)), "overflow": "bank"}
    return shares[::-1] if draw(st.booleans()) else shares


@st.composite
def versions(draw: st.DrawFn) -> dict[str, Any]:
    """A contract without its head: three offers, a least pay that may hold back what is due."""
    fen = {"id": "fen", "title": "f", "kind": "cap_price", "pay_minor": 1, "max_off_minor": draw(st.integers(1, 2500))}
    tenth = {"id": "tenth", "title": "t", "kind": "percent_off", "bps": draw(st.integers(1, 9999))}
    five = {"id": "five", "title": "5", "kind": "threshold_off", "min_minor": 1000}
    five["off_minor"] = draw(st.integers(1, 900))
    if draw(st.booleans()):
        five["when"] = {"min_minor": draw(st.integers(0, 2000))}
    return {
        "discount": [{**offer, "fund": draw(funds())} for offer in (fen, tenth, five)],
        "settle": {"min_pay_minor": draw(st.sampled_from((0, 0, 1500, 50_000)))},
    }


class Money(RuleBasedStateMachine):
    """One bank, one partner that trades, one that is poisoned."""

    loop: asyncio.AbstractEventLoop
    new_database: Callable[[], Awaitable[str]]

    def __init__(self) -> None:
        super().__init__()
        self.stack = AsyncExitStack()
        self.home = Path(tempfile.mkdtemp(prefix="money-"))
        self.url = self.run(self.new_database())
        self.bank: Bank = self.run(self.stack.enter_async_context(open_bank(self.url, self.home)))
        self.poisoned = False

    def run(self, awaitable: Awaitable[T]) -> T:
        return asyncio.run_coroutine_threadsafe(_as_coroutine(awaitable), self.loop).result(timeout=120)

    # --- what bank and partner do ----------------------------------------------------------------------------------
    @initialize(terms=versions(), begun=st.integers(0, 400))
    def agree(self, terms: dict[str, Any], begun: int) -> None:
        self._record("metro", terms, starts=self.bank.today - timedelta(days=begun), version=1, currency="CNY")

    @rule(terms=versions(), starts_in=st.integers(-3, 4), lasts=st.none() | st.integers(0, 5), jump=st.integers(1, 3),
          currency=st.sampled_from(("CNY", "CNY", "CNY", "USD")))  # fmt: skip
    def agree_anew(self, terms: dict[str, Any], starts_in: int, lasts: int | None, jump: int, currency: str) -> None:
        """Versions in any order of start; one that would change what has happened already is refused."""
        starts, last = self.bank.today + timedelta(days=starts_in), self.bank.documents["metro"][-1]
        version = last["contract"]["version"] + jump
        ends = None if lasts is None else starts + timedelta(days=lasts)
        open_day = self.run(self.bank._recorded_in())
        if starts > open_day:
            self._record("metro", terms, starts=starts, ends=ends, version=version, currency=currency)
        else:
            with pytest.raises(DocumentInvalid, match="later business day"):
                self._record("metro", terms, starts=starts, ends=ends, version=version, currency=currency)

    @rule(offer=st.sampled_from(OFFERS), order=st.integers(2, 6000), share=st.integers(50, 100),
          minutes=st.integers(0, 14))  # fmt: skip
    def redeem(self, offer: str, order: int, share: int, minutes: int) -> None:
        at_ms = self.bank.now_ms - minutes * 60_000
        terms = in_force(self.bank.documents["metro"], at_ms)
        final = max(1, order * share // 100)
        try:
            done = self.run(self.bank.redeem("metro", offer, order=order, final=final, ago_ms=minutes * 60_000))
        except Refusal:
            assert terms is None or _off(terms, offer, order) == 0 or _off(terms, offer, final) == 0
            return
        assert terms is not None
        assert done.contract_version == terms["contract"]["version"]
        assert done.discount_minor == min(_off(terms, offer, final), _off(terms, offer, order))

    @rule(which=PLACE, share=st.integers(1, 100))
    def give_back(self, which: int, share: int) -> None:
        granted = [name for name, (_, left) in self.bank.done.items() if left]
        if granted:
            chosen = granted[which % len(granted)]
            self.run(self.bank.give_back(chosen, max(1, self.bank.done[chosen][1] * share // 100)))

    @rule(days=st.integers(1, 3))
    def time_passes(self, days: int) -> None:
        self.bank.now_ms += days * DAY_MS

    # --- closing, settling, and what may happen meanwhile -----------------------------------------------------------
    @rule(offset=st.integers(-4, 3), twice=st.booleans())
    def close(self, offset: int, twice: bool) -> None:
        """Any day: one that is over or runs is sealed, with all before it; another is refused with the reason."""
        day, last = self.bank.today + timedelta(days=offset), self._last_head()
        sealed = bool(self.run(self.bank.sql("SELECT 1 FROM sealed_day WHERE day = $1", day)))
        for _ in range(1 + twice):
            try:
                shown = self.run(self.bank.close(day.isoformat()))
            except Refusal as refusal:
                refused = refusal.code
            else:
                assert sealed or (offset <= 0 and (last is None or day >= last)), shown
                continue
            assert not sealed
            assert refused == ("day_not_over" if offset > 0 else "day_behind_head")
            assert offset > 0 or (last is not None and day < last)
            return
        self.run(self.bank.work())
        later = self._last_head()
        assert later is not None
        assert later >= day, "it is sealed, or was shut with a later day that somebody asked for before"

    @rule(which=PLACE, where=PLACE, how=st.sampled_from(("lose", "cut", "flip", "replace", "extra")))
    def harm_a_sealed_file(self, which: int, where: int, how: str) -> None:
        """What lies on the disk is no truth: none of this may show anywhere."""
        files = self._sealed_files()
        if not files:
            return
        file = files[which % len(files)]
        raw = bytearray(file.read_bytes())
        match how:
            case "lose":
                file.unlink()
            case "cut":
                file.write_bytes(raw[: len(raw) // 2])
            case "flip":
                raw[where % len(raw)] ^= 1 << where % 8
                file.write_bytes(raw)
            case "replace":
                file.write_bytes(files[where % len(files)].read_bytes())
            case _:
                shutil.copyfile(file, file.with_name("2020-01-01.parquet"))

    @precondition(lambda self: not self.poisoned)
    @rule(terms=versions())
    def poison_a_neighbour(self, terms: dict[str, Any]) -> None:
        """A goal under a version that there never was: its partner's statement cannot be, and nobody else's waits."""
        self._record("ferry", terms, starts=self.bank.today - timedelta(days=1), version=1, currency="CNY")
        self.run(self._write_poison())
        self.poisoned = True

    @rule(back=st.integers(0, 2), ending=st.sampled_from(("issue", "issue", "refuse", "leave")),
          currency=st.sampled_from(("CNY", "USD")))  # fmt: skip
    def settle(self, back: int, ending: str, currency: str) -> None:
        """Through a sealed day; a statement is issued, refused, or left to the end."""
        last = self._last_head() or self.bank.today
        try:
            statement_id = self.run(self.bank.calculate("metro", last - timedelta(days=back), currency))
        except Refusal:
            return
        self.run(self.bank.work())
        shown = self.run(self.bank.statement(statement_id))
        assert shown["Status"] == "CALCULATED", shown.get("Failure")
        if ending == "issue":
            self.run(self.bank.issue(statement_id))
        elif ending == "refuse":
            self.run(self.bank.refuse(statement_id))

    @rule(offset=st.integers(-1, 0), after_ms=st.integers(0, 2500))
    def die_at_work(self, offset: int, after_ms: int) -> None:
        """The back office is killed while it closes, calculates and books; nothing is half done, nothing twice."""
        with _refused_is_fine():
            self.run(self.bank.close((self.bank.today + timedelta(days=offset)).isoformat()))
        last = self._last_head()
        with _refused_is_fine():
            if last is not None:
                self.run(self.bank.calculate("metro", last, "CNY"))
        self.run(self._work_and_die(after_ms))

    # --- the end ---------------------------------------------------------------------------------------------------
    def teardown(self) -> None:
        try:
            if self.bank.documents:
                self._settle_everything()
        finally:
            self.run(self.stack.aclose())
            shutil.rmtree(self.home, ignore_errors=True)

    def _settle_everything(self) -> None:
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
        with _refused_is_fine():  # everything through that day is on a statement already
            statement_id = self.run(self.bank.calculate("metro", last, currency))
            self.run(self.bank.work())
            shown = self.run(self.bank.statement(statement_id))
            assert shown["Status"] == "CALCULATED", shown.get("Failure")
            self.run(self.bank.issue(statement_id))

    def _neighbour_is_refused(self) -> None:
        last = self._last_head()
        assert last is not None
        with _refused_is_fine():
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
        own = Reckoner(currency).take(self.bank.facts["metro"])
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

    # --- looks -----------------------------------------------------------------------------------------------------
    def _record(self, partner_id: str, terms: dict[str, Any], *, starts: date, version: int, currency: str,
                ends: date | None = None) -> None:  # fmt: skip
        head: dict[str, Any] = {
            "id": f"{partner_id}-2026", "version": version, "currency": currency, "valid_from": starts.isoformat(),
        }  # fmt: skip
        if ends is not None:
            head["valid_to"] = ends.isoformat()
        self.run(self.bank.record(partner_id, {"contract": head, **terms}))

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
            await asyncio.wait_for(process.wait(), after_ms / 1000 + 0.001)
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
            "SELECT DISTINCT currency FROM event WHERE partner = 'metro' AND type LIKE 'redemption.%' ORDER BY 1"
        ))  # fmt: skip
        return [row[0] for row in rows]

    def _balance(self, account: str) -> int:
        found = self.run(self.bank.sql("SELECT sum(amount_minor) FROM ledger_posting WHERE account = $1", account))
        return int(found[0][0] or 0)

    def _sealed_files(self) -> list[Path]:
        return sorted((self.home / "sealed").glob("*.parquet"))

    def _noon_day(self) -> date:
        return date(2026, 9, 23)


class _refused_is_fine:  # noqa: N801 - reads like contextlib.suppress
    def __enter__(self) -> None:
        """A refusal is an answer too."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, Refusal)


def _off(document: dict[str, Any], offer: str, order: int) -> int:
    """§5, as the machine expects it."""
    discount = next(d for d in document["discount"] if d["id"] == offer)
    if order < discount.get("when", {}).get("min_minor", 0):
        return 0
    match discount["kind"]:
        case "cap_price":
            off = order - 1
        case "percent_off":
            off = order * discount["bps"] // 10_000
        case _:
            off = discount["off_minor"] if order >= discount["min_minor"] else 0
    return max(0, min(off, discount.get("max_off_minor", off), order))


async def _as_coroutine(awaitable: Awaitable[T]) -> T:
    return await awaitable


async def drive(server_url: str, template: str, *, runs: int, steps: int) -> None:
    """The machine over databases of its own, which are dropped afterwards."""
    admin, names = await asyncpg.connect(server_url), list[str]()

    async def new_database() -> str:
        names.append(f"m_{os.urandom(6).hex()}")
        await admin.execute(f"CREATE DATABASE {names[-1]} TEMPLATE {template} STRATEGY file_copy")
        return with_database(server_url, names[-1])

    machine = type("Money", (Money,), {"loop": asyncio.get_running_loop(), "new_database": staticmethod(new_database)})
    limits = settings(
        max_examples=runs,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
        print_blob=True,
    )
    try:
        await asyncio.to_thread(run_state_machine_as_test, machine, settings=limits)
    finally:
        for name in names:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def test_statements_book_and_own_reckoning_agree_whatever_happens(server_url: str, bare_template: str) -> None:
    await drive(server_url, bare_template, runs=4, steps=12)


@pytest.mark.long
async def test_the_same_over_many_long_runs(server_url: str, bare_template: str) -> None:
    await drive(server_url, bare_template, runs=60, steps=40)


def test_the_reckoner_says_no() -> None:
    """A reckoner that cannot differ would prove nothing."""
    own = Reckoner("CNY").take([Recorded(date(2026, 1, 1), {"contract": {"version": 1, "currency": "CNY"}})])
    assert own.period(date.min, date.max).net == 0
