"""What surrounds the events of a statement: totals, days, proofs, contracts, signatures and keys."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.settlement import drafts
from tests.unit.settlement.cases import DAY, PINNED, Lies, busy, check, faults, put, simple
from tests.unit.settlement.drafts import Json, confirmed
from tests.unit.settlement.statements import opening, statement

ROOT = "0" * 64
DOCUMENT_LIES: Lies = {
    "bank-owes": (put("totals", "bank_owes_minor", 1), "totals: bank_owes_minor is 1, expected"),
    "partner-owes": (put("totals", "partner_owes_minor", 1), "totals: partner_owes_minor is 1, expected"),
    "net": (put("totals", "net_minor", 1), "totals: net_minor is 1, expected"),
    "payable": (put("totals", "payable_minor", 1), "totals: payable_minor is 1, expected"),
    "more-totals": (put("totals", "fee_minor", 1), "totals: fee_minor is 1, expected nothing"),
    "no-totals": (put("totals", []), "totals is [], expected"),
    "carried-out": (put("closing", "carried_minor", 5), "closing: carried_minor is 5, expected 0"),
    "ranks": (put("closing", "ranks", "CARD_ACTIVATED 2025-01", 2), "CARD_ACTIVATED 2025-01 is 2, expected 3"),
    "funded": (put("closing", "funded", {}), "closing.funded: metro-2025 tenth partner is nothing, expected 3000"),
    "accrued": (put("closing", "accrued", "size", 0), "closing.accrued: size is 0, expected 7"),
    "versions": (put("closing", "versions", []), "closing: versions is [], expected"),
    "first-opens": (put("opening", "carried_minor", 9), "the first statement opens with 0 and nothing else"),
    "first-knows": (lambda m: m["opening"].update(versions=m["closing"]["versions"]), "opens with 0 and nothing else"),
    "opens-with-zero": (put("opening", "ranks", {"x": 0}), "opening: ranks of x is 0, expected is an integer from 1"),
    "format": (put("format", "parasol-statement-1"), "its format is parasol-statement-1, this program reads"),
    "no-member": (lambda m: m.pop("days"), "the manifest has the members closing"),
    "period": (put("statement", "to_day", "2025-01-03"), "day 2025-01-04: it is outside the period"),
    "backwards": (put("statement", "to_day", "2024-01-03"), "is after to_day"),
    "no-date": (put("statement", "from_day", "2025-02-30"), "which no calendar has"),
    "bank": (put("statement", "bank", "other-bank"), "the head is of bank first-bank"),
    "currency": (put("statement", "currency", "EUR"), "no event leads to it"),
    "partner": (put("statement", "partner", "shop"), "its partner is metro, expected shop"),
    "root": (put("days", 0, "root", ROOT), "day 2025-01-02: the inclusion path leads to"),
    "path": (put("days", 0, "path", 0, ROOT), "the inclusion path leads to"),
    "short-path": (lambda m: m["days"][0]["path"].pop(), "too few"),
    "long-path": (lambda m: m["days"][0]["path"].append(ROOT), "too many"),
    "index": (put("days", 0, "index", 0), "the inclusion path"),
    "index-beyond": (put("days", 0, "index", 9), "index is 9, expected is 0 to 2"),
    "size": (put("days", 0, "size", 3), "part 2: it has 15 events, expected are 3 events of 2025-01-02"),
    "tree-size": (put("days", 0, "tree_size", 4), "tree_size is 4"),
    "empty-index": (put("days", 1, "index", 0), "without events index is -1"),
    "empty-root": (put("days", 1, "root", ROOT), "without events index is -1, path empty and root that of"),
    "head": (put("days", 0, "head", "event_count", 99), "the signature of the head of 2025-01-02"),
    "head-format": (put("days", 0, "head", "format", "parasol-day-1"), "format is parasol-day-1"),
    "audit-head": (put("days", 0, "head", "audit_head", "x"), "head of 2025-01-02: audit_head is x"),
    "audit-empty": (put("days", 0, "head", "audit_head", ""), "head of 2025-01-02: audit_head is"),
    "audit-added": (put("days", 0, "head", "audit_head", ROOT), "the signature of the head of 2025-01-02"),
    "no-contract": (put("contracts", []), "evt_0001: contract metro-2025 version 1 has no document"),
    "contracts-twice": (put("contracts", [drafts.CONTRACT] * 2), "version 1 stands after version 1"),
    "part-hash": (put("parts", 1, "sha256", ROOT), "part 2: it has"),
    "part-size": (put("parts", 1, "size", 9), "part 2: it has"),
    "part-lines": (put("parts", 1, "lines", 9), "part 2: it holds 15 events and 17 lines, the manifest says"),
    "part-count": (put("parts", 1, "count", 9), "part 2: it has 9 events, expected are 15"),
    "part-kind": (put("parts", 1, "kind", "accrued"), "part 2"),
    "part-left-out": (lambda m: m["parts"].pop(), "the manifest names 2 parts, the file holds 3"),
    "parts-swapped": (lambda m: m["parts"].reverse(), "part 1: it has"),
}


@pytest.mark.parametrize(("change", "sentence"), DOCUMENT_LIES.values(), ids=DOCUMENT_LIES)
def test_a_false_document_is_refused_though_signed(tmp_path: Path, change: Any, sentence: str) -> None:
    assert sentence in faults(busy(manifest=change), tmp_path)


PART_LIES: Lies = {
    "events-order": (lambda parts: parts[2]["events"].reverse(), "line 18: expected is"),
    "events-swapped": (lambda parts: parts[2]["events"].insert(0, parts[2]["events"].pop(1)), "line 18: expected is"),
    "event-left-out": (lambda parts: parts[1]["events"].pop(), "part 2: it has 14 events, expected are 15"),
    "event-moved": (lambda parts: parts[2]["events"].append(parts[1]["events"].pop()), "part 2: it has 14 events"),
    "parts-swapped": (lambda parts: parts.append(parts.pop(1)), "part 2: it has 10 events, expected are 15"),
    "part-dropped": (lambda parts: parts.pop(), "day 2025-01-04: 10 of its 10 events have no part"),
    "part-added": (lambda parts: parts.append(parts[2]), "part 4: no day has events for it"),
    "accrued-last": (lambda parts: parts.append(parts.pop(0)), "part 3: no day has events for it"),
    "day": (put(1, "day", "2025-01-04"), "its business_day is 2025-01-02, expected 2025-01-04"),
    "kind": (put(1, "kind", "other"), "kind"),
    "members": (put(1, "more", 1), "part 2: it is not JSON of the shape"),
    "nothing": (put(2, {}), "part 3"),
}


@pytest.mark.parametrize(("change", "sentence"), PART_LIES.values(), ids=PART_LIES)
def test_parts_that_are_not_those_of_the_days_are_refused(tmp_path: Path, change: Any, sentence: str) -> None:
    assert sentence in faults(busy(part=change), tmp_path)


def test_events_in_another_order_than_sealed_are_refused_by_the_root(tmp_path: Path) -> None:
    """Two events without lines and without anything to do with each other."""
    seen = [drafts.event(n, "claim.owned", amount=0, data={}) for n in (1, 2)]
    made = simple(*seen, part=lambda parts: parts[0]["events"].append(parts[0]["events"].pop(1)))
    assert "day 2025-01-02: root is" in faults(made, tmp_path)


def test_a_day_that_is_left_out_breaks_the_chain_of_heads(tmp_path: Path) -> None:
    made = busy(manifest=lambda m: m["days"].pop(1))
    assert "day 2025-01-04: previous_head_hash is" in faults(made, tmp_path)


# --- the rule of 8,192 ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def large() -> list[Json]:
    return [drafts.effective(0), *(drafts.event(n, "claim.owned", amount=0, data={}) for n in range(1, 8200))]


def test_a_day_of_several_parts_has_the_root_of_all_its_events(tmp_path: Path, large: list[Json]) -> None:
    made = statement({DAY: large})
    assert [entry["count"] for entry in made.manifest["parts"]] == [8192, 8]
    assert check(made.small(), tmp_path).faults == ()


def test_parts_of_another_size_are_refused(tmp_path: Path, large: list[Json]) -> None:
    def recut(parts: list[Json]) -> None:
        parts[1]["events"].insert(0, parts[0]["events"].pop())

    assert "part 1: it has 8191 events, expected are 8192" in faults(statement({DAY: large}, part=recut), tmp_path)


def test_an_event_far_away_is_there_twice(tmp_path: Path, large: list[Json]) -> None:
    again = [*large[:-1], large[5] | {"recorded_at_ms": drafts.NOON}]
    assert "event evt_0005 (number 8200): its event_id is there twice" in faults(statement({DAY: again}), tmp_path)


# --- contracts --------------------------------------------------------------------------------------------------------
CONTRACT_LIES: Lies = {
    "unknown": (put("bonus", []), "a contract may have the members"),
    "unknown-term": (put("discount", 0, "tax_minor", 1), "may have the members"),
    "shares": (put("discount", 0, "fund", [{"party": "bank", "bps": 5999}]), "does not share out 10000 basis points"),
    "merchant": (put("discount", 0, "fund", [{"party": "merchant", "bps": 10000}]), "party is merchant"),
    "party-twice": (put("discount", 0, "fund", [{"party": "bank", "bps": 5000}] * 2), "bank is there twice"),
    "overflow": (put("discount", 1, "fund", 0, "overflow", "partner"), "overflows to no uncapped party"),
    "half-cap": (put("discount", 0, "fund", [{"party": "bank", "bps": 10000, "cap_minor": 1}]), "together"),
    "kind": (put("discount", 0, "kind", "free"), "kind is free"),
    "price": (put("discount", 0, "off_minor", 1), "cap_price has max_off_minor, pay_minor"),
    "negative": (put("discount", 0, "pay_minor", -1), "pay_minor is -1"),
    "twice": (lambda c: c["discount"].append(c["discount"][0]), "ride is there twice"),
    "when": (put("discount", 4, "when", "card_bin", []), "when may have the members"),
    "clock": (put("discount", 4, "when", "time", "22:00-07:00"), "time is 22:00-07:00"),
    "weekday": (put("discount", 4, "when", "weekday", [8]), "weekday is 8"),
    "steps": (put("commission", 0, "steps", 0, "from", 1), "steps start at 0 and rise"),
    "cps": (put("commission", 1, "bps", 10_001), "bps is 10001"),
    "window": (put("commission", 1, "window", "a while"), "window is a while"),
    "goal": (put("commission", 1, "goal", "A B"), "goal is A B"),
    "zone": (put("contract", "timezone", "Moon/Base"), "no time zone Moon/Base"),
    "zone-path": (put("contract", "timezone", "../../etc/passwd"), "timezone is ../../etc/passwd"),
    "term": (put("contract", "valid_to", "2024-12-31"), "is before valid_from"),
    "week-date": (put("contract", "valid_from", "2025-W01-1"), "valid_from is 2025-W01-1"),
    "carry": (put("settle", "negative", "clip"), "expected carry"),
    "cycle": (put("settle", "cycle", "day"), "settle may have the members"),
}


@pytest.mark.parametrize(("change", "sentence"), CONTRACT_LIES.values(), ids=CONTRACT_LIES)
def test_a_contract_that_makes_no_sense_is_refused(tmp_path: Path, change: Any, sentence: str) -> None:
    contract = drafts.changed(drafts.CONTRACT, change)
    made = simple(confirmed(1), manifest=put("contracts", [contract]))
    assert sentence in faults(made, tmp_path)


@pytest.mark.parametrize(
    ("carried", "payable", "out"), [(-1199, 0, 0), (-1190, 0, 9), (-1189, 10, 0), (-5000, 0, -3801)]
)
def test_what_is_negative_or_too_little_is_carried(tmp_path: Path, carried: int, payable: int, out: int) -> None:
    known = simple().manifest["closing"]["versions"]
    seed = next(n for n in range(1, 99) if confirmed(n)["data"]["legs"]["partner"] == 799)
    begun = {"start": opening(carried, versions=known)}
    made = statement({DAY: [confirmed(seed)]}, **begun)
    assert (made.manifest["totals"]["payable_minor"], made.manifest["totals"]["carried_out_minor"]) == (payable, out)
    assert check(made.small(), tmp_path).accepted
    paid = statement({DAY: [confirmed(seed)]}, manifest=put("totals", "payable_minor", payable + 1), **begun)
    assert f"payable_minor is {payable + 1}, expected {payable}" in faults(paid, tmp_path)


# --- signatures and keys --------------------------------------------------------------------------------------------
STRANGER = drafts.Signatory()


def test_a_pinned_key_is_said_to_be_pinned(tmp_path: Path) -> None:
    report = check(busy().small(), tmp_path, jwks={"keys": [STRANGER.jwk, drafts.SIGNATORY.jwk]})
    assert report.accepted
    assert report.pinned


def test_a_key_that_is_not_pinned_is_refused(tmp_path: Path) -> None:
    report = check(busy().small(), tmp_path, jwks={"keys": [STRANGER.jwk]})
    assert any("is not among the pinned keys" in fault for fault in report.faults)
    assert not report.pinned


def test_another_key_under_a_pinned_name_is_refused(tmp_path: Path) -> None:
    named = STRANGER.jwk | {"kid": drafts.SIGNATORY.kid}
    report = check(busy().small(), tmp_path, jwks={"keys": [named]})
    assert any("is not among the pinned keys" in fault for fault in report.faults)


BAD_SIGNATURES: dict[str, tuple[Callable[[bytes], Any], str]] = {
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
    made = simple(confirmed(1))
    made.manifest["signature"] = signature(drafts.canonical(made.manifest))
    assert sentence in faults(made, tmp_path)


BAD_KEYS: Lies = {
    "curve": (put("crv", "P-384"), "crv is P-384"),
    "use": (put("use", "enc"), "use is enc"),
    "purpose": (put("purpose", "token"), "purpose is token, expected statement"),
    "no-purpose": (lambda k: k.pop("purpose"), "purpose is None, expected statement"),
    "private": (put("d", "AA"), "private half"),
    "point": (lambda k: k.update(x=k["y"]), "not a point of the curve"),
    "length": (put("x", "AAAA"), "found 3 and 32"),
    "padding": (lambda k: k.update(x=k["x"] + "="), "x of key"),
    "no-kid": (put("kid", None), "kid of a key is None"),
}


@pytest.mark.parametrize(("change", "sentence"), BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_key_that_is_no_public_p256_key_of_statements_is_refused(tmp_path: Path, change: Any, sentence: str) -> None:
    key = drafts.changed(drafts.SIGNATORY.jwk, change)
    assert sentence in faults(simple(confirmed(1), keys=[key]), tmp_path)


def test_a_key_that_nothing_names_and_a_key_twice_are_refused(tmp_path: Path) -> None:
    own = drafts.SIGNATORY.jwk
    assert "keys: no valid signature names" in faults(simple(keys=[own, STRANGER.jwk]), tmp_path)
    assert "is there twice" in faults(simple(keys=[own, own]), tmp_path)


def test_a_head_that_another_head_was_signed_for_is_refused(tmp_path: Path) -> None:
    made = busy(manifest=lambda m: m["days"][0].update(head_jws=m["days"][1]["head_jws"]))
    assert "the signature of the head of 2025-01-02" in faults(made, tmp_path)


def test_a_statement_signed_after_a_rotation_holds_with_the_keys_of_both(tmp_path: Path) -> None:
    """Days sealed with the key of before, the statement signed with the one of after."""

    def resigned(manifest: Json) -> None:
        manifest["keys"].append(STRANGER.jwk)
        manifest["signature"] = STRANGER.detached(drafts.canonical(manifest))

    raw = busy(manifest=resigned).small()
    assert check(raw, tmp_path, jwks={"keys": [drafts.SIGNATORY.jwk, STRANGER.jwk]}).faults == ()
    assert "is not among the pinned keys" in "\n".join(check(raw, tmp_path, jwks=PINNED).faults)
