"""Base64url without padding (RFC 7515 §2): one spelling for every value, anything else is refused."""

from base64 import urlsafe_b64decode, urlsafe_b64encode


def b64url(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64url(text: str) -> bytes:
    """Raises ValueError for padding, other alphabets and loose bits."""
    raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if b64url(raw) != text:
        raise ValueError("not base64url in its one spelling")
    return raw
