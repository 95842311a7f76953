"""The whole API on one page: one row an operation. `openapi/` says the same, and a test holds the two equal."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from gateway.call import Answer, Operation, Protocol, TokenKind
from gateway.health import HealthApi

Endpoint = Callable[..., Awaitable[Answer]]
CLIENT, CUSTOMER, OPERATOR, NOBODY = TokenKind.CLIENT, TokenKind.CUSTOMER, TokenKind.OPERATOR, TokenKind.NONE
OB, OWN, OAUTH, OPS, PAGE = Protocol.OB, Protocol.OWN, Protocol.OAUTH, Protocol.OPS, Protocol.PAGE
AISP, PISP, V1 = "/open-banking/v4.0/aisp", "/open-banking/v4.0/pisp", "/partner/v1"


def row(id: str, line: str, endpoint: Endpoint, protocol: Protocol, token: TokenKind, **rest: Any) -> Operation:
    """`line` is method and path; `room` is read off the endpoint's class by `in_room`."""
    method, _, path = line.partition(" ")
    return Operation(id=id, method=method, path=path, endpoint=endpoint, room=object, protocol=protocol, token=token,
                     **rest)  # fmt: skip


def in_room(room: type, *rows: Operation) -> tuple[Operation, ...]:
    """Rows whose endpoints are methods of `room`."""
    assert all(getattr(room, operation.endpoint.__name__, None) is operation.endpoint for operation in rows)
    return tuple(replace(operation, room=room) for operation in rows)


# fmt: off
HEALTH = in_room(HealthApi,
    row("Live",    "GET /healthz", HealthApi.live,    OWN, NOBODY),
    row("Ready",   "GET /readyz",  HealthApi.ready,   OWN, NOBODY),
    row("Metrics", "GET /metrics", HealthApi.metrics, OWN, NOBODY, answers="text/plain"),
)
# fmt: on

OPERATIONS: tuple[Operation, ...] = (*HEALTH,)

# What a policy may name: everything a partner calls with a token.
POLICY_OPERATIONS = frozenset(operation.id for operation in OPERATIONS if operation.token in (CLIENT, CUSTOMER))
SCOPES = frozenset(operation.scope for operation in OPERATIONS if operation.scope)


def bind(rooms: Mapping[type, object], *, sandbox: bool) -> list[Operation]:
    """The rows with their endpoints bound to this worker's rooms. Sandbox rows exist only in a sandbox."""
    return [
        replace(operation, endpoint=partial(operation.endpoint, rooms[operation.room]))
        for operation in OPERATIONS
        if sandbox or not operation.path.startswith("/sandbox/")
    ]
