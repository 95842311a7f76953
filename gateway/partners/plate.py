"""Number plates: one spelling, a keyed digest to compare by, a masked form to show. The plate itself is never stored.

The digest's key is derived from the key-encryption key and bound to the partner: two partners' digests of one car have
nothing in common, and nobody can try all plates without the key.
"""

import hashlib
import hmac
import re
import unicodedata
from dataclasses import dataclass

from gateway.refusal import Refusal

_DIGEST_BYTES = 16  # 128 bits: no two plates of the world meet
_SEPARATORS = re.compile(r"[\s\-·.]+")
_PLATE = re.compile(r"[A-Z0-9一-鿿]{4,10}")  # GA 36 plates have 7 or 8 characters, others 4 to 10


class PlateMalformed(Refusal):
    """Not a plate that has one spelling."""

    code, ob_code, outcome = "plate_malformed", "U002", "schema"
    title = "A number plate has 4 to 10 letters, digits or Chinese characters"


@dataclass(frozen=True, slots=True)
class Plate:
    """What is kept of a plate: the digest (hex) and the masked form."""

    digest: str
    masked: str


class PlateReader:
    """Turns a plate, C2 data, into what may be kept."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def read(self, partner_id: str, text: str, *, path: str) -> Plate:
        """Raises PlateMalformed; the detail never repeats the plate."""
        plate = _SEPARATORS.sub("", unicodedata.normalize("NFKC", text)).upper()
        if not _PLATE.fullmatch(plate):
            raise PlateMalformed(path=path)
        mac = hmac.digest(self._secret, f"{partner_id}\n{plate}".encode(), hashlib.sha256)
        return Plate(mac[:_DIGEST_BYTES].hex(), f"{plate[:2]}{'*' * (len(plate) - 3)}{plate[-1]}")
