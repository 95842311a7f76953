"""Attacks on a real gateway of two workers, byte by byte where a client library would not send such a thing."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.admission.addresses import RULES
from gateway.demo.client import PartnerClient
from tests.conftest import memory_folder
from tests.faults.serving import Serving, serving

READ = "/partner/v1/campaigns"
TIMES = 24  # new connections: each meets one of two workers, and both are met but once in sixteen million
QUIET_S = 5.0  # nothing more comes on a connection that is quiet for so long


@pytest.fixture(scope="module")
def served() -> Iterator[Serving]:
    with (
        tempfile.TemporaryDirectory(prefix="parasol-attacks-", dir=memory_folder()) as folder,
        serving(Path(folder), workers=2) as gateway,
    ):
        yield gateway


@asynccontextmanager
async def caller(address: str = "127.0.0.1") -> AsyncIterator[httpx.AsyncClient]:
    """From an address of this machine; every request is a new connection."""
    transport = httpx.AsyncHTTPTransport(local_address=address, limits=httpx.Limits(max_keepalive_connections=0))
    async with httpx.AsyncClient(transport=transport, timeout=20, trust_env=False) as http:
        yield http


def partner(gateway: Serving, http: httpx.AsyncClient, partner_id: str = "parkco") -> PartnerClient:
    return PartnerClient(http, json.loads((gateway.home / "sandbox" / f"{partner_id}.json").read_text()))


def raw(gateway: Serving, sent: bytes) -> list[int]:
    """The statuses of all answers that come on one connection, until it ends or nothing comes any more."""
    got = b""
    with socket.create_connection(
        ("127.0.0.1", int(gateway.address.rpartition(":")[2])), timeout=QUIET_S
    ) as connection:
        connection.sendall(sent)
        try:
            while piece := connection.recv(65536):
                got += piece
        except (TimeoutError, ConnectionResetError):
            pass
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", got)]


# --- one request is one request --------------------------------------------------------------------------------------
HIDDEN = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"  # 200, where it is taken for a request
FORM = b"POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
SMUGGLED = {
    "both lengths": FORM + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "both, the other order": FORM + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + HIDDEN,
    "two lengths": FORM + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "a list of lengths": FORM + b"Content-Length: 0, %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "a signed length": FORM + b"Content-Length: +0\r\n\r\n" + HIDDEN,
    "a hexadecimal length": FORM + b"Content-Length: 0x0\r\n\r\n" + HIDDEN,
    "a negative length": FORM + b"Content-Length: -1\r\n\r\n" + HIDDEN,
    "a blank before the colon": FORM + b"Content-Length : 0\r\n\r\n" + HIDDEN,
    "a folded header": FORM + b"X: 1\r\n Content-Length: 0\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "an unknown coding": FORM + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunked not last": FORM + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunked twice": FORM + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + HIDDEN,
    "a tab in the coding": FORM + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "a chunk's size above all numbers": FORM + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff0\r\n" + HIDDEN,
    "a chunk that ends elsewhere": FORM + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n" + HIDDEN,
    "a chunk's size in words": FORM + b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" + HIDDEN,
    "a NUL in a header": FORM + b"X: a\0b\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "a return in a header": FORM + b"X: a\rContent-Length: 0\r\n\r\n" + HIDDEN,
    "a body of a GET": b"GET /portal HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "a body of a HEAD": b"HEAD /portal HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "a body of a DELETE": b"DELETE /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "a body that is refused": FORM.replace(b"/oauth/token", b"/nowhere") + b"Content-Length: %d\r\n\r\n" % len(HIDDEN)
    + HIDDEN,
    "a body of a wrong method": FORM.replace(b"/oauth/token", b"/healthz") + b"Content-Length: %d\r\n\r\n" % len(HIDDEN)
    + HIDDEN,
    "an upgrade": FORM + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
}  # fmt: skip


@pytest.mark.parametrize("sent", SMUGGLED.values(), ids=SMUGGLED.keys())
def test_a_request_hidden_in_another_is_never_answered(served: Serving, sent: bytes) -> None:
    """A proxy that counts bytes in another way would hand its answer to the next caller."""
    found = raw(served, sent)
    assert len(found) <= 1, found
    assert all(status < 500 for status in found)


STRANGE = {
    "a method of its own": b"BREW /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method of 2,000 letters": b"A" * 2000 + b" /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT 127.0.0.1:5432 HTTP/1.1\r\nHost: x\r\n\r\n",
    "OPTIONS of all": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "TRACE": b"TRACE /healthz HTTP/1.1\r\nHost: x\r\nAuthorization: DPoP x\r\n\r\n",
    "bytes that are no text in the path": b"GET /r/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "UTF-8 in the path": "GET /portal/é HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "a long path": b"GET /r/" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a longer path": b"GET /r/" + b"a" * 600_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path of dots": b"GET /static/../../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    "dots for the contracts": b"GET /openapi/..\\..\\pyproject.toml HTTP/1.1\r\nHost: x\r\n\r\n",
    "1,000 headers": b"GET /nowhere HTTP/1.1\r\nHost: x\r\n" + b"X: 1\r\n" * 1000 + b"\r\n",
    "a header of 600 KB": b"GET /nowhere HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 600_000 + b"\r\n\r\n",
    "a cookie that is none": b'GET /console HTTP/1.1\r\nHost: x\r\nCookie: ="\\;=;;\xff=\xfe; parasol-console\r\n\r\n',
    "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "a WebSocket": b"GET /console HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a1"),
}


@pytest.mark.parametrize("sent", STRANGE.values(), ids=STRANGE.keys())
def test_what_is_no_request_of_ours_is_refused_and_the_worker_lives(served: Serving, sent: bytes) -> None:
    before = served.workers()
    found = raw(served, sent)
    assert len(found) <= 1
    assert all(status < 500 for status in found), found
    assert served.workers() == before


def test_after_all_of_them_the_metrics_page_is_there_with_labels_of_closed_sets(served: Serving) -> None:
    for sent in STRANGE.values():
        raw(served, sent.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
    page = served.get("/metrics")
    assert page.status_code == 200
    methods = set(re.findall(r'http_request_method="([^"]*)"', page.text))
    assert methods <= {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "_OTHER"}
    assert "_OTHER" in methods
    operations = set(re.findall(r' ?operation="([^"]*)"', page.text))
    assert not [name for name in operations if not re.fullmatch(r"[A-Za-z]+", name)]


@pytest.mark.parametrize("path", ["/partner%2Fv1/campaigns", "/%70artner/v1/campaigns", "/partner/v1/campaigns/",
                                  "//partner/v1/campaigns", "/partner/v1/./campaigns", "/partner/v1/x/../campaigns",
                                  "/partner/v1/campaigns;x=1", "/partner/v1/campaigns%00", "/PARTNER/v1/campaigns",
                                  "http://127.0.0.1/partner%2Fv1/campaigns"])  # fmt: skip
def test_another_spelling_of_a_path_is_not_found_on_the_wire(served: Serving, path: str) -> None:
    assert raw(served, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()) in ([404], [400])


# --- used once, on whichever worker ----------------------------------------------------------------------------------
async def test_a_proof_that_is_sent_to_both_workers_at_once_opens_one_of_them(served: Serving) -> None:
    async with caller() as http:
        client = partner(served, http)
        token = await client.token()
        proof = client.proof("GET", served.address + READ, access_token=token.value)
        headers = {"Authorization": f"DPoP {token.value}", "DPoP": proof}
        found = await asyncio.gather(*(http.get(served.address + READ, headers=headers) for _ in range(TIMES)))
    assert sorted(answer.status_code for answer in found) == [200] + [401] * (TIMES - 1)


async def test_an_assertion_that_is_sent_to_both_workers_at_once_gets_one_token(served: Serving) -> None:
    async with caller("127.0.0.11") as http:
        client, url = partner(served, http), f"{served.address}/oauth/token"
        form = {"grant_type": "client_credentials", "scope": "discounts", **client.assertion()}
        found = await asyncio.gather(
            *(http.post(url, data=form, headers={"DPoP": client.proof("POST", url)}) for _ in range(TIMES))
        )
    assert sorted(answer.status_code for answer in found) == [200] + [401] * (TIMES - 1)


# --- throttles -------------------------------------------------------------------------------------------------------
async def test_an_address_is_counted_by_both_workers_together_whatever_it_says_of_itself(served: Serving) -> None:
    """X-Forwarded-For of somebody who is no proxy of ours changes nothing; another address is served."""
    burst, form = RULES["log-in"].rate.burst, {"key": "pop_x"}

    async def tried(http: httpx.AsyncClient, number: int) -> httpx.Response:
        said = {"X-Forwarded-For": f"203.0.113.{number}", "Forwarded": f"for=203.0.113.{number}"}
        return await http.post(f"{served.address}/console/login", data=form, headers=said)

    async with caller("127.0.0.12") as http:
        found = [await tried(http, number) for number in range(burst)]
        found += await asyncio.gather(*(tried(http, number) for number in range(burst)))
    refused = [answer for answer in found if answer.status_code == 429]
    assert refused, "two workers together let no more through than one would"
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert {answer.status_code for answer in found} == {403, 429}
    async with caller("127.0.0.13") as http:
        assert (await tried(http, 1)).status_code == 403


# --- what ends, ends on both -----------------------------------------------------------------------------------------
async def test_a_log_out_of_the_console_is_one_on_both_workers(served: Serving) -> None:
    key = json.loads((served.home / "sandbox" / "operators.json").read_text())[0]["key"]
    async with caller() as http:
        page = await http.get(f"{served.address}/console")
        form = {"csrf": re.findall(r'name="csrf" value="([^"]+)"', page.text)[0], "key": key}
        assert (await http.post(f"{served.address}/console/login", data=form)).status_code == 303
        home = await http.get(f"{served.address}/console")
        stolen = {"Cookie": f"parasol-console={http.cookies['parasol-console']}"}
        leave = {"csrf": re.findall(r'name="csrf" value="([^"]+)"', home.text)[0]}
        assert (await http.post(f"{served.address}/console/logout", data=leave)).status_code == 303
        http.cookies.clear()
        shown = [await http.get(f"{served.address}/console", headers=stolen) for _ in range(TIMES)]
    assert all('action="/console/login"' in page.text for page in shown)


async def test_tokens_of_a_revoked_bank_key_are_refused_by_both_workers(served: Serving) -> None:
    """The last of this file: whoever has a token needs a new one afterwards."""
    async with caller("127.0.0.14") as http:
        client = partner(served, http)
        token = await client.grant(grant_type="client_credentials", scope="discounts")
        for _ in range(TIMES):  # both have verified it and remember it
            assert (await client.call("GET", READ, token=token)).status_code == 200
        kid = json.loads(_decoded(token.value.partition(".")[0]))["kid"]
        environ = {**os.environ, "PARASOL_DATA_DIR": str(Path(__file__).parents[2])}
        command = [sys.executable, "-m", "gateway.cli", "revoke-key", kid, "--reason", "it got out", "--home",
                   str(served.home)]  # fmt: skip
        said = await asyncio.to_thread(subprocess.run, command, env=environ, capture_output=True, check=False)
        assert said.returncode == 0, said.stderr
        refused = await _refused_in_a_row(client, token)
        assert refused == TIMES
        fresh = await client.grant(grant_type="client_credentials", scope="discounts")
        assert (await client.call("GET", READ, token=fresh)).status_code == 200


async def _refused_in_a_row(client: PartnerClient, token: Any) -> int:
    """How often, once the news has come to both workers."""

    async def all_refused() -> int:
        return sum([(await client.call("GET", READ, token=token)).status_code == 401 for _ in range(TIMES)])

    for _ in range(10):
        if (count := await all_refused()) == TIMES:
            return count
    return await all_refused()


def _decoded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))
