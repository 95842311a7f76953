"""The verifier against a builder of its own: every honest statement is accepted, every single lie is refused by name."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.settlement import verify
from gateway.settlement.verify import FileReport, Report, Unusable, main, verify_files
from gateway.settlement.verify import terms as terms_of
from gateway.settlement.verify.statement import read_statement
from tests.unit.settlement import drafts
from tests.unit.settlement.drafts import Json, confirmed, goal, line, redemption_lines, reversed_

DAY = "2025-01-02"
MONTH = {"CARD_ACTIVATED 2025-01": 3}


def busy() -> Json:
    """Two days with every kind of line, and one without events."""
    ride, tenth = confirmed(1), confirmed(2, discount="tenth", order=19_999, cap=7)
    back, rest = reversed_(3, ride, minor=1000), reversed_(4, ride, minor=998, before=1000)
    cards = [goal(5), goal(6), goal(7, occurred_at_ms=drafts.NOON)]
    spends = [goal(n, "SPEND", spend=9000, subject_token="idt_a") for n in (8, 9)]
    late = goal(10, "SPEND", spend=9000, anchor=drafts.NOON - 31 * drafts.DAY_MS)
    free = goal(11, "FIRST_SPEND", spend=1000)
    other = goal(12, "ACCOUNT_OPENED")
    seen = drafts.event(13, "claim.owned", amount=0, data={}, contract=None, contract_version=None, currency=None)
    next_day = {"business_day": "2025-01-04"}
    five = confirmed(14, discount="five", order=5000, **next_day)
    big = confirmed(15, discount="big", order=1000, **next_day)
    first = drafts.sealed_day(DAY, [ride, tenth, back, rest, *cards, *spends, late, free, other, seen], others=4)
    empty = drafts.sealed_day("2025-01-03", [], previous=drafts.head_hash(first))
    last = drafts.sealed_day("2025-01-04", [five, big], previous=drafts.head_hash(empty), others=0)
    paid = [each for of in (ride, tenth, back, rest) for each in redemption_lines(of)]
    earned = zip([*cards, *spends, late, free], [100, 100, 300, 45, 15, 0, 1], strict=True)
    lines = [*paid, *(line(of, "commission", minor) for of, minor in earned)]
    lines += [*redemption_lines(five), *redemption_lines(big)]
    token = f"metro-2025 1 SPEND {late['subject_token']}"
    closing = {"ranks": MONTH, "accrued": {"metro-2025 1 SPEND idt_a": 60, token: 0}}
    return drafts.statement([first, empty, last], lines, closing=closing)


def simple(*events: Json, lines: list[Json] | None = None, **more: Any) -> Json:
    """One day of redemptions."""
    told = [each for of in events for each in redemption_lines(of)] if lines is None else lines
    return drafts.statement([drafts.sealed_day(DAY, events)], told, **({"closing": drafts.opening()} | more))


def check(raw: bytes, folder: Path, *, jwks: Any = None) -> FileReport:
    path = folder / "statement.json"
    path.write_bytes(raw)
    return verify_files([path], jwks=jwks).files[0]


def faults(document: Json, folder: Path) -> str:
    report = check(drafts.written(document), folder)
    assert not report.accepted
    return "\n".join(report.faults)


# --- yes ----------------------------------------------------------------------------------------------------------
def test_an_honest_statement_is_accepted(tmp_path: Path) -> None:
    report = check(drafts.written(busy()), tmp_path)
    assert report.faults == ()
    assert (report.statement_id, report.partner, report.events, report.lines) == ("stm_1", "metro", 15, 19)
    assert report.totals == busy()["totals"]
    assert report.thumbprint == drafts.SIGNATORY.thumbprint
    assert not report.pinned
    assert any("compare the thumbprint" in note for note in report.notes)
    assert any("1 of its days" in note for note in report.notes)


def test_the_example_of_the_rules_comes_out(tmp_path: Path) -> None:
    ride = confirmed(1)
    document = simple(ride, reversed_(2, ride, minor=1000), reversed_(3, ride, minor=998, before=1000))
    assert [each["amount_minor"] for each in document["lines"]] == [1998, -799, -1000, 400, -998, 399]
    assert check(drafts.written(document), tmp_path).accepted


def test_a_statement_without_days_is_accepted(tmp_path: Path) -> None:
    document = drafts.statement([], [], closing=drafts.opening(), period=(DAY, DAY))
    assert check(drafts.written(document), tmp_path).accepted


@given(st.integers(1, 100_000), st.sampled_from(["ride", "tenth", "five"]), st.integers(0, 3000), st.integers(1, 999))
@settings(max_examples=150, deadline=None)
def test_splits_are_those_of_the_unit_by_unit_rule(amount: int, discount: str, room: int, seed: int) -> None:
    (version,) = terms_of.read_contracts([drafts.CONTRACT], currency="CNY")
    mine = terms_of.split(amount, version.discounts[discount].fund, seed=str(seed), cap_left={"partner": room})
    theirs = drafts.split(amount, drafts.terms(discount), seed=str(seed), cap_left={"partner": room})
    assert mine == theirs
    assert sum(mine.values()) == amount
    back = terms_of.split(-amount, version.discounts[discount].fund, seed=str(seed), cap_left={"partner": room})
    assert back == {party: -leg for party, leg in mine.items()}


@given(st.integers(0, 5), st.lists(st.integers(1, 4), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_ranks_go_on_from_the_opening_and_by_the_month_of_the_event(seen: int, months: list[int]) -> None:
    moments = [drafts.NOON + 31 * (month - 1) * drafts.DAY_MS for month in months]
    goals = [goal(n, occurred_at_ms=moment) for n, moment in enumerate(moments)]
    ranks = {"CARD_ACTIVATED 2025-01": seen} if seen else {}
    start = drafts.opening(ranks=dict(ranks))
    lines = []
    for each, month in zip(goals, months, strict=True):
        name = f"CARD_ACTIVATED 2025-{month:02}"
        lines.append(line(each, "commission", 300 if ranks.get(name, 0) >= 2 else 100))
        ranks[name] = ranks.get(name, 0) + 1
    previous = {"number": 1, "sha256": "0" * 64, "statement_id": "stm_1"}
    document = drafts.statement(
        [drafts.sealed_day(DAY, goals)], lines, closing={"ranks": ranks, "accrued": {}}, start=start, number=2,
        previous=previous,
    )  # fmt: skip
    found = read_statement(drafts.written(document), name="x", event_ids=set())
    assert found.faults == []


# --- a bank that lies, and signs and seals what it says -------------------------------------------------------------
def spoiled(change: Callable[[Json], Any], make: Callable[[], Json] = lambda: confirmed(1)) -> Json:
    """A statement that is right but for one thing in its first event."""
    event = make()
    lines = redemption_lines(event)
    return simple(drafts.changed(event, change), lines=lines)


def put(*path: Any) -> Callable[[Json], None]:
    """Sets what the last of `path` says at the place that the others lead to."""
    *way, last, value = path

    def change(of: Any) -> None:
        for step in way:
            of = of[step]
        of[last] = value

    return change


EVENT_LIES = {
    "price": (put("data", "discount_minor", 1999), "evt_0001: discount_minor is 1999, the terms give 1 to 1998"),
    "no-discount": (put("data", "discount_minor", 0), "the terms give 1 to 1998"),
    "payable": (put("data", "payable_minor", 2), "payable_minor is 2, expected 1"),
    "amount": (put("amount_minor", 1997), "amount_minor is 1997, expected 1998"),
    "legs": (put("data", "legs", "bank", 1198), 'legs is {"bank":1198,"partner":799}, expected {"bank":1199'),
    "one-leg": (put("data", "legs", {"bank": 1998}), "legs is"),
    "true-is-not-one": (put("data", "payable_minor", True), "payable_minor is True, expected 1"),
    "text-is-no-number": (put("data", "order_minor", "1999"), "order_minor is 1999, expected is an integer"),
    "enormous": (put("data", "order_minor", 1 << 70), "order_minor is"),
    "unknown-discount": (put("data", "discount", "flight"), "has no discount flight"),
    "other-version": (put("contract_version", 2), "version 2 was not in force"),
    "other-contract": (put("contract", "bus-2025"), "contract bus-2025 version 1 was not in force"),
    "before-the-term": (put("occurred_at_ms", drafts.NOON - 9 * drafts.DAY_MS), "was not in force"),
    "before-time": (put("occurred_at_ms", -1), "occurred_at_ms is -1"),
    "currency": (put("currency", "EUR"), "currency is EUR, the statement's is CNY"),
    "partner": (put("partner", "shop"), "its partner is shop, expected metro"),
    "business-day": (put("business_day", "2025-01-03"), "its business_day is 2025-01-03, expected 2025-01-02"),
    "data": (put("data", []), "data is [], expected is an object"),
    "version-true": (put("contract_version", True), "version True was not in force"),
    "more-members": (put("extra", 1), "an event has the members"),
}


@pytest.mark.parametrize(("change", "sentence"), EVENT_LIES.values(), ids=EVENT_LIES)
def test_a_false_redemption_is_refused_though_signed(
    tmp_path: Path, change: Callable[[Json], Any], sentence: str
) -> None:
    assert sentence in faults(spoiled(change), tmp_path)


REVERSAL_LIES = {
    "too-much": (put("data", "reversed_minor", 1999), "reversed_minor is 1999 after 0, but 1998 was given"),
    "nothing": (put("data", "reversed_minor", 0), "reversed_minor is 0"),
    "amount": (put("amount_minor", -999), "amount_minor is -999, expected -1000"),
    "legs": (put("data", "legs", "partner", -399), "legs is"),
    "original-legs": (put("data", "original_legs", "bank", 1), "original_legs is"),
    "other-original": (put("data", "redemption_id", "rdm_9"), "redemption_id of the original evt_0001 is rdm_1"),
}


@pytest.mark.parametrize(("change", "sentence"), REVERSAL_LIES.values(), ids=REVERSAL_LIES)
def test_a_false_reversal_is_refused_though_signed(tmp_path: Path, change: Callable[[Json], Any], sentence: str) -> None:
    ride = confirmed(1)
    back = reversed_(2, ride, minor=1000)
    lines = [*redemption_lines(ride), *redemption_lines(back)]
    found = faults(simple(ride, drafts.changed(back, change), lines=lines), tmp_path)
    assert f"event evt_0002: {sentence}" in found


def test_a_reversal_that_forgets_the_one_before_is_refused(tmp_path: Path) -> None:
    ride = confirmed(1)
    document = simple(ride, reversed_(2, ride, minor=1500), reversed_(3, ride, minor=1500))
    assert "reversed_minor of the original evt_0001 is 1500 until here, but it says 0" in faults(document, tmp_path)


@pytest.mark.parametrize("left", [-1, 501, None, "7"])
def test_what_a_capped_funder_had_left_is_between_nothing_and_its_cap(tmp_path: Path, left: Any) -> None:
    event = confirmed(1, discount="tenth", order=1000)
    event["data"]["cap_left_minor"] = {"partner": left}
    assert "cap_left_minor of partner is" in faults(simple(event), tmp_path)


def test_the_same_event_twice_is_refused(tmp_path: Path) -> None:
    assert "event evt_0001: it is there twice" in faults(simple(confirmed(1), confirmed(1)), tmp_path)


def test_the_same_redemption_confirmed_by_two_events_is_refused(tmp_path: Path) -> None:
    second = confirmed(2)
    second["data"]["redemption_id"] = "rdm_1"
    assert "redemption rdm_1 is confirmed a second time" in faults(simple(confirmed(1), second), tmp_path)


def lines_changed(change: Callable[[list[Json]], Any]) -> Json:
    """The lines of an honest statement, changed; totals follow the lines."""
    document = busy()
    change(document["lines"])
    sums = drafts.totals(document["lines"], carried_in=0, min_pay=10)
    return document | {"totals": sums, "closing": document["closing"] | {"carried_minor": sums["carried_out_minor"]}}


LINE_LIES = {
    "amount": (lambda lines: lines[10].update(amount_minor=99), "line 11 (event evt_0007): amount_minor is 99, "
               "expected 300"),
    "rank": (lambda lines: lines[8].update(amount_minor=300), "line 9 (event evt_0005): amount_minor is 300"),
    "cap": (lambda lines: lines[12].update(amount_minor=45), "line 13 (event evt_0009): amount_minor is 45, "
            "expected 15"),
    "window": (lambda lines: lines[13].update(amount_minor=45), "line 14 (event evt_0010): amount_minor is 45, "
               "expected 0"),
    "rounding": (lambda lines: lines[14].update(amount_minor=0), "line 15 (event evt_0011): amount_minor is 0"),
    "term": (lambda lines: lines[0].update(term="five"), "line 1 (event evt_0001): term is five, expected ride"),
    "version": (lambda lines: lines[0].update(contract_version=2), "contract_version is 2, expected 1"),
    "left-out": (lambda lines: lines.pop(3), "line 4: expected"),
    "last-left-out": (lambda lines: lines.pop(), "lines: after line 18 there are 1 missing"),
    "invented": (lambda lines: lines.append(dict(lines[0])), "line 20: no event leads to it"),
    "swapped": (lambda lines: lines.insert(0, lines.pop(1)), "line 1: expected"),
    "id": (lambda lines: lines[0].update(event_id=[]), "line 1: event_id is []"),
    "members": (lambda lines: lines[0].update(number=1), "line 1 has the members"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "sentence"), LINE_LIES.values(), ids=LINE_LIES)
def test_a_false_line_is_refused_by_its_number(tmp_path: Path, change: Any, sentence: str) -> None:
    assert sentence in faults(lines_changed(change), tmp_path)


DOCUMENT_LIES = {
    "bank-owes": (put("totals", "bank_owes_minor", 1), "totals: bank_owes_minor is 1, expected"),
    "partner-owes": (put("totals", "partner_owes_minor", 1), "totals: partner_owes_minor is 1, expected"),
    "net": (put("totals", "net_minor", 1), "totals: net_minor is 1, expected"),
    "payable": (put("totals", "payable_minor", 1), "totals: payable_minor is 1, expected"),
    "more-totals": (put("totals", "fee_minor", 1), "totals: fee_minor is 1, expected nothing"),
    "carried-out": (put("closing", "carried_minor", 5), "closing: carried_minor is 5, expected 0"),
    "ranks": (put("closing", "ranks", "CARD_ACTIVATED 2025-01", 2), "CARD_ACTIVATED 2025-01 is 2, expected 3"),
    "accrued": (put("closing", "accrued", {}), "closing.accrued: metro-2025 1 SPEND idt_a is nothing, expected 60"),
    "first-opens": (put("opening", "carried_minor", 9), "the first statement opens with 0 and nothing else"),
    "format": (put("format", "parasol-statement-2"), "is expected, found"),
    "period": (put("statement", "to_day", "2025-01-03"), "day 2025-01-04: it is outside the period"),
    "backwards": (put("statement", "to_day", "2024-01-03"), "is after to_day"),
    "no-date": (put("statement", "from_day", "2025-02-30"), "which no calendar has"),
    "bank": (put("statement", "bank", "other-bank"), "the head is of bank first-bank"),
    "currency": (put("statement", "currency", "EUR"), "currency is CNY, expected EUR"),
    "root": (put("days", 0, "root", "0" * 64), "day 2025-01-02: root is 000"),
    "path": (put("days", 0, "path", 0, "0" * 64), "the inclusion path leads to"),
    "short-path": (lambda d: d["days"][0]["path"].pop(), "too few"),
    "long-path": (lambda d: d["days"][0]["path"].append("0" * 64), "too many"),
    "index": (put("days", 0, "index", 0), "the inclusion path"),
    "index-beyond": (put("days", 0, "index", 9), "index is 9, expected is 0 to 4"),
    "size": (put("days", 0, "size", 3), "size is 3"),
    "tree-size": (put("days", 0, "tree_size", 3), "tree_size is 3"),
    "empty-index": (put("days", 1, "index", 0), "without events index is -1"),
    "events-order": (lambda d: d["days"][2]["events"].reverse(), "day 2025-01-04: root is"),
    "event-left-out": (lambda d: d["days"][0]["events"].pop(), "size is 13"),
    "head": (put("days", 0, "head", "event_count", 99), "the signature of the head of 2025-01-02"),
    "no-contract": (put("contracts", []), "contracts: there is none"),
    "contracts-twice": (put("contracts", [drafts.CONTRACT] * 2), "version 1 stands after version 1"),
}


@pytest.mark.parametrize(("change", "sentence"), DOCUMENT_LIES.values(), ids=DOCUMENT_LIES)
def test_a_false_document_is_refused_though_signed(tmp_path: Path, change: Any, sentence: str) -> None:
    assert sentence in faults(drafts.changed(busy(), change), tmp_path)


def test_a_day_that_is_left_out_breaks_the_chain_of_heads(tmp_path: Path) -> None:
    document = drafts.changed(busy(), lambda d: d["days"].pop(1))
    assert "day 2025-01-04: previous_head_hash is" in faults(document, tmp_path)


CONTRACT_LIES = {
    "unknown": (put("bonus", []), "a contract may have the members"),
    "unknown-term": (put("discount", 0, "tax_minor", 1), "may have the members"),
    "shares": (put("discount", 0, "fund", 0, "bps", 5999), "does not share out 10000 basis points"),
    "overflow": (put("discount", 1, "fund", 1, "overflow", "partner"), "overflows to no uncapped party"),
    "half-cap": (put("discount", 0, "fund", 0, "cap_minor", 1), "cap_minor and overflow together"),
    "kind": (put("discount", 0, "kind", "free"), "kind is free"),
    "price": (put("discount", 0, "off_minor", 1), "cap_price has max_off_minor, pay_minor"),
    "negative": (put("discount", 0, "pay_minor", -1), "pay_minor is -1"),
    "twice": (lambda c: c["discount"].append(c["discount"][0]), "ride is there twice"),
    "steps": (put("commission", 0, "steps", 0, "from", 1), "steps start at 0 and rise"),
    "cps": (put("commission", 1, "bps", 10_001), "bps is 10001"),
    "window": (put("commission", 1, "window", "a while"), "window is a while"),
    "zone": (put("contract", "timezone", "Moon/Base"), "no time zone Moon/Base"),
    "zone-path": (put("contract", "timezone", "../../etc/passwd"), "timezone is ../../etc/passwd"),
    "term": (put("contract", "valid_to", "2024-12-31"), "is before valid_from"),
    "week-date": (put("contract", "valid_from", "2025-W01-1"), "valid_from is 2025-W01-1"),
    "carry": (put("settle", "negative", "clip"), "expected carry"),
}


@pytest.mark.parametrize(("change", "sentence"), CONTRACT_LIES.values(), ids=CONTRACT_LIES)
def test_a_contract_that_makes_no_sense_is_refused(tmp_path: Path, change: Any, sentence: str) -> None:
    contract = drafts.changed(drafts.CONTRACT, change)
    assert sentence in faults(simple(confirmed(1), contracts=[contract]), tmp_path)


def test_the_version_in_force_is_the_latest_whose_term_holds_the_instant(tmp_path: Path) -> None:
    dearer = drafts.changed(drafts.CONTRACT, lambda c: c["discount"][0].update(pay_minor=101))
    dearer["contract"] |= {"version": 2, "valid_from": "2025-01-02", "valid_to": "2025-01-02"}
    contracts = [drafts.CONTRACT, dearer]
    midnight = drafts.NOON + 12 * 3_600_000
    within = {"contract_version": 2, "occurred_at_ms": midnight - 1}
    old, new = confirmed(1, occurred_at_ms=midnight), confirmed(2, given=1898, **within)
    assert check(drafts.written(simple(old, new, contracts=contracts)), tmp_path).accepted
    wrong = simple(confirmed(1, occurred_at_ms=midnight - 1), contracts=contracts)
    assert "version 1 was not in force" in faults(wrong, tmp_path)
    above = simple(confirmed(2, given=1899, **within), contracts=contracts)
    assert "the terms give 1 to 1898" in faults(above, tmp_path)


@pytest.mark.parametrize(("carried", "payable", "out"), [(-1199, 0, 0), (-1190, 0, 9), (-1189, 10, 0), (-5000, 0, -3801)])
def test_what_is_negative_or_too_little_is_carried(tmp_path: Path, carried: int, payable: int, out: int) -> None:
    previous = {"number": 1, "sha256": "0" * 64, "statement_id": "stm_1"}
    document = simple(confirmed(1), start=drafts.opening(carried), number=2, previous=previous)
    assert (document["totals"]["payable_minor"], document["totals"]["carried_out_minor"]) == (payable, out)
    assert check(drafts.written(document), tmp_path).accepted
    paid = drafts.changed(document, put("totals", "payable_minor", payable + 1))
    assert f"payable_minor is {payable + 1}, expected {payable}" in faults(paid, tmp_path)


# --- signatures and keys --------------------------------------------------------------------------------------------
STRANGER = drafts.Signatory()


def test_a_pinned_key_is_said_to_be_pinned(tmp_path: Path) -> None:
    report = check(drafts.written(busy()), tmp_path, jwks={"keys": [{"kty": "RSA"}, drafts.SIGNATORY.jwk]})
    assert report.accepted
    assert report.pinned


def test_a_key_that_is_not_pinned_is_refused(tmp_path: Path) -> None:
    report = check(drafts.written(busy()), tmp_path, jwks={"keys": [STRANGER.jwk]})
    assert any("is not among the pinned keys" in fault for fault in report.faults)
    assert not report.pinned


def test_another_key_under_a_pinned_name_is_refused(tmp_path: Path) -> None:
    named = STRANGER.jwk | {"kid": drafts.SIGNATORY.kid}
    report = check(drafts.written(busy()), tmp_path, jwks={"keys": [named]})
    assert any("the pinned one has" in fault for fault in report.faults)


def signed_by_hand(document: Json, signature: Callable[[bytes], str], *, keys: list[Json] | None = None) -> bytes:
    whole = document | {"keys": [drafts.SIGNATORY.jwk] if keys is None else keys}
    return drafts.canonical(whole | {"signature": signature(drafts.canonical(whole))}) + b"\n"


BAD_SIGNATURES = {
    "alg": (lambda body: drafts.SIGNATORY.detached(body, alg="none"), "the JWS header says none"),
    "typ": (lambda body: drafts.SIGNATORY.detached(body, typ="JWT"), "the JWS header says ES256 and JWT"),
    "more": (lambda body: drafts.SIGNATORY.detached(body, crit=["b64"]), "the JWS header has the members"),
    "kid": (lambda body: STRANGER.detached(body), "is not in `keys`"),
    "forged": (lambda body: STRANGER.detached(body, kid=drafts.SIGNATORY.kid), "did not sign this"),
    "attached": (lambda body: drafts.SIGNATORY.jws(body, typ="parasol-statement"), "with two dots"),
    "short": (lambda body: drafts.SIGNATORY.detached(body)[:-2], "has 64 bytes, found 63"),
    "zero": (lambda body: drafts.SIGNATORY.detached(body).split("..")[0] + ".." + "A" * 86, "did not sign this"),
    "padded": (lambda body: drafts.SIGNATORY.detached(body) + "=", "the signature is"),
    "number": (lambda _: 7, "the JWS is 7"),
}


@pytest.mark.parametrize(("signature", "sentence"), BAD_SIGNATURES.values(), ids=BAD_SIGNATURES)
def test_a_signature_of_another_kind_is_refused(tmp_path: Path, signature: Any, sentence: str) -> None:
    report = check(signed_by_hand(simple(confirmed(1)), signature), tmp_path)
    assert sentence in "\n".join(report.faults)


BAD_KEYS = {
    "curve": (put("crv", "P-384"), "crv is P-384"),
    "use": (put("use", "enc"), "use is enc"),
    "private": (put("d", "AA"), "private half"),
    "point": (lambda k: k.update(x=k["y"]), "not a point of the curve"),
    "length": (put("x", "AAAA"), "found 3 and 32"),
    "padding": (lambda k: k.update(x=k["x"] + "="), "x of key"),
    "no-kid": (put("kid", None), "kid of a key is None"),
}


@pytest.mark.parametrize(("change", "sentence"), BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_key_that_is_no_public_p256_key_is_refused(tmp_path: Path, change: Any, sentence: str) -> None:
    key = drafts.changed(drafts.SIGNATORY.jwk, change)
    report = check(drafts.written(simple(confirmed(1)), keys=[key]), tmp_path)
    assert sentence in "\n".join(report.faults)


def test_a_key_that_nothing_names_and_a_key_twice_are_refused(tmp_path: Path) -> None:
    own = drafts.SIGNATORY.jwk
    idle = check(drafts.written(simple(confirmed(1)), keys=[own, STRANGER.jwk]), tmp_path)
    assert "keys: no valid signature names" in "\n".join(idle.faults)
    twice = check(drafts.written(simple(confirmed(1)), keys=[own, own]), tmp_path)
    assert "is there twice" in "\n".join(twice.faults)


def test_a_head_that_another_head_was_signed_for_is_refused(tmp_path: Path) -> None:
    document = busy()
    document["days"][0]["head_jws"] = document["days"][1]["head_jws"]
    assert "the signature of the head of 2025-01-02" in faults(document, tmp_path)


# --- bytes --------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def tiny() -> bytes:
    """The smallest statement with an event and a line."""
    contract = {"contract": drafts.CONTRACT["contract"], "discount": drafts.CONTRACT["discount"][:1]}
    day = drafts.sealed_day(DAY, [confirmed(1)], others=1)
    lines = redemption_lines(confirmed(1))
    return drafts.written(drafts.statement([day], lines, closing=drafts.opening(), contracts=[contract]))


def test_every_single_flipped_bit_is_refused(tiny: bytes) -> None:
    assert read_statement(tiny, name="x", event_ids=set()).faults == []
    changed = bytearray(tiny)
    for place in range(len(tiny)):
        for bit in range(8):
            changed[place] ^= 1 << bit
            assert read_statement(bytes(changed), name="x", event_ids=set()).faults, f"bit {bit} of byte {place}"
            changed[place] ^= 1 << bit


def test_every_truncation_is_refused(tiny: bytes) -> None:
    for length in range(1, len(tiny), 7):
        assert read_statement(tiny[:length], name="x", event_ids=set()).faults
        assert read_statement(tiny[length:], name="x", event_ids=set()).faults


JUNK = (None, True, -1, 1 << 64, 10**300, "", "\x1b[2J", "x" * 999, [], {}, [[]], {"": 0})


def places(of: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, name or number) in a document."""
    for step in list(of) if isinstance(of, dict) else range(len(of)):
        yield of, step
        if isinstance(of[step], dict | list):
            yield from places(of[step])


@pytest.mark.parametrize("junk", JUNK, ids=map(repr, range(len(JUNK))))
def test_any_value_anywhere_ends_in_printable_sentences_and_never_in_a_stack_trace(junk: Any, tiny: bytes) -> None:
    """Signed as it is. Free texts may be anything, so what counts is that each is judged."""
    document = json.loads(tiny)
    del document["signature"]
    refused = judged = 0
    for of, step in list(places(document)):
        honest, of[step] = of[step], junk
        raw = drafts.canonical(document | {"signature": drafts.SIGNATORY.detached(drafts.canonical(document))}) + b"\n"
        found = read_statement(raw, name="x", event_ids=set())
        assert all(fault.isprintable() for fault in found.faults)
        judged, refused = judged + 1, refused + bool(found.faults)
        of[step] = honest
    assert refused > judged * 9 // 10


HOSTILE = {
    "one-byte": b"{",
    "not-utf8": b"\xff\xfe{}",
    "nested": b'{"closing":' + b"[" * 200_000,
    "nested-tail": b',"opening":' + b'{"a":' * 200_000,
    "number": b',"opening":' + b"9" * 100_000,
    "minus-zero": b',"opening":-0',
    "fraction": b',"opening":1.0',
    "exponent": b',"opening":1e2',
    "nan": b',"opening":NaN',
    "surrogate": b',"opening":"\\ud800"',
    "twice": b',"opening":{"a":1,"a":1}',
    "blank": b',"opening":{"a": 1}',
    "unsorted": b',"opening":{"b":1,"a":1}',
    "escape": b',"opening":"\\u0041"',
    "list": b"[]\n",
    "null": b"null\n",
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes_are_refused_in_a_sentence(tmp_path: Path, raw: bytes) -> None:
    (fault,) = check(raw, tmp_path).faults
    assert fault
    assert len(fault) < 500


def test_members_that_are_there_twice_are_named(tmp_path: Path, tiny: bytes) -> None:
    raw = tiny.replace(b'"amount_minor":1998,', b'"amount_minor":1998,"amount_minor":1998,', 1)
    assert any("member amount_minor is there twice" in fault for fault in check(raw, tmp_path).faults)


def test_an_empty_and_a_gigantic_file_are_refused_without_being_read(tmp_path: Path) -> None:
    assert "it has 0 bytes" in check(b"", tmp_path).faults[0]
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate((1 << 30) + 1)
    assert "it has 1073741825 bytes" in verify_files([huge]).files[0].faults[0]


# --- several files ------------------------------------------------------------------------------------------------
def chain(folder: Path, change: Callable[[Json], Any] = lambda _: None) -> Report:
    """Two statements; the second as it is after `change`."""
    one = busy()
    first = drafts.written(one)
    header = one["statement"]
    later = [goal(20, business_day="2025-01-05"), confirmed(21, discount="five", business_day="2025-01-05")]
    day = drafts.sealed_day("2025-01-05", later, previous=drafts.head_hash(one["days"][-1]))
    lines = [line(later[0], "commission", 300), *redemption_lines(later[1])]
    closing = one["closing"] | {"ranks": {"CARD_ACTIVATED 2025-01": 4}}
    previous = {"number": 1, "sha256": sha256(first).hexdigest(), "statement_id": header["statement_id"]}
    two = drafts.statement([day], lines, closing=closing, start=one["closing"], number=2, previous=previous)
    paths = [folder / "2.json", folder / "1.json"]
    paths[0].write_bytes(drafts.written(drafts.changed(two, change)))
    paths[1].write_bytes(first)
    return verify_files(paths)


def test_statements_that_follow_each_other_are_accepted_in_any_order(tmp_path: Path) -> None:
    report = chain(tmp_path)
    assert [file.faults for file in report.files] == [(), ()]
    assert report.accepted


CHAIN_LIES = {
    "sha256": (put("statement", "previous", "sha256", "0" * 64), "previous.sha256 is 000"),
    "id": (put("statement", "previous", "statement_id", "stm_x"), "previous.statement_id is stm_x"),
    "first-again": (put("statement", "previous", None), "the first statement opens with 0"),
    "opening": (put("opening", "ranks", {}), "opening: ranks is {}"),
    "carried": (put("opening", "carried_minor", 1), "opening: carried_minor is 1, the closing before has 0"),
    "overlap": (put("statement", "from_day", "2025-01-04"), "is not after the to_day 2025-01-04"),
    "heads": (lambda d: d["days"].__setitem__(0, drafts.sealed_day("2025-01-05", d["days"][0]["events"])),
              "previous_head_hash is 000"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "sentence"), CHAIN_LIES.values(), ids=CHAIN_LIES)
def test_a_statement_that_does_not_follow_is_refused(tmp_path: Path, change: Any, sentence: str) -> None:
    later, first = chain(tmp_path, change).files
    assert first.accepted
    assert sentence in "\n".join(later.faults)


def test_a_closing_before_that_is_no_object_ends_in_sentences(tmp_path: Path) -> None:
    chain(tmp_path)
    before = drafts.written(busy() | {"closing": []})
    (tmp_path / "1.json").write_bytes(before)
    later = json.loads((tmp_path / "2.json").read_bytes())
    later["statement"]["previous"]["sha256"] = sha256(before).hexdigest()
    del later["signature"]
    (tmp_path / "2.json").write_bytes(drafts.written(later))
    first, second = verify_files([tmp_path / "1.json", tmp_path / "2.json"]).files
    assert "closing is [], expected is an object" in first.faults
    assert "the closing before has None" in "\n".join(second.faults)


def test_the_same_statement_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "1.json"
    path.write_bytes(drafts.written(busy()))
    assert "it is there twice" in "\n".join(verify_files([path, path]).files[1].faults)


def test_a_later_statement_alone_says_what_it_rests_on(tmp_path: Path) -> None:
    chain(tmp_path)
    report = verify_files([tmp_path / "2.json"])
    assert report.accepted
    assert any("rests on the bank's word" in note for note in report.files[0].notes)


# --- the command ----------------------------------------------------------------------------------------------------
def test_the_command_accepts_in_two_languages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.json").write_bytes(drafts.written(busy()))
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [drafts.SIGNATORY.jwk]}))
    assert main([str(tmp_path / "s.json"), "--jwks", str(tmp_path / "keys.json")]) == 0
    out = capsys.readouterr().out
    assert "ACCEPTED" in out
    assert "通过" in out
    assert f"{drafts.SIGNATORY.thumbprint} pinned" in out


def test_the_command_refuses_with_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.json").write_bytes(drafts.written(spoiled(put("data", "discount", "\x1b[2J"))))
    assert main([str(tmp_path / "s.json")]) == 1
    out = capsys.readouterr().out
    assert "REFUSED" in out
    assert "拒绝" in out
    assert "\x1b" not in out


def test_the_command_says_when_it_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.json").write_bytes(drafts.written(busy()))
    (tmp_path / "bad.json").write_text("[" * 100_000)
    (tmp_path / "none.json").write_text('{"keys": []}')
    for arguments in ([], ["--what"], [str(tmp_path)], [str(tmp_path / "no")], [str(tmp_path / "s.json"), "--jwks"]):
        assert main(arguments) == 2
    for name in ("bad.json", "none.json", "missing.json"):
        assert main([str(tmp_path / "s.json"), "--jwks", str(tmp_path / name)]) == 2
    assert main(["--help"]) == 0
    assert "Traceback" not in "".join(capsys.readouterr())


def test_a_path_that_is_no_file_is_unusable(tmp_path: Path) -> None:
    with pytest.raises(Unusable):
        verify_files([tmp_path / "\0"])


def test_the_folder_runs_alone_where_nothing_of_the_gateway_is(tmp_path: Path) -> None:
    copytree(Path(verify.__file__).parent, tmp_path / "verify")
    (tmp_path / "s.json").write_bytes(drafts.written(busy()))
    ran = subprocess.run(
        [sys.executable, "-I", "-c",
         "import runpy, sys; sys.path.insert(0, '.'); sys.argv = ['verify', 's.json'];"
         "sys.modules['gateway'] = None; runpy.run_module('verify', run_name='__main__')"],
        cwd=tmp_path, capture_output=True, check=False, env={"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert b"ACCEPTED" in ran.stdout
    assert ran.stderr == b""
