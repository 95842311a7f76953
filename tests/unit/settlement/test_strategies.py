"""The random contracts of the settlement tests are valid ones, and reach what those tests are there for."""

from collections.abc import Callable
from hashlib import sha256
from itertools import pairwise
from typing import Any

from hypothesis import Phase, given, settings

from gateway.jsonio import canonical
from gateway.partners.contract import fingerprint, term_ms
from gateway.partners.contract_rules import from_document
from gateway.partners.recording import START_MARGIN_MS, check_recordable
from gateway.partners.store import Version
from tests.unit.settlement.strategies import CONTRACT_ID, PARTNER_ID, RecordedDocument, contracts, histories

SEARCH = settings(max_examples=300, derandomize=True, database=None, deadline=None, phases=[Phase.generate])


@given(contracts())
def test_every_contract_is_accepted_and_is_its_own_canonical_document(versions: list[dict[str, Any]]) -> None:
    numbers = [each["contract"]["version"] for each in versions]
    assert numbers == sorted(set(numbers))
    assert {each["contract"]["id"] for each in versions} == {CONTRACT_ID}
    for each in versions:
        assert fingerprint(from_document(each)) == sha256(canonical(each)).digest()


@given(histories())
def test_every_history_is_one_that_apply_lets_through(history: list[RecordedDocument]) -> None:
    first_ms = history[0].recorded_at_ms
    for place, each in enumerate(history):
        contract = from_document(each.document)
        assert fingerprint(contract) == sha256(canonical(each.document)).digest()
        applied = [
            Version("contract", CONTRACT_ID, r.version, PARTNER_ID, b"", False, applied_at_ms=r.recorded_at_ms)
            for r in history[:place]
            if each.recorded_at_ms != first_ms
        ]
        check_recordable(
            contract, file="f", partner_id=PARTNER_ID, applied=applied, day=each.business_day,
            now_ms=each.recorded_at_ms,
        )  # fmt: skip


def _parts(versions: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [part for each in versions for part in each.get(name, ())]


def _caps(versions: list[dict[str, Any]]) -> set[tuple[str, Any]]:
    return {(c["goal"], c["cap_per_customer_minor"]) for c in _parts(versions, "commission")
            if "cap_per_customer_minor" in c}  # fmt: skip


REACHED: dict[str, Callable[[list[dict[str, Any]]], bool]] = {
    "two currencies": lambda versions: len({each["contract"]["currency"] for each in versions}) > 1,
    "terms that overlap": lambda versions: any(
        term_ms(from_document(a))[0] < term_ms(from_document(b))[0] < term_ms(from_document(a))[1]
        for a in versions
        for b in versions
    ),
    "a later version that starts earlier": lambda versions: any(
        a["contract"]["valid_from"] > b["contract"]["valid_from"] for a, b in pairwise(versions)
    ),
    "a capped partner and a capped bank": lambda versions: len(
        {share["party"] for d in _parts(versions, "discount") for share in d["fund"] if "cap_minor" in share}
    ) == 2,
    "a cap that another version changes": lambda versions: len(_caps(versions)) > len({g for g, _ in _caps(versions)}),
    "a goal that is CPA and CPS": lambda versions: any(
        {c["kind"] for c in _parts(versions, "commission") if c["goal"] == goal} == {"CPA", "CPS"}
        for goal in ("SPEND", "CARD_ACTIVATED")
    ),
    "three steps": lambda versions: any(len(c.get("steps", ())) == 3 for c in _parts(versions, "commission")),
    "three conditions at once": lambda versions: any(len(d.get("when", {})) > 2 for d in _parts(versions, "discount")),
    "every condition": lambda versions: len({n for d in _parts(versions, "discount") for n in d.get("when", {})}) == 5,
    "a least payment": lambda versions: any("min_pay_minor" in each.get("settle", {}) for each in versions),
}  # fmt: skip


def test_the_contracts_reach_what_they_are_for() -> None:
    """In a few hundred draws, as a property test makes them."""
    seen: set[str] = set()

    @SEARCH
    @given(contracts())
    def look(versions: list[dict[str, Any]]) -> None:
        seen.update(what for what, found in REACHED.items() if found(versions))

    look()
    assert seen == REACHED.keys()


def test_a_later_version_is_recorded_as_late_as_may_be() -> None:
    """The edge that settlement must hold: a start less than a day after the recording."""
    leads: list[int] = []

    @SEARCH
    @given(histories())
    def look(history: list[RecordedDocument]) -> None:
        later = [each for each in history if each.recorded_at_ms != history[0].recorded_at_ms]
        leads.extend(term_ms(from_document(each.document))[0] - each.recorded_at_ms for each in later)

    look()
    assert START_MARGIN_MS <= min(leads) < 86_400_000
