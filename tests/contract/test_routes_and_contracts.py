"""The operation table and the contracts say the same, both ways; and the contracts are valid."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_spec_validator import validate

from gateway.call import Operation, Protocol
from gateway.routes import OPERATIONS

OPENAPI = Path(__file__).parents[2] / "openapi"
FILES = sorted(OPENAPI.glob("*.yaml"))
METHODS = ("get", "post", "put", "delete", "patch")
# Pages for people (portal, console, a customer's consents) are looked at, not called: they have no contract. Neither
# have Open Banking rows one of ours: the standard's own files are their contract (test_open_banking.py).
WITHOUT_CONTRACT = ("/portal", "/console", "/consents", "/openapi/")


def contracts() -> dict[tuple[str, str], dict[str, Any]]:
    found = {}
    for path in FILES:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        for template, item in document["paths"].items():
            for method in METHODS:
                if method in item:
                    shared = item.get("parameters", [])
                    found[method.upper(), template] = {**item[method], "shared": shared, "file": path.stem}
    return found


def rows() -> dict[tuple[str, str], Operation]:
    return {
        (operation.method, operation.path): operation
        for operation in OPERATIONS
        if operation.protocol is not Protocol.OB and not operation.path.startswith(WITHOUT_CONTRACT)
    }


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_contract_is_valid_openapi(path: Path) -> None:
    validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_every_row_has_its_contract_and_every_contract_its_row() -> None:
    assert rows().keys() == contracts().keys()


def test_names_are_equal() -> None:
    agreed = contracts()
    assert {key: row.id for key, row in rows().items()} == {key: spec["operationId"] for key, spec in agreed.items()}


def test_scopes_are_equal() -> None:
    agreed = contracts()
    for key, row in rows().items():
        named = {scope for scheme in agreed[key].get("security", []) for scopes in scheme.values() for scope in scopes}
        assert named == ({row.scope} if row.scope else set()), row.id


def test_idempotency_keys_are_asked_for_where_the_table_says_so() -> None:
    agreed = contracts()
    for key, row in rows().items():
        refs = [parameter.get("$ref", "") for parameter in agreed[key].get("parameters", [])]
        assert any(ref.endswith("/IdempotencyKey") for ref in refs) == row.idempotent, row.id


def test_bodies_are_agreed_where_the_table_decodes_one() -> None:
    agreed = contracts()
    for key, row in rows().items():
        content = agreed[key].get("requestBody", {}).get("content", {})
        if row.body is not None:
            assert list(content) == ["application/json"], row.id
        if row.raw_body:
            assert list(content) == [row.raw_body], row.id


def test_placeholders_are_declared() -> None:
    for (_, template), spec in contracts().items():
        declared = {p["name"] for p in [*spec["shared"], *spec.get("parameters", [])] if p.get("in") == "path"}
        assert declared == {part[1:-1] for part in template.split("/") if part.startswith("{")}, template


def test_partner_operations_carry_the_level_and_the_id_that_the_regulator_asks_for() -> None:
    agreed = contracts()
    ids = []
    for key, row in rows().items():
        if row.path.startswith("/partner/v1/"):
            assert agreed[key]["x-jrt0185-level"] == row.level, row.id
            ids.append(agreed[key]["x-u-api-id"])
            assert len(ids[-1]) == 24
    assert len(set(ids)) == len(ids)


def test_every_operation_speaks_english_and_chinese() -> None:
    for spec in contracts().values():
        assert spec["summary"]
        assert spec["x-summary-zh"]


def test_query_fields_are_equal_on_our_own_apis() -> None:
    """What the contract does not name is refused, and what it names is read."""
    agreed = contracts()
    for key, row in rows().items():
        if row.strict_query:
            names = [p.get("$ref", "").rpartition("/")[2] for p in agreed[key].get("parameters", [])]
            assert set(names) & QUERY_FIELDS == set(row.query), row.id


QUERY_FIELDS = {
    name
    for path in FILES
    for name, spec in yaml.safe_load(path.read_text(encoding="utf-8"))["components"].get("parameters", {}).items()
    if spec["in"] == "query"
}
