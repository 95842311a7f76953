"""The ASGI edge: find the operation, admit the caller, call the endpoint, answer; refusals are rendered here, once."""

import time
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from http.cookies import CookieError, SimpleCookie
from typing import Any

from gateway import metrics
from gateway.admission.arrival import Arrival, Receive, Scope, read_arrival, read_body
from gateway.admission.deadline import Deadlines
from gateway.admission.door import FrontDoor
from gateway.admission.operators import OperatorBook
from gateway.admission.possession import CertificateReader
from gateway.call import DEADLINE_S, Answer, OpenCall, Operation, OpsCall, Protocol, Streamed, TokenKind
from gateway.clock import now_ms
from gateway.corebank.measured import start_waiting
from gateway.jsonio import decode, encode
from gateway.problem import MethodNotAllowed, UnknownPath, render
from gateway.refusal import Refusal

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_BODYLESS = frozenset(("GET", "HEAD", "DELETE"))


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
        operation = methods.get(method)
        if operation is None:
            raise MethodNotAllowed(headers=(("allow", ", ".join(sorted(methods))),))
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
        fallback: Callable[[Scope, Receive, Send], Awaitable[None]],
    ) -> None:
        self.table = table
        self._door = door
        self._operators = operators
        self._certificates = certificates
        self._sign = sign
        self._fallback = fallback
        self._deadlines = Deadlines()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, waited = time.perf_counter(), start_waiting()
        arrival = read_arrival(scope)
        protocol, operation_id, partner_id, outcome = _protocol_of(arrival.path), "unmatched", "", "ok"
        match: Match | None = None
        try:
            match = self.table.find(arrival.method, arrival.path)
            if match is None:
                if arrival.path.startswith("/static/"):
                    await self._fallback(scope, receive, send)
                    return
                raise UnknownPath()
            operation = match.operation
            protocol, operation_id = operation.protocol, operation.id
            if not operation.raw_body:
                arrival.body = await _body(arrival, receive, operation)
            answer, partner_id = await self._perform(match, arrival, receive)
        except Refusal as refusal:
            outcome = refusal.outcome
            metrics.count("parasol_refusals_total", reason=refusal.code)
            answer = _refused(refusal, protocol=protocol, arrival=arrival)
        except (Exception, CancelledError) as error:  # noqa: BLE001 - the last wall: whatever it is becomes an answer
            failure = self._deadlines.refusal_of(error, operation=operation_id, interaction_id=arrival.interaction_id)
            outcome = failure.outcome
            answer = _refused(failure, protocol=protocol, arrival=arrival)
        self._deadlines.stop()
        await self._send(send, answer, arrival, signed=match is not None and match.operation.signed)
        seconds = time.perf_counter() - started
        metrics.count("parasol_requests_total", partner=partner_id, operation=operation_id, code=str(answer.status),
                      outcome=outcome)  # fmt: skip
        metrics.observe("http_server_request_duration_seconds", seconds, http_request_method=arrival.method,
                        http_response_status_code=str(answer.status))  # fmt: skip
        metrics.observe("parasol_overhead_seconds", seconds - waited[0])

    async def _perform(self, match: Match, arrival: Arrival, receive: Receive) -> tuple[Answer, str]:
        operation, moment = match.operation, now_ms()
        self._deadlines.start(DEADLINE_S if operation.raw_body else operation.deadline_s)
        if operation.token in (TokenKind.CLIENT, TokenKind.CUSTOMER):
            call = await self._door.admit(operation, arrival, path=match.path, now_ms=moment)
            if operation.raw_body:  # a file may be large: only an admitted caller gets to send it
                self._deadlines.start(operation.deadline_s)
                call = replace(call, raw_body=await _body(arrival, receive, operation))
            return await operation.endpoint(call), call.partner.partner_id
        if operation.token is TokenKind.OPERATOR:
            return await operation.endpoint(self._ops_call(match, arrival, now_ms=moment)), ""
        return await operation.endpoint(self._open_call(match, arrival, now_ms=moment)), ""

    def _ops_call(self, match: Match, arrival: Arrival, *, now_ms: int) -> OpsCall:
        shape = match.operation.body
        return OpsCall(
            operation=match.operation, now_ms=now_ms, interaction_id=arrival.interaction_id,
            operator=self._operators.recognise(arrival.single("authorization")),
            path=match.path, query=arrival.query(), headers=arrival.headers,
            body=decode(arrival.body, shape) if shape is not None else None,
            raw_body=arrival.body, source=arrival.source,
        )  # fmt: skip

    def _open_call(self, match: Match, arrival: Arrival, *, now_ms: int) -> OpenCall:
        shown = arrival.headers.get(self._certificates.header) if self._certificates.header else None
        return OpenCall(
            operation=match.operation, now_ms=now_ms, interaction_id=arrival.interaction_id, path=match.path,
            query=arrival.query(), query_string=arrival.query_string, headers=arrival.headers,
            repeated_headers=arrival.repeated, raw_body=arrival.body,
            client_certificate=self._certificates.certificate(shown, source=arrival.source),
            cookies=_cookies(arrival.headers.get("cookie")), source=arrival.source,
        )  # fmt: skip

    async def _send(self, send: Send, answer: Answer, arrival: Arrival, *, signed: bool) -> None:
        stream = answer.payload if isinstance(answer.payload, Streamed) else None
        body = b"" if stream is not None else _encoded(answer.payload)
        size = stream.size if stream is not None else len(body)
        headers = [
            (b"x-fapi-interaction-id", arrival.interaction_id.encode()),
            (b"content-length", str(size).encode()),
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
            await _stream(send, stream)
        await send({"type": "http.response.body", "body": b"" if arrival.method == "HEAD" else body})


async def _stream(send: Send, stream: Streamed) -> None:
    """Each step waits until the server has taken the one before: a slow reader costs one step of memory."""
    async with aclosing(stream.chunks) as chunks:
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _body(arrival: Arrival, receive: Receive, operation: Operation) -> bytes:
    if arrival.method in _BODYLESS:
        return b""
    return await read_body(receive, declared=arrival.headers.get("content-length"), limit=operation.body_limit)


def _protocol_of(path: str) -> Protocol:
    """Whose manners an unknown path is refused in."""
    if path.startswith("/open-banking/"):
        return Protocol.OB
    return Protocol.PAGE if path.startswith(("/console", "/portal")) else Protocol.OWN


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
