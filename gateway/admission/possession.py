"""Who may set the client-certificate header, and what that certificate's thumbprint is.

TLS ends at the proxy; no Python ASGI server hands the peer certificate over. The proxy overwrites the header with the
URL-escaped PEM of the certificate it verified (nginx: $ssl_client_escaped_cert), and only its addresses are believed.
"""

import hashlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.admission.arrival import Arrival
from gateway.admission.proxies import TrustedProxies
from gateway.admission.refusals import CertificateNotInForce
from gateway.clock import to_ms

_REMEMBERED = 10_000  # certificates; a bank has far fewer partner certificates than that
_HEADER_LIMIT = 16 * 1024  # bytes of escaped PEM


@dataclass(frozen=True, slots=True)
class Certificate:
    """A client certificate that the proxy saw, and the moments between which it is good."""

    der: bytes
    thumbprint: str
    from_ms: int
    until_ms: int


NONE = Certificate(b"", "", 0, 2**63)  # nothing is bound to it


class CertificateReader:
    """Thumbprints (RFC 8705 §3.1: base64url SHA-256 of the DER), remembered by the header's text."""

    def __init__(self, *, header: str, trusted: str) -> None:
        self.header = header.lower()
        self.proxies = TrustedProxies(trusted)
        self._known: dict[str, Certificate] = {}

    def thumbprint(self, arrival: Arrival, *, now_ms: int) -> str:
        """Empty where none was shown."""
        return self._read(arrival, now_ms=now_ms).thumbprint

    def certificate(self, arrival: Arrival, *, now_ms: int) -> bytes | None:
        """The DER bytes, for the authorization server to bind a token to."""
        return self._read(arrival, now_ms=now_ms).der or None

    def _read(self, arrival: Arrival, *, now_ms: int) -> Certificate:
        """NONE: no header configured, sent, believed from that peer, or readable. Raises HeaderInvalid for a repeated
        header and CertificateNotInForce for a certificate whose time is not now, whoever let it through."""
        if not arrival.from_proxy or not self.header:
            return NONE
        text = arrival.single(self.header) or ""
        read = self._known.get(text)
        if read is None:
            if len(text) > _HEADER_LIMIT:
                return NONE
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            read = self._known[text] = _parse(text)
        if not read.from_ms <= now_ms <= read.until_ms:
            raise CertificateNotInForce()
        return read


def _parse(text: str) -> Certificate:
    """NONE for what is not exactly one certificate: of two, nobody could say which one the proxy verified."""
    raw = unquote_to_bytes(text)
    try:
        (certificate,) = x509.load_pem_x509_certificates(raw)
    except ValueError:
        return NONE
    der = certificate.public_bytes(Encoding.DER)
    thumbprint = urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return Certificate(der, thumbprint, to_ms(first), to_ms(last) + 999)  # its last second is whole
