"""What surrounds the events of a statement: totals, days, proofs, contracts, signatures and keys."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.settlement import drafts
from tests.unit.settlement.cases import busy, check, faults, put, simple
from tests.unit.settlement.drafts import Json, confirmed

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


@pytest.mark.parametrize(
    ("carried", "payable", "out"), [(-1199, 0, 0), (-1190, 0, 9), (-1189, 10, 0), (-5000, 0, -3801)]
)
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
