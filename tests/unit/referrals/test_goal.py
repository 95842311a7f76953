"""The order in which the bank tells its goals decides nothing: whom it counts for, which goals pay, in which month."""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from gateway.referrals.chunk import Chunk, Known
from gateway.referrals.goal import GoalOutcome, Relation, joined_as
from gateway.referrals.model import Evidence, GoalReached, Pick, ReferralTerms, Tenure, Touch
from gateway.referrals.plausible import why_not

DAY = 86_400_000
JOINED = 20_000 * DAY
PARTNERS = ("parkco", "shopco", "metro")
GOALS = ("ACCOUNT_OPENED", "CARD_ACTIVATED", "SPEND")
TERMS = ReferralTerms(
    "parkco", "parkco-2026", 1, "CNY", tuple(Evidence), Pick.LAST, 30 * DAY, 9_000 * DAY, frozenset({"CARD_ACTIVATED"}),
    DAY, 3 * DAY, None, frozenset(GOALS),
)  # fmt: skip
Paid = tuple[str, str, str]  # partner, goal, bank event


@dataclass(slots=True)
class Bank:
    """Everything that a customer did, and all touches: known from the start, told in some order."""

    goals: list[GoalReached]
    touches: dict[str, list[Touch]]  # by customer
    book: dict[str, ReferralTerms]

    def tell(self, order: list[GoalReached], cuts: set[int]) -> tuple[Counter[Paid], Counter[tuple[str, str, str]]]:
        """What is paid and what each month counts, told in chunks that end at `cuts`."""
        known = Known({}, {}, {}, {}, {}, {})
        seen: set[str] = set()
        paid: Counter[Paid] = Counter()
        months: Counter[tuple[str, str, str]] = Counter()
        chunk = self._chunk(known)
        for place, goal in enumerate(order):
            if place in cuts:
                chunk = self._chunk(known)
            if goal.bank_event_id in seen:
                continue
            seen.add(goal.bank_event_id)
            known.tokens[goal.bank_event_id] = [(partner, goal.customer_id) for partner in PARTNERS]
            before = len(chunk.outcome.events)
            chunk.take(goal)
            for event in chunk.outcome.events[before:]:
                if event.type == "goal.reached":
                    moment = datetime.fromtimestamp(event.occurred_at_ms / 1000, UTC)
                    paid[str(event.partner), event.data["goal"], f"{event.subject_token} {event.occurred_at_ms}"] += 1
                    months[str(event.partner), event.data["goal"], f"{moment:%Y-%m}"] += 1
        return paid, months

    def _chunk(self, known: Known) -> Chunk:
        known.touches = {
            (touch.partner_id, customer): [one for one in mine if one.partner_id == touch.partner_id]
            for customer, mine in self.touches.items()
            for touch in mine
        }
        return Chunk(lambda partner_id, _: self.book.get(partner_id), known)


def as_the_bank_knows(goals: list[GoalReached]) -> list[GoalReached]:
    """Each goal with the moment of its kind's first one."""
    return [
        replace(goal, first_at_ms=min(o.occurred_at_ms for o in goals
                                      if (o.customer_id, o.goal) == (goal.customer_id, goal.goal)))
        for goal in goals
    ]  # fmt: skip


def told(customer: str, goal: str, after_days: int, number: int) -> GoalReached:
    at_ms = JOINED if goal == "ACCOUNT_OPENED" and number == 0 else JOINED + after_days * DAY + number
    return GoalReached(
        f"{customer}-{goal}-{number}", goal, customer, "+8613800138000", 100 if goal == "SPEND" else 0, "CNY", at_ms,
        (Tenure(JOINED, None),), at_ms,
    )  # fmt: skip


@st.composite
def banks(draw: st.DrawFn) -> Bank:
    customers = draw(st.integers(1, 3))
    goals, touches = [], {}
    for name in (f"c{number}" for number in range(customers)):
        kinds = draw(st.lists(st.tuples(st.sampled_from(GOALS), st.integers(0, 120)), min_size=1, max_size=6))
        goals += [told(name, kind, days, number) for number, (kind, days) in enumerate(kinds)]
        touches[name] = [
            Touch(
                place + 1, partner, f"clm_{name}_{partner}", evidence, JOINED - days * DAY, JOINED - days * DAY + 1, "",
                name,
            )
            for place, (partner, evidence, days) in enumerate(
                draw(
                    st.lists(
                        st.tuples(st.sampled_from(PARTNERS), st.sampled_from(Evidence), st.integers(-3, 35)), max_size=4
                    )
                )
            )
        ]  # fmt: skip
    goal_sets = st.frozensets(st.sampled_from(GOALS), min_size=1)
    beginnings = goal_sets.filter(lambda names: len(names) == 1 or "ACCOUNT_OPENED" in names)  # as contract_rules asks
    window_ms = draw(st.sampled_from((30 * DAY, 90 * DAY, 9_000 * DAY)))
    book = {name: replace(TERMS, partner_id=name, exclusive_for=draw(beginnings), paid_for=draw(goal_sets),
                          post_window_ms=window_ms) for name in PARTNERS}  # fmt: skip
    return Bank(as_the_bank_knows(goals), touches, book)


@given(banks(), st.data())
def test_the_order_of_the_feed_does_not_decide_who_is_paid(bank: Bank, data: st.DataObject) -> None:
    """Several customers, partners and touches; any permutation, any chunks, events told twice."""
    in_time = sorted(bank.goals, key=lambda goal: (goal.occurred_at_ms, goal.bank_event_id))
    order = data.draw(st.permutations(in_time + data.draw(st.lists(st.sampled_from(in_time), max_size=3))))
    cuts = data.draw(st.sets(st.integers(0, len(order))))
    assert bank.tell(list(order), cuts) == bank.tell(in_time, set())


@given(banks())
def test_a_customer_has_one_owner_and_what_counts_once_is_paid_once(bank: Bank) -> None:
    paid, _ = bank.tell(bank.goals, set())
    owners: dict[str, set[str]] = {}
    for partner, goal, token in paid:
        owners.setdefault(token.partition(" ")[0], set()).add(partner)
        assert (
            goal == "SPEND"
            or sum(n for (_, g, t), n in paid.items() if (g, t.split()[0]) == (goal, token.split()[0])) == 1
        )
    assert all(len(names) == 1 for names in owners.values())


def test_spend_told_before_the_card_that_begins_the_owner_s_time_is_paid_when_the_card_is_told() -> None:
    touch = Touch(1, "parkco", "clm_1", Evidence.BATCH, JOINED - DAY, JOINED - DAY, "", "c0")
    early, card, late = told("c0", "SPEND", 1, 1), told("c0", "CARD_ACTIVATED", 5, 2), told("c0", "SPEND", 9, 3)
    bank = Bank(as_the_bank_knows([early, card, late]), {"c0": [touch]}, {"parkco": TERMS})
    outcomes = set()
    for order in permutations(bank.goals):
        paid, _ = bank.tell(list(order), {1, 2})
        outcomes.add(frozenset(paid))
    assert outcomes == {
        frozenset(
            {
                ("parkco", "CARD_ACTIVATED", f"c0 {card.occurred_at_ms}"),
                ("parkco", "SPEND", f"c0 {late.occurred_at_ms}"),
            }
        )
    }


def test_the_owner_s_time_runs_from_the_moment_that_begins_it_to_the_last_of_its_window() -> None:
    touch = Touch(1, "parkco", "clm_1", Evidence.BATCH, JOINED - DAY, JOINED - DAY, "", "c0")
    card = told("c0", "CARD_ACTIVATED", 5, 0)
    begins_ms, ends_ms = card.occurred_at_ms, card.occurred_at_ms + 90 * DAY
    spends = [
        replace(told("c0", "SPEND", 6, number), occurred_at_ms=at_ms)
        for number, at_ms in enumerate((begins_ms - 1, begins_ms, ends_ms, ends_ms + 1), 1)
    ]
    book = {"parkco": replace(TERMS, post_window_ms=90 * DAY)}
    bank = Bank(as_the_bank_knows([card, *spends]), {"c0": [touch]}, book)
    for order in permutations(bank.goals):
        paid, _ = bank.tell(list(order), {2})
        spent = sorted(told_of for _, goal, told_of in paid if goal == "SPEND")
        assert spent == [f"c0 {begins_ms}", f"c0 {ends_ms}"]


def test_nobody_poaches_a_customer_on_day_91() -> None:
    """The owner's window is over: a rival that touched the customer before and after joining still gets nothing."""
    mine = Touch(1, "parkco", "clm_1", Evidence.BATCH, JOINED - DAY, JOINED - DAY, "", "c0")
    rival = [
        Touch(2, "shopco", "clm_2", Evidence.BATCH, JOINED - 2 * DAY, JOINED - 2 * DAY, "", "c0"),
        Touch(3, "shopco", "clm_2", Evidence.SIGNED_SCAN, JOINED + 90 * DAY, JOINED + 90 * DAY, "", "c0"),
    ]
    book = {
        "parkco": replace(TERMS, exclusive_for=frozenset({"ACCOUNT_OPENED"}), post_window_ms=90 * DAY),
        "shopco": replace(TERMS, partner_id="shopco", exclusive_for=frozenset(GOALS)),
    }
    goals = [told("c0", "ACCOUNT_OPENED", 0, 0), told("c0", "SPEND", 90, 0), told("c0", "SPEND", 91, 1)]
    bank = Bank(as_the_bank_knows(goals), {"c0": [mine, *rival]}, book)
    paid, _ = bank.tell(bank.goals, set())
    assert sorted((partner, goal) for partner, goal, _ in paid) == [("parkco", "ACCOUNT_OPENED"), ("parkco", "SPEND")]


def test_an_account_that_ended_long_ago_excludes_nobody_where_the_contract_says_so() -> None:
    """`no_account`: any account before excludes. `no_account_since:365d`: one that ended before that does not."""
    tenures = (Tenure(JOINED - 900 * DAY, JOINED - 400 * DAY), Tenure(JOINED, None))
    goal = replace(told("c0", "ACCOUNT_OPENED", 0, 0), tenures=tenures)
    touch = Touch(1, "parkco", "clm_1", Evidence.BATCH, JOINED - DAY, JOINED - DAY, "", "c0")
    for since_days, is_paid in ((None, False), (365, True), (400, False)):
        since_ms = since_days * DAY if since_days else None
        book = {"parkco": replace(TERMS, exclusive_for=frozenset(GOALS), no_account_since_ms=since_ms)}
        paid, _ = Bank([goal], {"c0": [touch]}, book).tell([goal], set())
        assert bool(paid) == is_paid, since_days


def test_a_corrected_moment_of_joining_does_not_bring_a_customer_twice_and_a_new_account_does() -> None:
    still = (Tenure(JOINED, None),)
    assert joined_as(JOINED, still, [JOINED + DAY]) == JOINED + DAY
    assert joined_as(JOINED, still, [JOINED - DAY]) == JOINED - DAY
    again = (Tenure(JOINED - 9 * DAY, JOINED - 5 * DAY), Tenure(JOINED, None))
    assert joined_as(JOINED, again, [JOINED - 9 * DAY]) == JOINED
    assert joined_as(JOINED - 9 * DAY, again, [JOINED]) == JOINED - 9 * DAY


def test_what_cannot_be_has_a_reason_and_what_can_has_none() -> None:
    good, now = told("c0", "SPEND", 1, 1), JOINED + 2 * DAY
    assert why_not(good, now_ms=now) is None
    assert why_not(replace(good, occurred_at_ms=now + 60_000), now_ms=now) is None
    assert why_not(replace(good, tenures=(Tenure(-1_000_000_000_000, None),)), now_ms=now) is None, "an old customer"
    bad = {
        "id_malformed": [{"bank_event_id": "a\x00b"}, {"customer_id": ""}, {"bank_event_id": "x" * 101}],
        "goal_unknown": [{"goal": "LOAN"}],
        "moment_out_of_range": [{"occurred_at_ms": at} for at in (-(10**18), 0, now + 60_001, 253_402_300_800_000)],
        "amount_malformed": [{"amount_minor": -1}, {"amount_minor": 10**30}, {"currency": "yuan"}, {"currency": ""}],
        "no_account_then": [
            {"tenures": ()}, {"tenures": (Tenure(now, None),)}, {"tenures": (Tenure(JOINED, JOINED - 1),)},
            {"tenures": (Tenure(JOINED, None), Tenure(JOINED + 1, None))}, {"tenures": (Tenure(JOINED, 10**30),)},
            {"tenures": (Tenure(-(10**30), None),)},
        ],
        "first_out_of_order": [{"first_at_ms": JOINED - 1}, {"first_at_ms": now + 1}],
        "phone_malformed": [{"phone": "unknown"}, {"phone": ""}],
    }  # fmt: skip
    for reason, changes in bad.items():
        for change in changes:
            assert why_not(replace(good, **change), now_ms=now) == reason, change  # type: ignore[arg-type]


def test_a_customer_whom_no_touch_brought_is_nobody_s() -> None:
    chunk = Chunk(lambda *_: None, Known({"c0": [Relation("c0", JOINED, None, {})]}, {}, {}, {}, {}, {}))
    chunk.take(told("c0", "SPEND", 1, 1))
    (verdict, event_id), *_ = chunk.outcome.verdicts.values()
    assert (verdict.outcome, event_id) == (GoalOutcome.NOBODY, None)
