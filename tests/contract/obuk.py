"""Holds answers to UK Open Banking's own OpenAPI files, which lie beside the checkout and are never part of it.

`check_open_banking` is an httpx response hook: whatever an API test receives from an Open Banking path is validated,
status, headers and body, without the test asking for it. Where the files are absent nothing can be held to them:
`AVAILABLE` is false, and the tests that ask for them by name are skipped with that reason.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from openapi_core import OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.templating.paths.exceptions import PathError
from openapi_core.testing import MockRequest, MockResponse

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "obuk"
AVAILABLE = FOLDER.is_dir()
ABSENT = "the files of UK Open Banking are not beside this checkout (../shared/data/obuk)"
BASE = "/open-banking/v4.0"
FILES = {
    "aisp": ("account-info-openapi.json",),
    "pisp": ("variable-recurring-payments-openapi.json", "payment-initiation-openapi.json"),
    "cbpii": ("confirmation-funds-openapi.json",),
}
WITHOUT_BODY = {204, 401}
UNAVAILABLE = 503


class ContractBroken(AssertionError):
    """An answer that the standard's file does not allow; the text says where."""


async def check_open_banking(response: httpx.Response) -> None:
    """For httpx's event_hooks. Raises ContractBroken."""
    if AVAILABLE and response.request.url.path.startswith(f"{BASE}/"):
        await response.aread()
        escaped = b"%" in response.request.url.raw_path.partition(b"?")[0]  # a second spelling: 404, own.py says so
        if response.request.method != "HEAD" and not escaped:  # the same as GET, without its body
            check(response)


def check(response: httpx.Response) -> None:
    """Raises ContractBroken where status, a required header, or the body is not as the file says."""
    request = response.request
    line = f"{request.method} {request.url.path} → {response.status_code}"
    if response.status_code in WITHOUT_BODY and response.content:
        raise ContractBroken(f"{line}: this status has no body")
    media, status = response.headers.get("content-type", "application/json"), response.status_code
    if status == UNAVAILABLE:  # HTTP's own word for a while, which the files leave out: shaped as their 500
        if "retry-after" not in response.headers:
            raise ContractBroken(f"{line}: it does not say when to try again")
        status = 500
    given = MockResponse(response.content, status, dict(response.headers), media)
    asked = MockRequest("http://localhost", request.method.lower(), request.url.path)
    for contract in contracts(request.url.path):
        try:
            contract.validate_response(asked, given)
        except PathError:
            continue  # another file of the family may have the operation
        except OpenAPIError as error:
            raise ContractBroken(f"{line}: {_reasons(error)}\n{response.text[:2000]}") from error
        return
    if response.status_code not in (404, 405):
        raise ContractBroken(f"{line}: no file of the standard has this operation")


def contracts(path: str) -> Iterator[OpenAPI]:
    """The files of the path's family."""
    family = path.removeprefix(f"{BASE}/").partition("/")[0]
    return (_open(name) for name in FILES.get(family, ()))


@cache
def document(name: str) -> dict[str, Any]:
    """One of the files as it is."""
    read: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return read


@cache
def _open(name: str) -> OpenAPI:
    return OpenAPI.from_dict(document(name))


def _reasons(error: OpenAPIError) -> str:
    """What the schema says, and where, below openapi-core's own sentence."""
    errors = getattr(error, "schema_errors", None) or getattr(error.__cause__, "schema_errors", None) or ()
    places = [f"{'/'.join(map(str, each.absolute_path))}: {each.message}" for each in errors]
    return "; ".join(places) or str(error)
