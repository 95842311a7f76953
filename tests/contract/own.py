"""Every answer of our own APIs against our own contracts: status, media type, body, and a refusal's stable code."""

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012 as _DIALECT

OPENAPI = Path(__file__).parents[2] / "openapi"
PROBLEM = "application/problem+json"
_METHODS = ("get", "post", "put", "delete", "patch")
OURS = ("/partner/v1/", "/admin/v1/", "/sandbox/v1/", "/oauth/", "/.well-known/", "/r/", "/healthz", "/readyz")


class Operation:
    """One operation of a contract, ready to judge answers."""

    def __init__(self, document: dict[str, Any], template: str, method: str, registry: Any, uri: str) -> None:
        self.template, self.method = template, method
        self.spec = document["paths"][template][method]
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))
        self.pattern = re.compile(f"{pattern}$")
        self._document, self._registry, self._uri = document, registry, uri
        self._validators: dict[str, Any] = {}

    def judge(self, response: httpx.Response) -> None:
        """Raises AssertionError naming the operation and the member that is not as agreed."""
        name, status = f"{self.spec['operationId']} {response.status_code}", str(response.status_code)
        assert status in self.spec["responses"], f"{name}: the contract has no such status: {response.text[:300]}"
        answer = self.spec["responses"][status]
        while "$ref" in answer:
            answer = self._follow(answer["$ref"])
        content = answer.get("content", {})
        media = response.headers.get("content-type", "").partition(";")[0]
        if not content:
            assert not response.content, f"{name}: a body that the contract does not have"
            return
        assert media in content, f"{name}: {media} is none of {list(content)}"
        if media.endswith("json"):
            body = json.loads(response.content)
            self._check(f"{status} {media}", content[media]["schema"], body, name)
            if media == PROBLEM:
                self._check_code(status, body["code"])

    def _check_code(self, status: str, code: str) -> None:
        listed = self.spec.get("x-problem-codes", {}).get(status, [])
        place = f"openapi/{self._uri.rpartition(':')[2]}.yaml, {self.method.upper()} {self.template}"
        assert code in listed, (
            f"{self.spec['operationId']} refuses with {code}, and its contract does not say so: "
            f'in {place}, x-problem-codes, add it to "{status}": {listed}'
        )

    def _check(self, key: str, schema: dict[str, Any], body: Any, name: str) -> None:
        if key not in self._validators:
            rooted = {"$ref": f"{self._uri}{schema['$ref']}"} if "$ref" in schema else _absolute(schema, self._uri)
            self._validators[key] = Draft202012Validator(rooted, registry=self._registry)
        fault = next(iter(self._validators[key].iter_errors(body)), None)
        assert fault is None, f"{name}: {fault.json_path}: {fault.message[:300]}" if fault else ""

    def _follow(self, ref: str) -> dict[str, Any]:
        node: Any = self._document
        for part in ref.removeprefix("#/").split("/"):
            node = node[part]
        return dict(node)


def _absolute(node: Any, uri: str) -> Any:
    if isinstance(node, dict):
        return {k: f"{uri}{v}" if k == "$ref" else _absolute(v, uri) for k, v in node.items()}
    return [_absolute(item, uri) for item in node] if isinstance(node, list) else node


@lru_cache(maxsize=1)
def operations() -> tuple[Operation, ...]:
    """Fixed paths before those with a placeholder, so that the more exact one judges."""
    found = []
    for path in sorted(OPENAPI.glob("*.yaml")):
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        uri = f"urn:contract:{path.stem}"
        resource = Resource.from_contents(document, default_specification=_DIALECT)
        registry: Any = Registry().with_resource(uri, resource)
        for template, item in document["paths"].items():
            found += [Operation(document, template, method, registry, uri) for method in _METHODS if method in item]
    return tuple(sorted(found, key=lambda operation: operation.template.count("{")))


async def check_own(response: httpx.Response) -> None:
    """An httpx response hook: nothing of ours leaves the door in another shape than agreed."""
    path = response.request.url.path
    if b"%" in response.request.url.raw_path.partition(b"?")[0]:
        assert response.status_code == 404, "a second spelling of a path was answered"
        return
    if not path.startswith(OURS) or response.status_code == 405:
        return
    method = response.request.method.lower()
    if method == "head":  # the same without its body
        assert not await response.aread()
        return
    operation = next((op for op in operations() if op.method == method and op.pattern.match(path)), None)
    if operation is None:
        assert response.status_code == 404, f"{method} {path} is in no contract and yet answered"
        return
    await response.aread()
    operation.judge(response)
