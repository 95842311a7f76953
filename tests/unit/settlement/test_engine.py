"""The engine and the verifier, written apart, agree on every cent; the engine settles nothing it cannot derive."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.jsonio import canonical
from gateway.partners.contract import Step
from gateway.settlement.engine import Engine, FactsDisagree, Opening
from gateway.settlement.facts import facts_table
from gateway.settlement.verify import verify_files
from tests.unit.settlement import made

REDEMPTIONS = st.tuples(
    st.just("redemption"), st.sampled_from(["fen", "half", "three", "from"]), st.integers(1, 20_000),
    st.lists(st.integers(1, 3000), max_size=3), st.integers(0, 2000),
)  # fmt: skip
GOALS = st.tuples(
    st.just("goal"), st.sampled_from(["CARD_ACTIVATED", "SPEND", "ACCOUNT_OPENED", "UNKNOWN"]),
    st.integers(0, 30_000), st.sampled_from(["idt_1_a", "idt_1_b"]), st.integers(0, 60),
)  # fmt: skip
FACTS = st.lists(st.one_of(REDEMPTIONS, GOALS), max_size=12)
quick = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def leaves_of(drawn: list[Any]) -> list[bytes]:
    leaves: list[bytes] = []
    for number, (kind, name, amount, *rest) in enumerate(drawn, 1):
        if kind == "goal":
            leaves.append(made.goal(number, name, spend=amount, token=rest[0], late_days=rest[1]))
        else:
            leaves.extend(made.redemption(number, name, amount, back=rest[0], room=rest[1]))
    return leaves


def faults(folder: Path, *contents: bytes) -> list[str]:
    paths = [folder / f"{number}.json" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return [fault for report in verify_files(paths).files for fault in report.faults]


@given(FACTS, st.integers(0, 3))
@quick
def test_engine_and_verifier_agree_on_any_facts(tmp_path: Path, drawn: list[Any], others: int) -> None:
    assert faults(tmp_path, made.content(made.statement(leaves_of(drawn), others=others))) == []


@given(FACTS)
@quick
def test_a_rerun_gives_the_same_bytes_but_for_the_signatures(drawn: list[Any]) -> None:
    one, two = (json.loads(made.content(made.statement(leaves_of(drawn)))) for _ in range(2))
    for document in (one, two):
        del document["signature"]
        for day in document["days"]:
            del day["head_jws"]
    assert canonical(one) == canonical(two)


@given(FACTS, FACTS)
@quick
def test_two_statements_in_a_row_pay_what_one_over_both_would(drawn: list[Any], more: list[Any]) -> None:
    """Ranks and caps go on from the closing: no goal is paid twice as the first of its month."""
    first, rest = leaves_of(drawn), leaves_of(more)
    apart = made.statement(first)
    after = made.statement(rest, opening=Opening(0, apart.closing.ranks, apart.closing.accrued))
    together = made.statement([*first, *rest])
    assert apart.totals.net_minor + after.totals.net_minor == together.totals.net_minor
    assert after.closing.ranks == together.closing.ranks


@given(st.integers(0, 400), st.integers(0, 9))
@quick
def test_marginal_tiers_are_monotone(reached: int, more: int) -> None:
    """Another goal never lowers what is owed; each is worth the step its rank has reached."""
    steps: Sequence[Step] = made.CONTRACT.find_commission("CARD_ACTIVATED").steps  # type: ignore[union-attr]

    def owed(goals: int) -> int:
        return sum([step.minor for step in steps if step.start <= rank][-1] for rank in range(goals))

    opening = Opening(0, {"CARD_ACTIVATED 2026-09": reached}, {})
    written = made.statement([made.goal(n, "CARD_ACTIVATED") for n in range(1, more + 1)], opening=opening)
    assert written.totals.bank_owes_minor == owed(reached + more) - owed(reached) >= 0


def test_a_negative_or_small_due_is_carried_never_clipped() -> None:
    negative = made.statement(made.redemption(1, "from", 5000), opening=Opening(carried_minor=-50))
    assert (negative.totals.payable_minor, negative.totals.carried_out_minor) == (0, -50)
    tiny = made.statement([made.goal(1, "SPEND", spend=10_000)])
    assert (tiny.totals.net_minor, tiny.totals.payable_minor, tiny.totals.carried_out_minor) == (30, 0, 30)


@pytest.mark.parametrize("member", ["legs", "payable_minor", "discount_minor", "cap_left_minor"])
def test_a_fact_that_disagrees_with_its_terms_stops_the_settlement_by_name(member: str) -> None:
    leaf = json.loads(made.redemption(1, "half", 1999)[0])
    leaf["data"][member] = {"legs": {"bank": 498, "partner": 501}, "cap_left_minor": {}}.get(member, 3)
    engine = Engine([made.CONTRACT])
    engine.read_table(facts_table([("p", canonical(leaf))]))
    with pytest.raises(FactsDisagree, match="evt_1"):
        engine.settle(Opening())
    engine.close()


def test_a_redemption_under_terms_that_were_not_in_force_is_not_settled() -> None:
    leaf = json.loads(made.redemption(1, "fen", 1999)[0])
    leaf["occurred_at_ms"] = 1_700_000_000_000
    engine = Engine([made.CONTRACT])
    engine.read_table(facts_table([("p", canonical(leaf))]))
    with pytest.raises(FactsDisagree, match="not in force"):
        engine.settle(Opening())
    engine.close()


def test_every_seventh_bit_of_an_issued_statement_is_refused_when_changed(tmp_path: Path) -> None:
    leaves = [*made.redemption(1, "fen", 1999, back=[1000]), made.goal(2, "SPEND", spend=5000)]
    content = made.content(made.statement(leaves))
    for place in range(0, len(content), 7):  # 7 is prime to 8: every bit of a byte has its turn
        changed = bytearray(content)
        changed[place] ^= 1 << (place % 8)
        assert faults(tmp_path, bytes(changed)), f"bit {place % 8} of byte {place}"
