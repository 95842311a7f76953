"""The ASGI edge: find the operation, admit the caller, call the endpoint, answer; refusals are rendered here, once."""

import time
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from http.cookies import CookieError, SimpleCookie
from typing import Any

from gateway import audit, metrics
from gateway.admission.addresses import AddressThrottle
from gateway.admission.arrival import Arrival, Receive, Scope, read_arrival
from gateway.admission.bodies import BODYLESS, BodyReader
from gateway.admission.carrying_out import carry_out
from gateway.admission.deadline import Deadlines
from gateway.admission.door import FrontDoor, check_query
from gateway.admission.operators import OperatorBook
from gateway.admission.possession import CertificateReader
from gateway.call import DEADLINE_S, Answer, Call, OpenCall, Operation, OpsCall, Protocol, Streamed, TokenKind
from gateway.clock import now_ms
from gateway.corebank.measured import start_waiting
from gateway.jsonio import decode, encode
from gateway.problem import MethodNotAllowed, UnknownPath, render
from gateway.refusal import Refusal
from gateway.templates.language import asked

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"))
_OTHER_METHOD = "_OTHER"  # OpenTelemetry's word: the caller may write anything, a metric's label may not
_NOSNIFF = (b"x-content-type-options", b"nosniff")


@dataclass(frozen=True, slots=True)
class Match:
    """A row of the table and the values of its path's segments."""

    operation: Operation
    path: dict[str, str]


class Table:
    """The operations by path: one look-up for a fixed path, one walk down a tree of segments for the others."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.operations = tuple(operations)
        self._fixed: dict[str, dict[str, Operation]] = {}
        self._tree: dict[str, Any] = {}
        for operation in self.operations:
            methods = self._place(operation.path)
            assert operation.method not in methods, f"two rows for {operation.method} {operation.path}"
            methods[operation.method] = operation

    def find(self, method: str, path: str) -> Match | None:
        """None: no such path. Raises MethodNotAllowed."""
        methods = self._fixed.get(path)
        names: dict[str, str] = {}
        if methods is None:
            methods, names = (None, {}) if "\0" in path else self._walk(path)  # PostgreSQL keeps no NUL: no id has it
            if methods is None:
                return None
        operation = methods.get(method) or (methods.get("GET") if method == "HEAD" else None)
        if operation is None:
            taken = methods.keys() | ({"HEAD"} if "GET" in methods else set())
            raise MethodNotAllowed(headers=(("allow", ", ".join(sorted(taken))),))
        if not names:
            return Match(operation, names)
        own = _segment_names(operation.path)
        return Match(operation, dict(zip(own, names.values(), strict=True)))

    def _place(self, path: str) -> dict[str, Operation]:
        if "{" not in path:
            return self._fixed.setdefault(path, {})
        node = self._tree
        for segment in path.strip("/").split("/"):
            node = node.setdefault("{}" if segment.startswith("{") else segment, {})
        methods: dict[str, Operation] = node.setdefault("", {})
        return methods

    def _walk(self, path: str) -> tuple[dict[str, Operation] | None, dict[str, str]]:
        node: dict[str, Any] = self._tree
        names: dict[str, str] = {}
        for segment in path[1:].split("/"):
            child = node.get(segment) if segment else None
            if child is None:
                child = node.get("{}") if segment else None
                if child is None:
                    return None, {}
                names[str(len(names))] = segment
            node = child
        return node.get(""), names


def _segment_names(path: str) -> list[str]:
    return [segment[1:-1] for segment in path.split("/") if segment.startswith("{")]


class Edge:
    """One instance a worker."""

    def __init__(
        self,
        table: Table,
        *,
        door: FrontDoor,
        operators: OperatorBook,
        certificates: CertificateReader,
        sign: Callable[[bytes, int], str],
        addresses: AddressThrottle,
        fallback: Callable[[Scope, Receive, Send], Awaitable[None]],
        bodies: BodyReader | None = None,
    ) -> None:
        self.table = table
        self._door = door
        self._operators = operators
        self._certificates = certificates
        self._proxies = certificates.proxies or None  # none configured: nobody is asked
        self._addresses = addresses
        self._bodies = bodies or BodyReader()
        self._sign = sign
        self._fallback = fallback
        self._deadlines = Deadlines()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, waited = time.perf_counter(), start_waiting()
        arrival = read_arrival(scope)
        peer = arrival.source
        if self._proxies is not None:
            self._proxies.look_behind(arrival)
        audit.came_from.set(arrival.source or f"{peer}, a proxy that names no caller")
        asked.set(arrival)
        protocol, operation_id, outcome = Protocol.of_path(arrival.path), "unmatched", "ok"
        match: Match | None = None
        try:
            match = self.table.find(arrival.method, arrival.path)
            if b"%" in scope["raw_path"]:  # every path of ours is written without an escape: one spelling each
                raise UnknownPath()
            if match is None:
                if arrival.path.startswith("/static/"):
                    await self._fallback(scope, receive, _unsniffed(send))
                    return
                raise UnknownPath()
            operation = match.operation
            protocol, operation_id = operation.protocol, operation.id
            answer = await self._perform(match, arrival, receive)
        except Refusal as refusal:
            outcome = refusal.outcome
            arrival.partner_id = arrival.partner_id or refusal.partner_id
            metrics.count("parasol_refusals_total", reason=refusal.code)
            answer = _refused(refusal, protocol=protocol, arrival=arrival)
        except (Exception, CancelledError) as error:  # noqa: BLE001 - the last wall: whatever it is becomes an answer
            failure = self._deadlines.refusal_of(error, operation=operation_id, interaction_id=arrival.interaction_id)
            outcome = failure.outcome
            answer = _refused(failure, protocol=protocol, arrival=arrival)
        self._deadlines.stop()
        await self._send(send, answer, arrival, signed=match is not None and match.operation.signed)
        seconds = time.perf_counter() - started
        metrics.count("parasol_requests_total", partner=arrival.partner_id, operation=operation_id,
                      code=str(answer.status), outcome=outcome)  # fmt: skip
        method = arrival.method if arrival.method in _METHODS else _OTHER_METHOD
        metrics.observe("http_server_request_duration_seconds", seconds, http_request_method=method,
                        http_response_status_code=str(answer.status))  # fmt: skip
        metrics.observe("parasol_overhead_seconds", seconds - waited[0])

    async def _perform(self, match: Match, arrival: Arrival, receive: Receive) -> Answer:
        operation, moment = match.operation, now_ms()
        if operation.raw_body or arrival.method in BODYLESS:  # of the others it begins when their body is there
            self._deadlines.start(DEADLINE_S if operation.raw_body else operation.deadline_s)
        if operation.for_operators:
            self._door.check_picture()
        if operation.throttle:
            return await self._perform_throttled(match, arrival, receive, now_ms=moment)
        if not operation.raw_body and arrival.method not in BODYLESS:
            arrival.body = await self._body(arrival, receive, operation)
        if operation.token in (TokenKind.CLIENT, TokenKind.CUSTOMER):
            call = await self._door.admit(operation, arrival, path=match.path, now_ms=moment)
            if operation.raw_body:
                call = await self._with_file(call, arrival, receive)
            return await carry_out(operation, call)
        if operation.token is TokenKind.OPERATOR:
            return await carry_out(operation, self._ops_call(match, arrival, now_ms=moment))
        return await operation.endpoint(self._open_call(match, arrival, now_ms=moment))

    async def _perform_throttled(self, match: Match, arrival: Arrival, receive: Receive, *, now_ms: int) -> Answer:
        """Where the caller is a stranger: its address is asked how often it was here before anything is read."""
        operation, address = match.operation, arrival.source
        self._addresses.enter(operation.throttle, address, now_ms=now_ms)
        try:
            arrival.body = await self._body(arrival, receive, operation)
            answer = await operation.endpoint(self._open_call(match, arrival, now_ms=now_ms))
        except Refusal as refusal:
            self._addresses.answered(operation.throttle, address, status=refusal.status, now_ms=now_ms)
            raise
        self._addresses.answered(operation.throttle, address, status=answer.status, now_ms=now_ms)
        return answer

    async def _body(self, arrival: Arrival, receive: Receive, operation: Operation) -> bytes:
        """While it comes, its reader limits the wait (408); the request's deadline runs from its last byte."""
        body = await self._bodies.read(arrival, receive, operation)
        self._deadlines.start(operation.deadline_s)
        return body

    async def _with_file(self, call: Call, arrival: Arrival, receive: Receive) -> Call:
        """A file may be large: it is read for an admitted caller, and kept only if it was waited for."""
        operation = call.operation
        keep = operation.before_body is None or await operation.before_body(call)
        self._deadlines.start(operation.deadline_s)
        return replace(call, body=await self._bodies.read_file(arrival, receive, operation, keep=keep))

    def _ops_call(self, match: Match, arrival: Arrival, *, now_ms: int) -> OpsCall:
        shape = match.operation.body
        operator = self._operators.recognise(arrival.single("authorization"))
        check_query(arrival, match.operation)
        return OpsCall(
            operation=match.operation, now_ms=now_ms, interaction_id=arrival.interaction_id, operator=operator,
            path=match.path, query=arrival.query(), headers=arrival.headers,
            body=decode(arrival.body, shape) if shape is not None else None,
            raw_body=arrival.body, source=arrival.source,
        )  # fmt: skip

    def _open_call(self, match: Match, arrival: Arrival, *, now_ms: int) -> OpenCall:
        operation = match.operation
        shown = None
        if operation.protocol is Protocol.OAUTH:  # who calls: a client with a certificate, or a customer's browser
            shown = self._certificates.certificate(arrival, now_ms=now_ms)
        return OpenCall(
            operation=operation, now_ms=now_ms, interaction_id=arrival.interaction_id, path=match.path,
            query=arrival.loose_query(), query_string=arrival.query_string, headers=arrival.headers,
            repeated_headers=arrival.repeated, raw_body=arrival.body,
            name_partner=partial(setattr, arrival, "partner_id"), client_certificate=shown,
            cookies=_cookies(arrival.headers.get("cookie")), source=arrival.source,
            is_head=arrival.method == "HEAD",
        )  # fmt: skip

    async def _send(self, send: Send, answer: Answer, arrival: Arrival, *, signed: bool) -> None:
        stream = answer.payload if isinstance(answer.payload, Streamed) else None
        body = b"" if stream is not None else _encoded(answer.payload)
        size = stream.size if stream is not None else len(body)
        headers = [
            (b"x-fapi-interaction-id", arrival.interaction_id.encode()),
            (b"content-length", str(size).encode()),
            _NOSNIFF,
        ]
        if size:
            headers.append((b"content-type", answer.content_type.encode()))
            if signed and stream is None:
                headers.append((b"x-jws-signature", self._sign(body, now_ms()).encode()))
        given = {name for name, _ in answer.headers}
        if "cache-control" not in given:
            headers.append((b"cache-control", b"no-store"))
        headers.extend((name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers)
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        if stream is not None:
            await _stream(send, stream, wanted=arrival.method != "HEAD")
        await send({"type": "http.response.body", "body": b"" if arrival.method == "HEAD" else body})


async def _stream(send: Send, stream: Streamed, *, wanted: bool) -> None:
    """Each step waits until the server has taken the one before: a slow reader costs one step of memory."""
    async with aclosing(stream.chunks) as chunks:
        async for chunk in chunks:
            if not wanted:
                break  # begun, or what it holds would not be let go of
            await send({"type": "http.response.body", "body": chunk, "more_body": True})


def _unsniffed(send: Send) -> Send:
    """Static files are another application's answers: they get the header that all of ours have."""

    async def with_header(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], _NOSNIFF]
        await send(message)

    return with_header


def _encoded(payload: Any) -> bytes:
    if isinstance(payload, bytes):
        return payload
    return b"" if payload is None else encode(payload)


def _refused(refusal: Refusal, *, protocol: Protocol, arrival: Arrival) -> Answer:
    rendered = render(refusal, protocol=protocol, interaction_id=arrival.interaction_id)
    return Answer(rendered.status, rendered.body, rendered.headers, rendered.content_type)


def _cookies(header: str | None) -> dict[str, str]:
    if header is None:
        return {}
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}
