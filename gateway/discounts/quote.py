"""Quotes: what an offer would take off, promised for a few minutes. Nothing is stored: the text proves itself."""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from dataclasses import dataclass

import msgspec

from gateway.jsonio import canonical
from gateway.partners.occasion import Occasion
from gateway.refusal import Refusal

QUOTE_MS = 5 * 60_000  # long enough for a customer to read the price, short enough to keep a promise cheap
QUOTE_LIMIT = 1_200  # characters of a sealed quote: some 600 bytes of facts
_MAC_BYTES = 16  # 128 bits: nobody guesses one within five minutes


class QuoteNotOurs(Refusal):
    """The text is damaged, or was never ours, or belongs to another partner."""

    code, ob_code, outcome = "quote_not_ours", "D028", "schema"
    title = "The quote is not one that we gave to you"


class QuoteExpired(Refusal):
    """Its time is over."""

    status, code, ob_code, outcome = 409, "quote_expired", "D029", "conflict"
    title = "The quote has expired; ask for a new one"


class QuoteDiffers(Refusal):
    """The hold asks for something else than the quote promised."""

    status, code, ob_code = 422, "quote_differs", "D02A"
    title = "The request is not the one that was quoted"


@dataclass(frozen=True, slots=True)
class Quote:
    """An offer's price for one occasion, under one version of the contract."""

    partner_id: str
    contract_id: str
    contract_version: int
    discount_id: str
    title: str
    occasion: Occasion
    discount_minor: int
    expires_ms: int

    def check_same(self, discount_id: str, occasion: Occasion) -> None:
        """Raises QuoteDiffers where a hold asks for something else than was promised."""
        if (self.discount_id, self.occasion) != (discount_id, occasion):
            raise QuoteDiffers("Send the same offer, amount, customer, plate, site and OccurredAt as you had quoted")

    @property
    def payable_minor(self) -> int:
        return self.occasion.order.minor - self.discount_minor

    @property
    def currency(self) -> str:
        return self.occasion.order.currency


def seal(quote: Quote, secret: bytes) -> str:
    """`facts.mac`, both base64url; the secret is the same on every worker."""
    facts = canonical(msgspec.to_builtins(quote))
    return f"{_b64(facts)}.{_b64(_mac(facts, secret))}"


def unseal(text: str, secret: bytes, *, partner_id: str, now_ms: int) -> Quote:
    """Raises QuoteNotOurs, QuoteExpired."""
    head, _, mac = text.partition(".")
    try:
        facts, given = _unb64(head), _unb64(mac)
    except (NotBase64, ValueError):
        raise QuoteNotOurs(path="$.Data.Quote") from None
    if not hmac.compare_digest(_mac(facts, secret), given):
        raise QuoteNotOurs(path="$.Data.Quote")
    quote = msgspec.json.decode(facts, type=Quote)
    if quote.partner_id != partner_id:
        raise QuoteNotOurs(path="$.Data.Quote")
    if quote.expires_ms <= now_ms:
        raise QuoteExpired(path="$.Data.Quote")
    return quote


def _mac(facts: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, b"quote\n" + facts, hashlib.sha256)[:_MAC_BYTES]


def _b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
