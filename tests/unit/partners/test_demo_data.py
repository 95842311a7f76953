"""The two demo partners and the policies that ship: sound, and enough for the journey."""

import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.clock import to_ms
from gateway.parking.tariff import read_tariffs
from gateway.partners.folder import AgreedFolder, load_folder
from gateway.policies.policy import OperationDenied, Policy
from gateway.policies.policy_file import compile_policy

ROOT = Path(__file__).parents[3]
FIRST_REPLAYED_MS = to_ms(datetime(2025, 1, 1, tzinfo=UTC))  # the demo moves real purchases into the last months


@pytest.fixture(scope="module")
def shipped() -> AgreedFolder:
    named = [tomllib.loads(path.read_text())["allow"]["operations"] for path in (ROOT / "policies").glob("*.toml")]
    return load_folder(ROOT, frozenset(operation for operations in named for operation in operations))


def _policy(shipped: AgreedFolder, partner_id: str) -> Policy:
    own = shipped.partners[partner_id].terms.policy
    default, named = shipped.policies["default"].terms, shipped.policies[own.use].terms
    return compile_policy(default, named, own, version=1)


def test_both_partners_have_sites_a_contract_and_an_app(shipped: AgreedFolder) -> None:
    assert set(shipped.partners) == {"parkco", "shopco"}
    assert {draft.partner_id for draft in shipped.contracts} == {"parkco", "shopco"}
    assert all(draft.terms.site and draft.terms.app for draft in shipped.partners.values())


def test_every_lot_has_a_fee_table_and_room(shipped: AgreedFolder) -> None:
    tariffs = read_tariffs(ROOT / "partners")
    lots = shipped.partners["parkco"].terms.site
    assert len(lots) > 3
    assert all(("parkco", lot.tariff) in tariffs and lot.capacity > 0 and lot.name_zh for lot in lots)


def test_every_contract_has_examples_and_holds_for_the_replayed_months(shipped: AgreedFolder) -> None:
    for draft in shipped.contracts:
        assert draft.contract.example
        assert {commission.kind for commission in draft.contract.commission} == {"CPA", "CPS"}
        assert draft.contract.in_force(FIRST_REPLAYED_MS)
        assert draft.contract.contract.valid_to is None


def test_a_shop_does_not_open_barriers(shipped: AgreedFolder) -> None:
    _policy(shipped, "parkco").check_operation("EnterParking")
    with pytest.raises(OperationDenied):
        _policy(shipped, "shopco").check_operation("EnterParking")


def test_the_default_opens_nothing(shipped: AgreedFolder) -> None:
    allow = shipped.policies["default"].terms.allow
    assert (allow.operations, allow.scopes, allow.currencies, allow.max_amount_minor) == ((), (), (), 0)
