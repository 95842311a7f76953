"""A request as it arrived, read once: headers by lower-case name, repeated ones noticed."""

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from gateway.admission.refusals import HeaderInvalid

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_QUERY_FIELDS = 32  # more than any operation has; a bound for what is parsed before the caller is known


@dataclass(slots=True)
class Arrival:
    """`repeated` holds names of headers that came more than once: refused where one value is wanted.

    `source` is the caller's address: who connected, or whom a trusted proxy tells (see proxies.py).
    """

    method: str
    path: str
    query_string: str
    headers: Mapping[str, str]
    repeated: frozenset[str]
    source: str
    interaction_id: str
    from_proxy: bool = False  # a trusted proxy sent it on: its headers about the connection are believed
    body: bytes = b""
    partner_id: str = ""  # once somebody has recognised the caller

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

    def loose_query(self) -> Mapping[str, str]:
        """For OAuth endpoints and pages, which ignore what they don't know: a field that came twice, or holds a NUL,
        counts as left out; so does the whole query when it has more fields than anything of ours."""
        try:
            pairs = parse_qsl(self.query_string, keep_blank_values=True, max_num_fields=_QUERY_FIELDS)
        except ValueError:
            return {}
        seen = [name for name, _ in pairs]
        return {name: value for name, value in pairs if seen.count(name) == 1 and "\0" not in value}


def read_arrival(scope: Scope) -> Arrival:
    """Headers and line of the request; no body yet."""
    headers: dict[str, str] = {}
    repeated: set[str] = set()
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1")
        if name in headers:
            repeated.add(name)
            headers[name] += ("; " if name == "cookie" else ", ") + raw_value.decode("latin-1")  # RFC 9113 §8.2.3
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
