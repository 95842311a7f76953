"""Who may set the client-certificate header, and what that certificate's thumbprint is.

TLS ends at the proxy; no Python ASGI server hands the peer certificate over. The proxy overwrites the header with the
URL-escaped PEM of the certificate it verified (nginx: $ssl_client_escaped_cert), and only its addresses are believed.
"""

import hashlib
from base64 import urlsafe_b64encode
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

_REMEMBERED = 10_000  # certificates; a bank has far fewer partner certificates than that
_HEADER_LIMIT = 16 * 1024  # bytes of escaped PEM


class CertificateReader:
    """Thumbprints (RFC 8705 §3.1: base64url SHA-256 of the DER), remembered by the header's text."""

    def __init__(self, *, header: str, trusted: str) -> None:
        self.header = header.lower()
        self._trusted: tuple[IPv4Network | IPv6Network, ...] = tuple(
            ip_network(text.strip()) for text in trusted.split(",") if text.strip()
        )
        self._known: dict[str, tuple[str, bytes] | None] = {}
        self._sources: dict[str, bool] = {}

    def thumbprint(self, text: str | None, *, source: str) -> str | None:
        read = self._read(text, source=source)
        return read[0] if read else None

    def certificate(self, text: str | None, *, source: str) -> bytes | None:
        """The DER bytes, for the authorization server to bind a token to."""
        read = self._read(text, source=source)
        return read[1] if read else None

    def _read(self, text: str | None, *, source: str) -> tuple[str, bytes] | None:
        """None: no header configured, sent, or believed from that address."""
        if not self.header or text is None or len(text) > _HEADER_LIMIT or not self._believes(source):
            return None
        if text in self._known:
            return self._known[text]
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        read = self._known[text] = _parse(text)
        return read

    def _believes(self, source: str) -> bool:
        believed = self._sources.get(source)
        if believed is None:
            if len(self._sources) >= _REMEMBERED:
                self._sources.clear()
            believed = self._sources[source] = bool(source) and any(ip_address(source) in n for n in self._trusted)
        return believed


def _parse(text: str) -> tuple[str, bytes] | None:
    try:
        der = x509.load_pem_x509_certificate(unquote_to_bytes(text)).public_bytes(Encoding.DER)
    except ValueError:
        return None
    return urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode(), der
