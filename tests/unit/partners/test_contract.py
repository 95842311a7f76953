"""Contracts: a closed vocabulary, refused whole with file, key and reason; prices by kind; examples that run."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.document import DocumentInvalid
from gateway.partners.contract import Contract, document, duration_ms
from gateway.partners.contract_file import load_contract
from gateway.partners.contract_rules import from_document
from gateway.partners.pricing import discount_minor
from tests.conftest import ROOT

GOOD: dict[str, Any] = {
    "contract": {"id": "p-1", "version": 1, "currency": "CNY", "valid_from": "2026-01-01", "valid_to": "2026-01-31"},
    "attribution": {"order": ["signed_scan", "batch"], "lookback": "30d"},
    "discount": [
        {"id": "fen", "title": "t", "kind": "cap_price", "pay_minor": 1, "max_off_minor": 2000,
         "when": {"weekday": [1], "time": "07:00-22:00", "mcc": ["7523"]}, "limits": {"per_customer": 1},
         "fund": [{"party": "bank", "bps": 6000},
                  {"party": "partner", "bps": 4000, "cap_minor": 10, "overflow": "bank"}]},
    ],
    "commission": [
        {"goal": "CARD_ACTIVATED", "kind": "CPA", "tiers": "marginal", "period": "month",
         "steps": [{"from": 0, "minor": 1}, {"from": 5, "minor": 2}]},
        {"goal": "SPEND", "kind": "CPS", "bps": 30, "window": "180d"},
    ],
    "settle": {"min_pay_minor": 5},
}  # fmt: skip


def change(path: str, value: Any) -> dict[str, Any]:
    """The good contract with one thing changed; `path` like `discount.0.fund.1.bps`."""
    made = deepcopy(GOOD)
    *way, last = path.split(".")
    node: Any = made
    for part in way:
        node = node[int(part) if part.isdigit() else part]
    node[int(last) if last.isdigit() else last] = value
    return made


def test_a_good_contract_is_read_and_written_back_the_same() -> None:
    contract = from_document(GOOD)
    assert from_document(document(contract)) == contract


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        ("surprise", 1, "$"),
        ("discount.0.pay_mino", 1, "$.discount[0]"),
        ("contract.version", 0, "$.contract.version"),
        ("contract.currency", "XXX", "$.contract.currency"),
        ("contract.timezone", "Mars/Base", "$.contract.timezone"),
        ("contract.valid_to", "2025-01-01", "$.contract.valid_to"),
        ("contract.valid_from", "soon", "$.contract.valid_from"),
        ("discount.0.fund.0.bps", 5999, "$.discount[0].fund"),
        ("discount.0.fund.1.overflow", "network", "$.discount[0].fund[1].overflow"),
        ("discount.0.fund.1.party", "bank", "$.discount[0].fund"),
        ("discount.0.bps", 100, "$.discount[0].bps"),
        ("discount.0.pay_minor", -1, "$.discount[0].pay_minor"),
        ("discount.0.kind", "free", "$.discount[0].kind"),
        ("discount.0.when.weekday", [8], "$.discount[0].when.weekday"),
        ("discount.0.when.time", "22:00-07:00", "$.discount[0].when.time"),
        ("discount.0.when.mcc", ["75"], "$.discount[0].when.mcc"),
        ("discount.0.limits.per_customer", 0, "$.discount[0].limits.per_customer"),
        ("discount.0.hold", "15 minutes", "$.discount[0].hold"),
        ("commission.0.steps", [{"from": 1, "minor": 1}], "$.commission[0].steps"),
        ("commission.0.bps", 30, "$.commission[0].bps"),
        ("commission.1.bps", 10_001, "$.commission[1].bps"),
        ("commission.1.goal", "CARD_ACTIVATED", "$.commission"),
        ("commission.1.goal", "LOAN_APPROVED", "$.commission[1].goal"),
        ("attribution.lookback", "0d", "$.attribution.lookback"),
        ("attribution.order", [], "$.attribution.order"),
        ("settle.min_pay_minor", -1, "$.settle.min_pay_minor"),
        ("settle.negative", "clip", "$.settle.negative"),
        ("attribution.min_gap", "0h", "$.attribution.min_gap"),
        ("contract.id", "p 1", "$.contract.id"),
        ("contract.version", 1_000_000, "$.contract.version"),
        ("contract.timezone", "Asia", "$.contract.timezone"),
        ("contract.timezone", "localtime", "$.contract.timezone"),
        ("contract.valid_from", "1999-12-31", "$.contract.valid_from"),
        ("contract.valid_to", "9998-01-01", "$.contract.valid_to"),
        ("discount.0.id", "fen|2", "$.discount[0].id"),
        ("discount.0.hold", "8d", "$.discount[0].hold"),
        ("discount.0.max_off_minor", 10**15 + 1, "$.discount[0].max_off_minor"),
        ("discount.0.fund.1.cap_minor", 10**30, "$.discount[0].fund[1].cap_minor"),
        ("commission.0.steps.1.minor", 2**63, "$.commission[0].steps[1].minor"),
        ("commission.0.tiers", "retroactive", "$.commission[0].tiers"),
        ("commission.1.window", "", "$.commission[1].window"),
        ("attribution.lookback", "9999d", "$.attribution.lookback"),
    ],
)
def test_a_bad_contract_is_refused_with_file_key_and_reason(path: str, value: Any, key: str) -> None:
    with pytest.raises(DocumentInvalid) as refused:
        from_document(change(path, value), file="partners/p/contract.toml")
    assert refused.value.file == "partners/p/contract.toml"
    assert refused.value.key.startswith(key)
    assert refused.value.reason


# Terms that people may expect and that would never act: refused, with what to do instead.
WOULD_NOT_ACT = [
    ("discount.0.fund.1.party", "merchant", "$.discount[0].fund[1].party", "share between bank and partner"),
    ("discount.0.fund.1.party", "network", "$.discount[0].fund[1].party", "until merchants and networks have accounts"),
    ("discount.0.fund.1.overflow", "merchant", "$.discount[0].fund[1].overflow", "share between bank and partner"),
    ("attribution.order", ["batch", "click_id"], "$.attribution.order[1]", "nothing records clicks or codes"),
    ("attribution.order", ["code"], "$.attribution.order[0]", "write signed_scan or batch"),
    ("attribution.exclusive_for", ["CARD_ACTIVATED", "SPEND"], "$.attribution.exclusive_for", "several beginnings"),
    ("settle.cycle", "month", "$.settle", "leave cycle out"),
    ("commission.1.goal", "LOAN_APPROVED", "$.commission[1].goal", "ACCOUNT_OPENED, CARD_ACTIVATED and SPEND only"),
    ("settle.late_days", 31, "$.settle.late_days", "is not 0 to 30"),
    ("settle.late_days", -1, "$.settle.late_days", "is not 0 to 30"),
    ("attribution.min_gap", "daily", "$.attribution.min_gap", "is not a duration"),
    ("attribution.new_customer", "anybody", "$.attribution.new_customer", "is neither no_account nor"),
    ("attribution.new_customer", "no_account_since", "$.attribution.new_customer", "no_account_since:<duration>"),
    ("attribution.new_customer", "no_account_since:", "$.attribution.new_customer", "is not a duration"),
    ("attribution.new_customer", "no_account:365d", "$.attribution.new_customer", "is neither no_account nor"),
    ("attribution.new_customer", "no_account_since:9999d", "$.attribution.new_customer", "longer than 3650 days"),
    ("contract.unknown_customer", "ask", "$.contract.unknown_customer", "Invalid enum value"),
]


@pytest.mark.parametrize(("path", "value", "key", "reason"), WOULD_NOT_ACT)
def test_a_term_that_would_not_act_is_refused_with_what_to_do(path: str, value: Any, key: str, reason: str) -> None:
    with pytest.raises(DocumentInvalid) as refused:
        from_document(change(path, value))
    assert refused.value.key == key
    assert reason in refused.value.reason


def test_the_terms_that_act_mean_what_they_say() -> None:
    """Each value of the vocabulary's newer terms, and what is meant where they are absent."""
    plain = from_document(GOOD)
    assert plain.attribution is not None
    assert (plain.settle.late_days, plain.contract.unknown_customer) == (3, "refuse")
    assert (plain.attribution.min_gap_ms, plain.attribution.no_account_since_ms) == (86_400_000, None)
    assert plain.attribution.new_customer == "no_account"
    for path, value in (
        ("settle.late_days", 0), ("settle.late_days", 30), ("contract.unknown_customer", "allow"),
        ("attribution.min_gap", "90s"), ("attribution.order", ["batch"]),
    ):  # fmt: skip
        from_document(change(path, value))
    since = from_document(change("attribution.new_customer", "no_account_since:365d")).attribution
    assert since is not None
    assert since.no_account_since_ms == 365 * 86_400_000


def test_an_example_that_comes_out_otherwise_refuses_the_contract(tmp_path: Path) -> None:
    text = (ROOT / "partners" / "parkco" / "contract.toml").read_text()
    file = tmp_path / "contract.toml"
    file.write_text(text.replace("bank = 899", "bank = 898", 1))
    with pytest.raises(DocumentInvalid, match="comes out as"):
        load_contract(file, name="contract.toml")


def test_an_examples_seed_decides_the_spare_cent(tmp_path: Path) -> None:
    """The same order, another seed, another leg: the example of before does not hold any more."""
    text = (ROOT / "partners" / "parkco" / "contract.toml").read_text()
    file = tmp_path / "contract.toml"
    seeds = {}
    for seed in ("example", "k1|rdm_1"):
        given_ = f'given = {{ discount = "first-park", order_minor = 1_500, seed = "{seed}" }}'
        file.write_text(text.replace('given = { discount = "first-park", order_minor = 1_500 }', given_))
        try:
            load_contract(file, name="contract.toml")
            seeds[seed] = "holds"
        except DocumentInvalid as refused:
            seeds[seed] = refused.reason
    assert seeds["example"] == "holds"
    assert seeds["k1|rdm_1"] == "comes out as off_minor = 1499 with legs {'bank': 900, 'partner': 599}"


def test_a_text_with_a_nul_is_refused_before_the_database_would(tmp_path: Path) -> None:
    text = (ROOT / "partners" / "parkco" / "contract.toml").read_text()
    file = tmp_path / "contract.toml"
    file.write_text(text.replace('title = "First parking', 'title = "\\u0000First parking', 1))
    with pytest.raises(DocumentInvalid, match=r"holds U\+0000, which nobody can read"):
        load_contract(file, name="contract.toml")


def test_a_float_has_no_place_in_a_contract(tmp_path: Path) -> None:
    text = (ROOT / "partners" / "parkco" / "contract.toml").read_text()
    file = tmp_path / "contract.toml"
    file.write_text(text.replace("pay_minor = 1\n", "pay_minor = 1.0\n", 1))
    with pytest.raises(DocumentInvalid, match="float"):
        load_contract(file, name="contract.toml")


def test_a_term_holds_its_local_days_from_first_to_last() -> None:
    contract = from_document(GOOD)
    first_ms, after_ms = 1_767_196_800_000, 1_769_875_200_000  # midnight in Shanghai
    assert [contract.in_force(ms) for ms in (first_ms - 1, first_ms, after_ms - 1, after_ms)] == [
        False,
        True,
        True,
        False,
    ]


KINDS: dict[str, tuple[dict[str, Any], Callable[[int], int]]] = {
    "cap_price": ({"pay_minor": 1}, lambda order: order - 1),
    "amount_off": ({"off_minor": 500}, lambda order: 500),
    "percent_off": ({"bps": 2_000}, lambda order: order // 5),
    "threshold_off": ({"min_minor": 1_000, "off_minor": 300}, lambda order: 300 if order >= 1_000 else 0),
}


@pytest.mark.parametrize("kind", KINDS)
@given(order=st.integers(1, 1_000_000))
def test_each_kind_takes_what_its_rule_says_and_never_more_than_the_order(kind: str, order: int) -> None:
    members, rule = KINDS[kind]
    discount = {"id": "d", "title": "t", "kind": kind, "fund": [{"party": "bank", "bps": 10_000}], **members}
    contract: Contract = from_document({"contract": GOOD["contract"], "discount": [discount]})
    assert discount_minor(contract.discount[0], order) == max(0, min(order, rule(order)))


def test_durations_are_exact() -> None:
    assert [duration_ms(text) for text in ("90s", "15m", "24h", "30d")] == [90_000, 900_000, 86_400_000, 2_592_000_000]
