"""A self-made client certificate, as a proxy would hand it on."""

import hashlib
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.unit.oauth.signing import KEYS


def certificate(*, days: tuple[int, int] = (0, 1)) -> tuple[str, bytes]:
    """PEM and DER; good between these days from now."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "parkco")])
    now, key = datetime.now(UTC), KEYS["ES256"]
    first, last = now + timedelta(days[0]), now + timedelta(days[1])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(first).not_valid_after(last).sign(key, hashes.SHA256())
    )  # fmt: skip
    return made.public_bytes(Encoding.PEM).decode(), made.public_bytes(Encoding.DER)


def thumbprint(der: bytes) -> str:
    return urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
