"""Every member and parameter of a request that the contracts call a date or a time: where a caller can name one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from tests.contract import obuk
from tests.contract.own import OPENAPI

_METHODS = ("get", "post", "put", "delete", "patch")
_KINDS = ("date", "date-time")
_HTTP_DATE = "^(Mon|Tue|"  # the standard's headers have a pattern for a date, and no format


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a request: `inside` is body, query, path or header; `path` leads there, "0" into an array."""

    operation_id: str
    inside: str
    path: tuple[str, ...]
    kind: str

    def __str__(self) -> str:
        return f"{self.operation_id}-{self.inside}-{'.'.join(self.path)}"


def own_places() -> Iterator[Place]:
    """Of our own contracts."""
    for file in sorted(OPENAPI.glob("*.yaml")):
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        yield from _places(document, {"application/json"})


def standard_places(operation_ids: set[str]) -> Iterator[Place]:
    """Of the operations of UK Open Banking that the table has."""
    for name in sorted({name for names in obuk.FILES.values() for name in names}):
        for place in _places(obuk.document(name), {"application/json; charset=utf-8"}):
            if place.operation_id in operation_ids:
                yield place


def _places(document: dict[str, Any], media: set[str]) -> Iterator[Place]:
    for item in document["paths"].values():
        for method in _METHODS:
            if method in item:
                yield from _of_operation(document, item[method], item.get("parameters", []), media)


def _of_operation(
    document: dict[str, Any], spec: dict[str, Any], shared: list[dict[str, Any]], media: set[str]
) -> Iterator[Place]:
    for given in [*shared, *spec.get("parameters", [])]:
        parameter = _resolved(document, given)
        schema = _resolved(document, parameter.get("schema", {}))
        kind = "http-date" if str(schema.get("pattern", "")).startswith(_HTTP_DATE) else schema.get("format")
        if kind in (*_KINDS, "http-date"):
            yield Place(spec["operationId"], parameter["in"], (parameter["name"],), str(kind))
    body = _resolved(document, spec.get("requestBody", {}))
    for name, content in body.get("content", {}).items():
        if name in media:
            for path, kind in _members(document, content["schema"], ()):
                yield Place(spec["operationId"], "body", path, kind)


def _members(document: dict[str, Any], given: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[Any, str]]:
    schema = _resolved(document, given)
    if schema.get("format") in _KINDS:
        yield path, schema["format"]
    for part in (*schema.get("allOf", ()), *schema.get("oneOf", ()), *schema.get("anyOf", ())):
        yield from _members(document, part, path)
    for name, member in schema.get("properties", {}).items():
        yield from _members(document, member, (*path, name))
    if "items" in schema:
        yield from _members(document, schema["items"], (*path, "0"))


def _resolved(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        found: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node
