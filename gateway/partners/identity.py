"""Customer identity as a token: HMAC-SM3 over the normalised phone, with a key per partner and epoch.

Two partners' tokens of one phone have nothing in common, and without the key nobody can enumerate phone numbers. The
partner gets its own key and computes tokens of its own customers; the bank computes the same token when that customer
opens an account. Keys rest sealed; the phone itself is never stored here.
"""

import re
import secrets
import unicodedata
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes, hmac

from gateway import audit
from gateway.database import Connection, Database
from gateway.keyring import Keyring
from gateway.partners import store
from gateway.refusal import Refusal

KEY_BYTES = 32  # the digest size of SM3 (GB/T 32905): RFC 2104 asks for no less
_DIGEST_LETTERS = 43  # of base64 without its padding
TOKEN_PATTERN = r"^idt_[1-9][0-9]{0,4}_[A-Za-z0-9_-]{43}$"  # noqa: S105 - a shape, not a secret
_SEPARATORS = re.compile(r"[\s\-().]+")
_CHINA_MOBILE = re.compile(r"1[3-9]\d{9}", re.ASCII)
_E164 = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)  # ITU-T E.164: at most 15 digits


class PhoneMalformed(Refusal):
    """Not a phone number that has one spelling."""

    code, ob_code, outcome = "phone_malformed", "U002", "schema"
    title = "The phone number is neither E.164 nor a Chinese mobile number"


@dataclass(frozen=True, slots=True)
class IdentityKey:
    """One epoch of one partner; the highest epoch is current, older ones still match."""

    partner_id: str
    epoch: int
    key: bytes
    created_at_ms: int

    def __repr__(self) -> str:
        return f"IdentityKey({self.partner_id}, {self.epoch})"


def normalise_phone(text: str, *, path: str = "") -> str:
    """`138-0013-8000`, `0086 138 0013 8000` and `+8613800138000` are all `+8613800138000`. Raises PhoneMalformed."""
    plain = _SEPARATORS.sub("", unicodedata.normalize("NFKC", text))
    if plain.startswith("00"):
        plain = "+" + plain[2:]
    if _CHINA_MOBILE.fullmatch(plain):
        return "+86" + plain
    if plain.startswith("86") and _CHINA_MOBILE.fullmatch(plain[2:]):
        return "+" + plain
    abroad = _E164.fullmatch(plain) is not None and not plain.startswith("+86")
    if abroad or (plain.startswith("+86") and _CHINA_MOBILE.fullmatch(plain[3:])):
        return plain
    raise PhoneMalformed(path=path)


def identity_token(key: IdentityKey, phone: str) -> str:
    """`idt_<epoch>_<base64url of HMAC-SM3(key, phone)>`; `phone` is normalised already."""
    return _token(_started(key), key.epoch, phone)


def identity_tokens(keys: Iterable[IdentityKey], phones: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """Each phone's (partner, token) under every one of the keys."""
    hasher, of_all = PhoneHasher(), list(keys)
    return {phone: [(key.partner_id, hasher.token(key, phone)) for key in of_all] for phone in phones}


class PhoneHasher:
    """Makes many tokens under the same keys: copying a key's state costs half of keying it anew."""

    def __init__(self) -> None:
        self._started: dict[tuple[str, int], hmac.HMAC] = {}

    def token(self, key: IdentityKey, phone: str) -> str:
        """As identity_token."""
        place = key.partner_id, key.epoch
        started = self._started.get(place)
        if started is None:
            started = self._started[place] = _started(key)
        return _token(started, key.epoch, phone)


class IdentityKeys:
    """The keys of all partners. An epoch never changes, so what was unsealed once stays known to this worker."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring
        self._open: dict[tuple[str, int], IdentityKey] = {}

    async def token(self, partner_id: str, phone: str, *, now_ms: int) -> str:
        """The current token of a phone. Raises PhoneMalformed."""
        plain = normalise_phone(phone)
        keys = await self.keys_of(partner_id, now_ms=now_ms)
        return identity_token(keys[-1], plain)

    async def keys_of(self, partner_id: str, *, now_ms: int) -> tuple[IdentityKey, ...]:
        """The partner's own keys, oldest first; the first one is made when it is missing."""
        async with self._database.transaction() as conn:
            keys = await self._load(conn, partner_id)
            if not keys:
                await self._make(conn, partner_id, epoch=1, now_ms=now_ms)
                keys = await self._load(conn, partner_id)
        return keys

    async def keys_of_partners(
        self, conn: Connection, partner_ids: Sequence[str]
    ) -> dict[str, tuple[IdentityKey, ...]]:
        """The keys that these partners have, by partner, oldest first."""
        found: dict[str, list[IdentityKey]] = {}
        for row in await store.identity_keys(conn, partner_ids):
            found.setdefault(row["partner_id"], []).append(self._unsealed(row))
        return {partner_id: tuple(keys) for partner_id, keys in found.items()}

    async def _load(self, conn: Connection, partner_id: str) -> tuple[IdentityKey, ...]:
        return (await self.keys_of_partners(conn, [partner_id])).get(partner_id, ())

    async def _make(self, conn: Connection, partner_id: str, *, epoch: int, now_ms: int) -> None:
        """Two workers may try at once: the first one's key stays."""
        sealed = self._keyring.seal(secrets.token_bytes(KEY_BYTES), context=_context(partner_id, epoch))
        made = await store.insert_identity_key(conn, partner_id, epoch=epoch, key_sealed=sealed, now_ms=now_ms)
        if made:
            await audit.record(
                conn, actor="gateway", action="identity_key.made", subject=partner_id, detail={"epoch": epoch},
                now_ms=now_ms,
            )  # fmt: skip

    def _unsealed(self, row: Any) -> IdentityKey:
        place = (row["partner_id"], row["epoch"])
        known = self._open.get(place)
        if known is None:
            key = self._keyring.unseal(row["key_sealed"], context=_context(*place))
            known = self._open[place] = IdentityKey(*place, key, row["created_at_ms"])
        return known


def _context(partner_id: str, epoch: int) -> str:
    return f"identity_key:{partner_id}:{epoch}"


def _started(key: IdentityKey) -> hmac.HMAC:
    return hmac.HMAC(key.key, hashes.SM3())


def _token(started: hmac.HMAC, epoch: int, phone: str) -> str:
    digest = started.copy()
    digest.update(phone.encode())
    return f"idt_{epoch}_{urlsafe_b64encode(digest.finalize())[:_DIGEST_LETTERS].decode()}"
