"""The operation table and the contracts say the same, both ways; and the contracts are valid."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_spec_validator import validate

from gateway.call import Operation, Protocol
from gateway.portal.errors import error_entries
from gateway.refusal import Refusal
from gateway.routes import OPERATIONS

OPENAPI = Path(__file__).parents[2] / "openapi"
FILES = sorted(OPENAPI.glob("*.yaml"))
METHODS = ("get", "post", "put", "delete", "patch")
# Pages for people (portal, console, a customer's consents) are looked at, not called: they have no contract. Neither
# have Open Banking rows one of ours: the standard's own files are their contract (test_open_banking.py).
WITHOUT_CONTRACT = ("/portal", "/console", "/consents", "/language", "/openapi/")


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
        if operation.protocol is not Protocol.OB
        and operation.path != "/"
        and not operation.path.startswith(WITHOUT_CONTRACT)
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


def with_problems() -> dict[str, dict[str, Any]]:
    """Operations that refuse with a problem document, and the statuses that do."""
    found = {}
    for (method, template), spec in contracts().items():
        refs = {status: answer.get("$ref", "") for status, answer in spec["responses"].items()}
        statuses = {status for status, ref in refs.items() if ref and not ref.endswith(("/Page", "/OAuthError"))}
        if statuses:
            found[f"{method} {template}"] = {"statuses": statuses, "codes": spec.get("x-problem-codes", {})}
    return found


def test_every_status_that_refuses_lists_its_codes() -> None:
    assert len(with_problems()) > 40
    for line, operation in with_problems().items():
        assert operation["codes"].keys() == operation["statuses"], line
        assert all(operation["codes"].values()), line


def test_every_operation_says_what_the_absence_of_the_database_means() -> None:
    silent = [line for line, operation in with_problems().items()
              if "retry_with_same_key" not in operation["codes"].get("503", [])]  # fmt: skip
    assert not silent


def test_every_listed_code_is_a_refusal_of_the_program_with_that_status() -> None:
    """A code that has gone, or has another status now, is taken out of the lists."""
    known = {(entry.code, str(entry.status)) for entry in error_entries()}
    listed = {
        (code, status, line)
        for line, operation in with_problems().items()
        for status, codes in operation["codes"].items()
        for code in codes
    }
    assert {(code, status, line) for code, status, line in listed if (code, status) not in known} == set()


def test_no_code_is_listed_twice() -> None:
    for line, operation in with_problems().items():
        for status, codes in operation["codes"].items():
            assert len(codes) == len(set(codes)), (line, status)


# Rooms whose refusals are told in other words: Open Banking's codes, RFC 6749's errors, pages.
OTHER_MANNERS = (
    "gateway.accounts.api", "gateway.accounts.permissions", "gateway.payments.", "gateway.oauth.", "gateway.problem",
    "gateway.metrics", "gateway.admission.message_signature",
)  # fmt: skip
# Told where a stranger asks (pages, OAuth), at Open Banking alone, or here in the words of `unknown_resource`.
OTHER_WORDS = {"link_forged", "link_expired", "address_throttled", "customer_token_needed", "foreign_resource"}


def test_every_refusal_of_our_own_apis_is_in_a_contract() -> None:
    listed = {code for row in with_problems().values() for codes in row["codes"].values() for code in codes}
    ours = [kind for kind in subclasses(Refusal) if kind.__module__.startswith("gateway.") and kind is not Refusal]
    told = [kind for kind in ours if not kind.__module__.startswith(OTHER_MANNERS) and kind.code not in OTHER_WORDS]
    unlisted = sorted(f"{kind.code} ({kind.status}, {kind.__module__})" for kind in told if kind.code not in listed)
    assert not unlisted, (
        f"list under their status in x-problem-codes of the operations that can refuse so: {', '.join(unlisted)}"
    )


def subclasses(kind: type[Refusal]) -> list[type[Refusal]]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in subclasses(child))]


def test_query_fields_are_equal_on_our_own_apis() -> None:
    """What the contract does not name is refused, and what it names is read."""
    for (method, template), spec in contracts().items():
        row = rows()[method, template]
        if row.strict_query:
            assert set(query_fields(spec)) == set(row.query), row.id


def query_fields(spec: dict[str, Any]) -> Iterator[str]:
    for parameter in spec.get("parameters", []):
        found = SHARED_PARAMETERS[parameter["$ref"].rpartition("/")[2]] if "$ref" in parameter else parameter
        if found["in"] == "query":
            yield found["name"]


SHARED_PARAMETERS = {
    name: spec
    for path in FILES
    for name, spec in yaml.safe_load(path.read_text(encoding="utf-8"))["components"].get("parameters", {}).items()
}
