"""A request as it arrived, read once: headers by lower-case name, repeated ones noticed, the body within its limit."""

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from gateway.admission.refusals import BodyIncomplete, BodyTooLarge, HeaderInvalid

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_NEVER_REPEATED = frozenset(
    ("authorization", "dpop", "content-type", "x-idempotency-key", "x-jws-signature", "x-fapi-interaction-id")
)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_QUERY_FIELDS = 32  # more than any operation has; a bound for what is parsed before the caller is known


@dataclass(slots=True)
class Arrival:
    """`repeated` holds names of single-valued headers that came more than once: refused where they matter."""

    method: str
    path: str
    query_string: str
    headers: Mapping[str, str]
    repeated: frozenset[str]
    source: str
    interaction_id: str
    body: bytes = b""

    def single(self, name: str) -> str | None:
        """The header's value. Raises HeaderInvalid when it came twice (two DPoP headers: RFC 9449 §4.3 check 1)."""
        if name in self.repeated:
            raise HeaderInvalid(f"The header {name} came more than once")
        return self.headers.get(name)

    def query(self) -> Mapping[str, str]:
        """The query's fields; a repeated field is refused, as nobody could say which one counts."""
        if not self.query_string:
            return {}
        try:
            pairs = parse_qsl(
                self.query_string, keep_blank_values=True, strict_parsing=True, max_num_fields=_QUERY_FIELDS,
                errors="strict",
            )  # fmt: skip
        except ValueError:
            raise HeaderInvalid("The query string is malformed", path="$query") from None
        fields = dict(pairs)
        if len(fields) != len(pairs) or "%00" in self.query_string:
            raise HeaderInvalid("A query field came more than once, or holds a NUL character", path="$query")
        return fields


def read_arrival(scope: Scope) -> Arrival:
    """Headers and line of the request; no body yet."""
    headers: dict[str, str] = {}
    repeated: set[str] = set()
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1")
        if name in headers:
            if name in _NEVER_REPEATED:
                repeated.add(name)
            headers[name] += ", " + raw_value.decode("latin-1")
        else:
            headers[name] = raw_value.decode("latin-1")
    client = scope.get("client")
    return Arrival(
        method=scope["method"],
        path=scope["path"],
        query_string=scope["query_string"].decode("latin-1"),
        headers=headers,
        repeated=frozenset(repeated),
        source=client[0] if client else "",
        interaction_id=interaction_id(headers.get("x-fapi-interaction-id")),
    )


def interaction_id(given: str | None) -> str:
    """The caller's RFC 4122 id, or a new one where none, or none usable, was sent."""
    return given if given is not None and _UUID.fullmatch(given) else str(uuid.uuid4())


async def read_body(receive: Receive, *, declared: str | None, limit: int) -> bytes:
    """The whole body, refused as soon as it is known to be above the limit. Raises BodyTooLarge, BodyIncomplete.

    Stops at Content-Length without asking for the empty last message: each `receive()` costs 12 µs (bench/README.md).
    """
    length = int(declared) if declared is not None and declared.isascii() and declared.isdigit() else None
    if length is not None and length > limit:
        raise BodyTooLarge(f"The body has {length} bytes; the limit is {limit}")
    if length == 0:
        return b""
    chunks: list[bytes] = []
    size, more = 0, True
    while more and size != length:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BodyIncomplete
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(f"The body is above {limit} bytes")
        chunks.append(chunk)
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
