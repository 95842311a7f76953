"""The engine beside the reference's fold: lines, totals, closing; over any honest record, and across statements."""

import json
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.settlement.calculation import FactsDisagree, Opening
from gateway.settlement.verify import verify_files
from tests.unit.settlement import made
from tests.unit.settlement.made import DAY_MS, NOON_MS, Record

STEPS = st.one_of(
    st.tuples(st.just("redeem"), st.sampled_from(["fen", "half", "from", "noon"]), st.integers(1, 9000),
              st.integers(0, 3)),
    st.tuples(st.just("reverse"), st.integers(0, 5), st.integers(1, 3000), st.just(0)),
    st.tuples(st.just("goal"), st.sampled_from(["CARD_ACTIVATED", "SPEND", "ACCOUNT_OPENED"]), st.integers(0, 30_000),
              st.integers(0, 40)),
    st.tuples(st.just("version"), st.integers(0, 60), st.sampled_from([None, 10, 30, 45, 80]), st.integers(1, 3)),
    st.tuples(st.just("day"), st.just(0), st.just(0), st.integers(1, 2)),
)  # fmt: skip
HISTORY = st.lists(STEPS, max_size=24)
THREE = [{"party": party, "bps": bps} for party, bps in (("bank", 3334), ("partner", 3333), ("network", 3333))]
quick = settings(max_examples=25, deadline=None)


def record_of(steps: list[Any], record: Record) -> Record:
    """What a gateway records when this is asked of it; moments lie up to three days before the recording."""
    for number, (step, what, amount, late) in enumerate(steps):
        at = record.recorded_ms - late * DAY_MS % (3 * DAY_MS)
        if step == "redeem":
            record.redeem(what, amount, occurred_ms=at, key=f"k{number}")
        elif step == "reverse":
            confirmed = [each for each in record.events if each["type"] == "redemption.confirmed"]
            if confirmed:
                record.reverse(confirmed[what % len(confirmed)], amount)
        elif step == "goal":
            record.goal(what, spend=amount, token=f"idt_1_{amount % 3}", occurred_ms=at, late_days=late)
        elif step == "version":
            begin_version(record, cap=amount, tiers=what, days=late)
        else:
            record.next_day(late)
    return record


def begin_version(record: Record, *, cap: int | None, tiers: int, days: int) -> None:
    """A later version, which starts on a later day, perhaps without a cap, perhaps for a few days only."""
    before = record.contracts[-1]
    commissions = json.loads(json.dumps(made.CONTRACT["commission"]))
    commissions[0]["steps"] = [{"from": 0, "minor": 100}, {"from": 1 + tiers % 4, "minor": 7000 + tiers}]
    commissions[1]["cap_per_customer_minor"] = cap
    if cap is None:
        del commissions[1]["cap_per_customer_minor"]
    discounts = json.loads(json.dumps(made.CONTRACT["discount"]))
    if tiers % 3 == 0:  # the partner's cap ends, or is another one
        discounts[1]["fund"] = made.SIXTY_FORTY
    else:
        discounts[1]["fund"][1]["cap_minor"] = 500 * tiers
    start = record.day + timedelta(days=days)
    head = {"valid_from": start.isoformat()}
    if tiers % 2:
        head["valid_to"] = (start + timedelta(days=1)).isoformat()
    terms = {"commission": commissions, "discount": discounts, "settle": {"min_pay_minor": tiers}}
    record.effective(made.contract(before["contract"]["version"] + 1, terms=terms, **head))


def on(folder: str, name: str) -> Path:
    path = Path(folder) / name
    path.mkdir()
    return path


@pytest.mark.parametrize(("late_ms", "worth"), [(0, 27), (1, 0)])
def test_spend_at_the_last_moment_of_its_window_is_paid_and_a_moment_later_is_not(
    tmp_path: Path, late_ms: int, worth: int
) -> None:
    record = made.started()
    told = record.goal("SPEND", spend=9000, late_days=30)
    assert told is not None
    told["data"]["anchor_at_ms"] -= late_ms
    assert [line["amount_minor"] for line in made.lines_of(made.statement(tmp_path, record.events, record.terms))] == [
        worth
    ]


@pytest.mark.parametrize(("spend", "worth"), [(166, 0), (167, 1), (499, 1), (500, 2), (833, 2), (834, 3)])
def test_half_a_minor_unit_of_a_share_rounds_up(tmp_path: Path, spend: int, worth: int) -> None:
    """30 basis points: 500 is worth one and a half."""
    record = made.started()
    record.goal("SPEND", spend=spend)
    written = made.statement(tmp_path, record.events, record.terms)
    assert [line["amount_minor"] for line in made.lines_of(written)] == [worth]


@given(HISTORY)
@quick
def test_lines_and_closing_are_those_of_the_rules_for_any_record(steps: list[Any]) -> None:
    record = record_of(steps, made.started())
    lines, state = made.folded(record.events, record.contracts)
    with tempfile.TemporaryDirectory() as folder:
        written = made.statement(Path(folder), record.events, record.terms)
        assert made.lines_of(written) == lines
        assert dict(written.closing.ranks) == state.ranks
        assert dict(written.closing.funded) == {key: minor for key, minor in state.funded.items() if minor}
        changes = [row for batch in written.accrued_changes() for row in batch]
        assert dict(changes) == {key: minor for key, minor in state.accrued.items() if minor}
        paid = [(line["event_id"], line["amount_minor"]) for line in lines if line["kind"] == "commission"]
        assert [row for batch in written.commissions() for row in batch] == [row for row in paid if row[1]]
    amounts = [line["amount_minor"] for line in lines]
    assert written.totals.bank_owes_minor == sum(each for each in amounts if each > 0)
    assert written.totals.net_minor == sum(amounts)
    assert written.totals.payable_minor + written.totals.carried_out_minor == sum(amounts)
    assert [each.version for each in written.closing.versions] == [c["contract"]["version"] for c in record.contracts]


@pytest.mark.parametrize("examples", [10, pytest.param(250, marks=pytest.mark.long)])  # three statements each
def test_a_second_statement_goes_on_where_the_first_ended(examples: int) -> None:
    settings(max_examples=examples, deadline=None)(given(HISTORY, HISTORY)(two_in_a_row_are_one_over_both))()


def two_in_a_row_are_one_over_both(steps: list[Any], more: list[Any]) -> None:
    """Ranks, caps, funded amounts and known versions run on: two in a row pay what one over both would."""
    record = record_of(steps, made.started())
    record.next_day()
    split = len(record.events)
    record_of(more, record)
    first, rest = record.events[:split], record.events[split:]
    with tempfile.TemporaryDirectory() as folder:
        apart = made.statement(on(folder, "1"), first, record.terms)
        accrued = dict(row for batch in apart.accrued_changes() for row in batch)
        opening = Opening.from_members(json.loads(json.dumps(apart.closing.members())))
        after = made.statement(on(folder, "2"), rest, record.terms, opening=opening, accrued=accrued, number=2)
        whole = made.statement(on(folder, "3"), record.events, record.terms)
        assert made.lines_of(apart) + made.lines_of(after) == made.lines_of(whole)
    assert apart.totals.net_minor + after.totals.net_minor == whole.totals.net_minor
    for name in ("ranks", "funded", "versions", "accrued_root", "accrued_size"):
        assert getattr(after.closing, name) == getattr(whole.closing, name), name


@given(HISTORY)
@quick
def test_the_verifier_accepts_what_the_engine_writes(steps: list[Any]) -> None:
    record = record_of(steps, made.started())
    with tempfile.TemporaryDirectory() as folder:
        written = made.statement(Path(folder), record.events, record.terms)
        assert [fault for report in verify_files([written.file]).files for fault in report.faults] == []


def test_a_customers_cap_runs_on_through_new_versions(tmp_path: Path) -> None:
    """A cap of 40 gave 120 over three versions."""
    record = made.started()
    for version in (2, 3):
        record.effective(made.contract(version, valid_from=(record.day + timedelta(days=1)).isoformat()))
        record.goal("SPEND", spend=10_000)
        record.next_day()
    record.goal("SPEND", spend=10_000)
    written = made.statement(tmp_path, record.events, record.terms)
    assert [line["amount_minor"] for line in made.lines_of(written)] == [30, 10, 0]
    assert [row for batch in written.accrued_changes() for row in batch] == [("p-2026 SPEND idt_1_a", 40)]


def test_a_cap_that_changes_is_asked_goal_by_goal(tmp_path: Path) -> None:
    """Moments pick the version, so that caps go up and down within one customer's goals in the order of recording."""
    record = made.started()
    for version, cap in ((2, 100), (3, 20)):
        commission = [{"goal": "SPEND", "kind": "CPS", "bps": 30, "cap_per_customer_minor": cap}]
        start = (record.day + timedelta(days=1)).isoformat()
        record.effective(made.contract(version, terms={"commission": commission}, valid_from=start))
        record.next_day()
    now = record.recorded_ms
    for at in (now - 2 * DAY_MS, now - DAY_MS, now, now - 2 * DAY_MS, now - DAY_MS, now - DAY_MS):
        record.goal("SPEND", spend=10_000, occurred_ms=at)
    written = made.statement(tmp_path, record.events, record.terms)
    assert [line["amount_minor"] for line in made.lines_of(written)] == [30, 30, 0, 0, 30, 10]
    assert made.lines_of(written) == made.folded(record.events, record.contracts)[0]


def test_the_tier_rank_runs_on_through_new_versions(tmp_path: Path) -> None:
    record = made.started()
    record.goal("CARD_ACTIVATED")
    record.goal("CARD_ACTIVATED")
    record.effective(made.contract(2, valid_from=(record.day + timedelta(days=1)).isoformat()))
    record.next_day()
    record.goal("CARD_ACTIVATED")
    written = made.statement(tmp_path, record.events, record.terms)
    assert [line["amount_minor"] for line in made.lines_of(written)] == [3000, 3000, 4000]
    assert written.closing.ranks == {"CARD_ACTIVATED 2026-09": 3}


def test_the_month_of_a_rank_is_the_contracts(tmp_path: Path) -> None:
    record = made.started()
    last_minute = NOON_MS + 9 * DAY_MS + 12 * 3_600_000 - 1  # 2026-09-30T23:59:59.999 in Shanghai
    record.day += timedelta(days=10)
    record.goal("CARD_ACTIVATED", occurred_ms=last_minute)
    record.goal("CARD_ACTIVATED", occurred_ms=last_minute + 1)
    written = made.statement(tmp_path, record.events, record.terms)
    assert written.closing.ranks == {"CARD_ACTIVATED 2026-09": 1, "CARD_ACTIVATED 2026-10": 1}


def test_clocks_that_change_within_a_day_are_followed_to_the_minute(tmp_path: Path) -> None:
    """Berlin, 2026-10-25: from 3:00 back to 2:00 at 1:00 UTC; the offer holds from 2:00 to 3:00, both times."""
    offer = {"id": "night", "title": "n", "kind": "amount_off", "off_minor": 5, "fund": made.SIXTY_FORTY,
             "when": {"time": "02:00-03:00"}}  # fmt: skip
    record = Record()
    record.effective(made.contract(terms={"discount": [offer]}, timezone="Europe/Berlin"))
    record.day += timedelta(days=34)
    midnight = 1_792_886_400_000  # 2026-10-25T00:00:00Z, 2:00 in Berlin
    hours = [
        record.redeem("night", 100, occurred_ms=midnight + minutes * 60_000) for minutes in (-1, 0, 59, 60, 119, 120)
    ]
    assert [each is not None for each in hours] == [False, True, True, True, True, False]
    assert len(made.lines_of(made.statement(tmp_path, record.events, record.terms))) == 8


def test_a_version_dated_next_year_changes_nothing_today(tmp_path: Path) -> None:
    """Its minimum pay was that of every statement from its recording on."""
    record = made.started()
    record.goal("SPEND", spend=40_000)
    record.goal("ACCOUNT_OPENED", spend=100_000)
    before = made.statement(on(str(tmp_path), "1"), record.events, record.terms)
    record.effective(made.contract(2, terms={"settle": {"min_pay_minor": 100_000}}, valid_from="2027-01-01"))
    after = made.statement(on(str(tmp_path), "2"), record.events, record.terms)
    assert before.totals == after.totals
    assert after.totals.payable_minor == 140


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "Pacific/Kiritimati"])
@pytest.mark.parametrize(
    ("first", "second", "paid"),
    [
        (("2026-01-01", "2026-09-21", 100), ("2026-03-01", "2026-09-20", 50), False),
        (("2026-01-01", "2026-09-20", 100), ("2026-03-01", "2026-09-19", 50), True),
        (("2026-06-01", "2026-09-10", 100), ("2026-03-01", "2026-09-12", 50), False),
        (("2026-01-01", None, 50), ("2026-03-01", "2026-09-21", 100), False),
        (("2026-01-01", None, 70), ("2026-09-22", None, 100), True),
    ],
    ids=["its last day is today", "both are over", "the later start is over too", "the higher number", "tomorrow"],
)
def test_the_minimum_pay_is_that_of_the_last_day_s_version_else_of_the_last_before(
    tmp_path: Path, zone: str, first: tuple[str, str | None, int], second: tuple[str, str | None, int], paid: bool
) -> None:
    """The statement is for 2026-09-21, and 70 are due. On Kiritimati a day begins fourteen hours before UTC's."""
    record = Record()
    for number, (begins, ends, least) in enumerate((first, second), 1):
        head = {"valid_from": begins, "timezone": zone} | ({"valid_to": ends} if ends else {})
        terms = made.contract(number, terms={"settle": {"min_pay_minor": least}}, **head)
        record.effective(terms, recorded_at_ms=NOON_MS)
    before = {"number": 1, "sha256": "0" * 64, "statement_id": "stm_1"}
    written = made.statement(
        tmp_path, record.events, record.terms, opening=Opening(carried_minor=70), number=2, previous=before
    )
    assert (written.totals.payable_minor, written.totals.carried_out_minor) == ((70, 0) if paid else (0, 70))
    report = verify_files([written.file])
    assert report.accepted, report.files[0].faults


def test_a_statement_has_the_lines_of_its_currency_only(tmp_path: Path) -> None:
    record = made.started()
    record.goal("ACCOUNT_OPENED", spend=100_000)
    record.effective(made.contract(2, currency="EUR", valid_from=(record.day + timedelta(days=1)).isoformat()))
    record.next_day()
    record.currency = "EUR"
    record.goal("ACCOUNT_OPENED", spend=200_000)
    yuan = made.statement(on(str(tmp_path), "1"), record.events, record.terms)
    euro = made.statement(on(str(tmp_path), "2"), record.events, record.terms, currency="EUR")
    assert (yuan.totals.net_minor, euro.totals.net_minor) == (100, 200)
    assert yuan.event_count == euro.event_count == 4
    assert yuan.closing.versions == euro.closing.versions


def test_a_negative_or_small_due_is_carried_never_clipped(tmp_path: Path) -> None:
    record = made.started()
    record.redeem("from", 5000)
    opening = Opening(carried_minor=-50)
    negative = made.statement(on(str(tmp_path), "1"), record.events, record.terms, opening=opening)
    assert (negative.totals.payable_minor, negative.totals.carried_out_minor) == (0, -50)
    small = made.started()
    small.goal("SPEND", spend=10_000)
    tiny = made.statement(on(str(tmp_path), "2"), small.events, small.terms)
    assert (tiny.totals.net_minor, tiny.totals.payable_minor, tiny.totals.carried_out_minor) == (30, 0, 30)


def test_a_period_without_events_has_a_statement(tmp_path: Path) -> None:
    written = made.statement(tmp_path, [], [], opening=Opening(carried_minor=70))
    assert (written.event_count, written.line_count, written.totals.payable_minor) == (0, 0, 70)
    assert json.loads(written.file.read_bytes())["parts"] == []


def test_accrued_entries_that_are_not_the_openings_are_refused(tmp_path: Path) -> None:
    record = made.started()
    record.goal("SPEND", spend=5000)
    first = made.statement(on(str(tmp_path), "1"), record.events, record.terms)
    split = len(record.events)
    record.goal("SPEND", spend=5000)
    for wrong in ({}, {"p-2026 SPEND idt_1_a": 14}, {"p-2026 SPEND idt_1_a": 15, "p-2026 SPEND idt_1_b": 1}):
        with pytest.raises(FactsDisagree, match="opening's root"):
            made.statement(tmp_path, record.events[split:], record.terms, opening=first.closing, accrued=wrong)
