"""Our side: a sandbox gateway as its own processes, and a partner that gets its tokens over real HTTP."""

import base64
import datetime
import json
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from bench.pinned import PeerFailed, Pinned, free_port, serving
from gateway.demo.client import PartnerClient

CERTIFICATE_HEADER = "x-client-cert"
READY_S = 30.0  # from the open port to a snapshot of partners and policies
CALL_S = 10.0  # one call of the set-up


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway and where its sandbox credentials lie."""

    port: int
    home: Path
    process: Pinned
    database_url: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def credentials(self, partner_id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "sandbox" / f"{partner_id}.json").read_text())
        return found


@contextmanager
def gateway_serving(*, database_url: str, home: Path, data: Path, workers: int, on: set[int]) -> Iterator[Gateway]:
    """`parasol serve --sandbox`, trusting a certificate header from this machine as it would from its TLS proxy."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("parasol")), "serve", "--sandbox", "--home", str(home),
               "--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]  # fmt: skip
    environ = {
        "PARASOL_DATABASE_URL": database_url,
        "PARASOL_DATA_DIR": str(data),
        "PARASOL_CLIENT_CERT_HEADER": CERTIFICATE_HEADER,
        "PARASOL_TRUSTED_PROXIES": "127.0.0.1/32",
        "PARASOL_LOG_LEVEL": "warning",
    }
    with serving(command, port=port, on=on, log=home / "gateway.log", environ=environ) as process:
        gateway = Gateway(port, home, process, database_url)
        _wait_until_ready(gateway)
        yield gateway


def _wait_until_ready(gateway: Gateway) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if httpx.get(f"{gateway.url}/readyz", timeout=CALL_S).status_code == 200:
            return
        time.sleep(0.1)
    raise PeerFailed(f"The gateway is not ready after {READY_S} s:\n{gateway.process.log_tail()}")


def partner(gateway: Gateway, partner_id: str) -> PartnerClient:
    """A partner that proves itself by DPoP."""
    return PartnerClient(httpx.AsyncClient(timeout=CALL_S), gateway.credentials(partner_id))


def partner_with_certificate(gateway: Gateway, partner_id: str) -> tuple[PartnerClient, str]:
    """The same partner, proving itself by its client certificate (RFC 8705), and that certificate as a proxy shows it.

    The client signs DPoP as ever; the hook takes that off and shows the certificate, in the place of the TLS proxy.
    """
    credentials = gateway.credentials(partner_id)
    certificate = escaped_certificate(credentials["client_id"])

    async def show(request: httpx.Request) -> None:
        request.headers.pop("dpop", None)
        request.headers[CERTIFICATE_HEADER] = certificate
        if "authorization" in request.headers:
            request.headers["authorization"] = request.headers["authorization"].replace("DPoP ", "Bearer ", 1)

    http = httpx.AsyncClient(timeout=CALL_S, event_hooks={"request": [show]})
    return PartnerClient(http, credentials), certificate


def escaped_certificate(name: str) -> str:
    """A fresh self-signed certificate as nginx's $ssl_client_escaped_cert shows it: URL-escaped PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return quote(certificate.public_bytes(Encoding.PEM).decode())


class ProofSmith:
    """DPoP proofs for one token and one address, as fast as a client can make them: all but jti and signature is fixed.

    PyJWT needs about twice the time, and the bench makes tens of thousands.
    """

    def __init__(self, credentials: dict[str, Any], *, method: str, url: str, access_token: str) -> None:
        jwk = next(key for key in credentials["private_jwks"]["keys"] if key["kty"] == "EC")
        x, y, d = (int.from_bytes(_unb64(jwk[part])) for part in "xyd")
        self._key = ec.EllipticCurvePrivateNumbers(d, ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1())).private_key()
        public = {name: jwk[name] for name in ("kty", "crv", "x", "y")}
        self._head = _b64(json.dumps({"typ": "dpop+jwt", "alg": "ES256", "jwk": public}).encode())
        self._claims = {"htm": method, "htu": url, "ath": _b64(sha256(access_token.encode()).digest())}

    def proof(self) -> str:
        claims = {**self._claims, "iat": int(time.time()), "jti": secrets.token_urlsafe(16)}
        signed = f"{self._head}.{_b64(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_b64(r.to_bytes(32) + s.to_bytes(32))}"


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
