"""The API reference, read from `openapi/`: plain structures for a template. The contract is the only source."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

_METHODS = ("get", "post", "put", "patch", "delete")
_DEPTH = 6  # levels of a schema that a reader wants on one page; deeper ones are named


@dataclass(frozen=True, slots=True)
class Member:
    """One line of a schema: dotted name, type in words, whether it must be there, what it means."""

    name: str
    type: str
    required: bool
    text: str
    example: str
    data_class: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation, laid out for reading."""

    id: str
    method: str
    path: str
    summary: str
    summary_zh: str
    description: str
    scope: str
    level: str
    parameters: tuple[Member, ...]
    request: tuple[Member, ...]
    request_type: str
    responses: tuple[tuple[str, str, tuple[str, ...]], ...]  # status, when, stable codes
    answer: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """The operations of one tag."""

    name: str
    text: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """One contract file."""

    name: str
    title: str
    version: str
    text: str
    groups: tuple[Group, ...]


def read_references(folder: Path) -> tuple[Reference, ...]:
    """Every contract of the folder, by file name."""
    return tuple(read_reference(path) for path in sorted(folder.glob("*.yaml")))


@lru_cache(maxsize=32)
def read_reference(path: Path) -> Reference:
    """One file; read once a process, as contracts only change with a release."""
    document = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    entries = [
        (
            tags[0],
            _entry(document, method=method, path=template, operation=operation, shared=item.get("parameters", [])),
        )
        for template, item in document["paths"].items()
        for method, operation in item.items()
        if method in _METHODS
        for tags in (operation.get("tags") or ["other"],)
    ]
    texts = {tag["name"]: tag.get("description", "") for tag in document.get("tags", [])}
    names = list(dict.fromkeys([*texts, *(tag for tag, _ in entries)]))
    groups = tuple(
        Group(name, texts.get(name, ""), tuple(entry for tag, entry in entries if tag == name))
        for name in names
        if any(tag == name for tag, _ in entries)
    )
    info = document["info"]
    return Reference(path.stem, info["title"], info["version"], info.get("description", ""), groups)


def _entry(
    document: Mapping[str, Any], *, method: str, path: str, operation: Mapping[str, Any], shared: list[Any]
) -> Entry:
    body = _resolve(document, operation.get("requestBody", {})).get("content", {})
    media = next(iter(body), "")
    responses = {status: _resolve(document, response) for status, response in operation["responses"].items()}
    codes: Mapping[str, list[str]] = operation.get("x-problem-codes", {})
    good = next((response for status, response in responses.items() if status.startswith(("2", "3"))), {})
    answer: Mapping[str, Any] = next(iter(good.get("content", {}).values()), {})
    return Entry(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation.get("summary", ""),
        summary_zh=operation.get("x-summary-zh", ""),
        description=operation.get("description", ""),
        scope=_scope(operation),
        level=operation.get("x-jrt0185-level", ""),
        parameters=tuple(_parameter(_resolve(document, p)) for p in [*shared, *operation.get("parameters", [])]),
        request=tuple(_members(document, body[media].get("schema", {}), name="", depth=0)) if media else (),
        request_type=media,
        responses=tuple(
            (status, response.get("description", ""), tuple(codes.get(status, ())))
            for status, response in responses.items()
        ),
        answer=tuple(_members(document, answer.get("schema", {}), name="", depth=0)),
    )


def _scope(operation: Mapping[str, Any]) -> str:
    scopes = {scope for scheme in operation.get("security", []) for names in scheme.values() for scope in names}
    return " ".join(sorted(scopes))


def _parameter(parameter: Mapping[str, Any]) -> Member:
    schema = parameter.get("schema", {})
    return Member(
        f"{parameter['name']} ({parameter['in']})", _type(schema), bool(parameter.get("required")),
        parameter.get("description", ""), str(parameter.get("example", schema.get("example", ""))), "",
    )  # fmt: skip


def _members(document: Mapping[str, Any], schema: Mapping[str, Any], *, name: str, depth: int) -> list[Member]:
    """The schema's leaves and branches, dotted, depth first."""
    schema = _resolve(document, schema)
    if depth > _DEPTH:
        return []
    if schema.get("type") == "array":
        return _members(document, schema.get("items", {}), name=f"{name}[]", depth=depth + 1)
    found = []
    required = set(schema.get("required", ()))
    for key, raw in schema.get("properties", {}).items():
        member = _resolve(document, raw)
        dotted = f"{name}.{key}" if name else key
        found.append(
            Member(
                dotted, _type(member), key in required, raw.get("description") or member.get("description", ""),
                str(member.get("example", "")), member.get("x-data-class", ""),
            )
        )  # fmt: skip
        found.extend(_members(document, member, name=dotted, depth=depth + 1))
    return found


def _type(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type", "object")
    words = kind if isinstance(kind, str) else " or ".join(kind)
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    return f"{words} ({schema['format']})" if "format" in schema else words


def _resolve(document: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow local $refs; contracts here are one file each."""
    while "$ref" in node:
        target: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node
