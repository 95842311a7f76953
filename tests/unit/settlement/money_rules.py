"""The rules of the money machine: what bank, partner, disk and chance may do, in any order."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from gateway.document import DocumentInvalid
from gateway.partners.snapshot import TermsUnreadable
from gateway.refusal import Refusal
from tests.unit.settlement.money_checks import MoneyChecks
from tests.unit.settlement.money_machine import DAY_MS
from tests.unit.settlement.reference import in_force, off

PLACE = st.integers(0, 10**6)  # of something in a list whose length the crashes decide: taken by remainder
OFFERS = ("fen", "tenth", "five")


# --- contracts -------------------------------------------------------------------------------------------------------
@st.composite
def funds(draw: st.DrawFn) -> list[dict[str, Any]]:
    partner = draw(st.integers(0, 10_000))
    shares: list[dict[str, Any]] = [{"party": "bank", "bps": 10_000 - partner}, {"party": "partner", "bps": partner}]
    if draw(st.booleans()):
        shares[1] |= {"cap_minor": draw(st.integers(0, 3000)), "overflow": "bank"}
    return shares[::-1] if draw(st.booleans()) else shares


@st.composite
def commissions(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Tiers for cards, a share of spends within a cap or a window; either may be missing."""
    starts = sorted(draw(st.sets(st.integers(1, 4), max_size=2)))
    steps = [{"from": start, "minor": draw(st.integers(0, 5000))} for start in (0, *starts)]
    cards = {"goal": "CARD_ACTIVATED", "kind": "CPA", "tiers": "marginal", "period": "month", "steps": steps}
    spends: dict[str, Any] = {"goal": "SPEND", "kind": "CPS", "bps": draw(st.integers(0, 500))}
    if draw(st.booleans()):
        spends["cap_per_customer_minor"] = draw(st.integers(0, 4000))
    if draw(st.booleans()):
        spends["window"] = f"{draw(st.integers(1, 10))}d"
    return [term for term in (cards, spends) if draw(st.integers(0, 4))]


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
        "attribution": {"order": ["batch"], "exclusive_for": ["ACCOUNT_OPENED"]},
        "commission": draw(commissions()),
        "discount": [{**offer, "fund": draw(funds())} for offer in (fen, tenth, five)],
        "settle": {"min_pay_minor": draw(st.sampled_from((0, 0, 1500, 50_000)))},
    }


class Money(MoneyChecks):
    """Steps in any order; each is held to its answer, and all of them to the checks at the end."""

    # --- what bank and partner do ----------------------------------------------------------------------------------
    @initialize(terms=versions(), begun=st.integers(0, 400), lives=PLACE)
    def agree(self, terms: dict[str, Any], begun: int, lives: int) -> None:
        self._record("metro", terms, starts=self.bank.today - timedelta(days=begun), version=1, currency="CNY")
        self.run(self.bank.referred.bring(lives, now_ms=self.bank.now_ms))

    @rule(which=st.lists(PLACE, min_size=1, max_size=6))
    def tell_goals(self, which: list[int]) -> None:
        """What the brought customers have done, in any order, early or late."""
        self.run(self.bank.referred.tell(which, now_ms=self.bank.now_ms))

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

    @rule(terms=versions(), starts_in=st.integers(1, 4), currency=st.sampled_from(("CNY", "CNY", "USD")))
    def agree_what_this_program_cannot_read(self, terms: dict[str, Any], starts_in: int, currency: str) -> None:
        """A newer program has recorded it: nothing changes until it starts, then that partner's money waits."""
        starts = self.run(self.bank._recorded_in()) + timedelta(days=starts_in)
        version = self.bank.documents["metro"][-1]["contract"]["version"] + 1
        self._record("metro", terms, starts=starts, version=version, currency=currency, readable=False)

    @precondition(lambda self: bool(self.bank.hidden))
    @rule()
    def upgrade(self) -> None:
        self._upgrade()

    @rule(offer=st.sampled_from(OFFERS), order=st.integers(2, 6000), share=st.integers(50, 100),
          minutes=st.integers(0, 14))  # fmt: skip
    def redeem(self, offer: str, order: int, share: int, minutes: int) -> None:
        at_ms = self.bank.now_ms - minutes * 60_000
        terms = in_force(self.bank.documents["metro"], at_ms)
        final = max(1, order * share // 100)
        try:
            done = self.run(self.bank.redeem("metro", offer, order=order, final=final, ago_ms=minutes * 60_000))
        except TermsUnreadable:
            assert self._unreadable_at(at_ms)
            return
        except Refusal:
            assert not self._unreadable_at(at_ms)
            assert terms is None or _off(terms, offer, order) == 0 or _off(terms, offer, final) == 0
            return
        assert terms is not None
        assert not self._unreadable_at(at_ms)
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
                file.with_name("2020-01-01.parquet").write_bytes(raw)

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
        if not self._assert_calculated(statement_id, last - timedelta(days=back)):
            return
        if ending == "issue":
            self.run(self.bank.issue(statement_id))
        elif ending == "refuse":
            self.run(self.bank.refuse(statement_id))

    @rule(terms=versions(), starts_in=st.integers(1, 3), days=st.integers(1, 3),
          ending=st.sampled_from(("issue", "issue", "refuse")))  # fmt: skip
    def settle_over_what_this_program_cannot_read(
        self, terms: dict[str, Any], starts_in: int, days: int, ending: str
    ) -> None:
        """Until it starts a statement is what it would be without it; from then on there is none."""
        if not self.bank.hidden:
            self.agree_what_this_program_cannot_read(terms=terms, starts_in=starts_in, currency="CNY")
        for later in (0, days):
            self.bank.now_ms += later * DAY_MS
            self.tell_goals(which=list(range(6)))
            self.close(offset=0, twice=False)
            self.settle(back=0, ending=ending, currency="CNY")

    @rule(offset=st.integers(-1, 0), after_ms=st.integers(0, 2500))
    def die_at_work(self, offset: int, after_ms: int) -> None:
        """The back office is killed while it closes, calculates and books; nothing is half done, nothing twice."""
        with suppress(Refusal):
            self.run(self.bank.close((self.bank.today + timedelta(days=offset)).isoformat()))
        last = self._last_head()
        with suppress(Refusal):
            if last is not None:
                self.run(self.bank.calculate("metro", last, "CNY"))
        self.run(self._work_and_die(after_ms))


def _off(document: dict[str, Any], offer: str, order: int) -> int:
    """§5, as the machine expects it."""
    discount = next(d for d in document["discount"] if d["id"] == offer)
    if order < discount.get("when", {}).get("min_minor", 0):
        return 0
    return off(order, discount)
