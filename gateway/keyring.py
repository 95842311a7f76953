"""The bank's keys: signing keys that rest sealed in the database, and the key-encryption key that never does.

A key lives `next` (published before it signs) → `signing` → `published` (until its last token expired) → `retired`.
Those of statements have a set of their own, stay published for good and say in themselves what they are for.
One that got out is `revoked`: what it signed is not good any more, whenever it was signed.
The key-encryption key comes from PARASOL_HOME/kek (0600, made by the sandbox) or a mounted secret of that name.
"""

import hashlib
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc import jws
from joserfc.jwk import ECKey, Key, RSAKey

from gateway import jsonio
from gateway.clock import now_ms
from gateway.database import Connection, Database
from gateway.database.changes import Change, announce

KEK_BYTES = 32
_NONCE_BYTES = 12
SILENT = ("retired", "revoked")  # states of keys that nobody is to check anything with
PURPOSES = {"token": "ES256", "statement": "ES256", "message": "PS256", "link": "ES256"}
STATEMENT = "statement"
_PURPOSE_OF_TYPE = {  # what a JWS says it is, only a key for that may sign
    "at+jwt": "token", "parasol-day-head": STATEMENT, "parasol-statement": STATEMENT, "parasol-link": "link",
}  # fmt: skip


class KeyEncryptionKeyMissing(Exception):
    """Without it nothing sealed can be read; the text says where it was looked for."""


class KeyMisused(Exception):
    """A key signs what it is for and nothing else: a bug, in any build."""


class SealBroken(Exception):
    """The sealed bytes are not what we sealed, or belong to another place."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key of the bank. `key` holds the private half and must not be printed; repr shows the kid only."""

    kid: str
    purpose: str
    alg: str
    state: str
    key: Key
    public_jwk: Mapping[str, Any]
    created_at_ms: int
    retired_at_ms: int | None

    def __repr__(self) -> str:
        return f"SigningKey({self.kid}, {self.purpose}, {self.state})"


class Keyring:
    """Keys of this worker, loaded once and again when the change feed says so; signing needs no I/O."""

    def __init__(self, kek: bytes) -> None:
        assert len(kek) == KEK_BYTES
        self._aead = AESGCM(kek)
        self._kek = kek
        self._keys: dict[str, SigningKey] = {}
        self._signing: dict[str, SigningKey] = {}

    # --- secrets at rest -------------------------------------------------------------------------------------------
    def seal(self, plain: bytes, *, context: str) -> bytes:
        """AES-256-GCM; `context` binds the bytes to their place, so a sealed value copied elsewhere does not open."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plain, context.encode())

    def unseal(self, sealed: bytes, *, context: str) -> bytes:
        """Raises SealBroken."""
        try:
            return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode())
        except (InvalidTag, ValueError) as error:
            raise SealBroken(f"sealed value of {context} does not open with this key-encryption key") from error

    def secret(self, purpose: str) -> bytes:
        """32 bytes derived for one use (CSRF, cookies, digests of plates): the same on every worker."""
        return hashlib.blake2b(purpose.encode(), key=self._kek, digest_size=32, person=b"parasol").digest()

    # --- signing ---------------------------------------------------------------------------------------------------
    def signing_key(self, purpose: str) -> SigningKey:
        return self._signing[purpose]

    def sign(self, purpose: str, payload: bytes, *, header: Mapping[str, Any]) -> str:
        """A compact JWS by the purpose's signing key; `alg` and `kid` are added to the header."""
        if _PURPOSE_OF_TYPE.get(header.get("typ", ""), purpose) != purpose:
            raise KeyMisused(f"a {purpose} key never signs a {header['typ']}")
        key = self._signing[purpose]
        return jws.serialize_compact(
            {"alg": key.alg, "kid": key.kid, **header}, payload, key.key, registry=_registry(key.alg, header)
        )

    def sign_detached(self, purpose: str, payload: bytes, *, header: Mapping[str, Any]) -> str:
        """RFC 7515 Appendix F: `header..signature`, the payload travels elsewhere."""
        head, _, signature = self.sign(purpose, payload, header=header).split(".")
        return f"{head}..{signature}"

    def public_key(self, kid: str) -> SigningKey | None:
        return self._keys.get(kid)

    def jwks(self) -> dict[str, Any]:
        """RFC 7517: public halves of every key that signs, will sign, or may still be checked; none of statements."""
        keys = (key for key in self._keys.values() if key.purpose != STATEMENT and key.state not in SILENT)
        return {"keys": [dict(key.public_jwk) for key in keys]}

    def statement_keys(self) -> list[SigningKey]:
        """Every key that ever signed a statement or will, in the order they were made."""
        return [key for key in self._keys.values() if key.purpose == STATEMENT]

    # --- life ------------------------------------------------------------------------------------------------------
    async def load(self, conn: Connection) -> None:
        rows = await conn.fetch(
            """SELECT kid, purpose, alg, public_jwk, private_sealed, state, created_at_ms, retired_at_ms FROM bank_key
               ORDER BY created_at_ms, kid"""
        )
        keys = {row["kid"]: self._open(row) for row in rows}
        self._keys = keys
        self._signing = {key.purpose: key for key in keys.values() if key.state == "signing"}

    async def ensure(self, conn: Connection) -> None:
        """Each purpose that has no signing key gets one: what was to sign next, or a new one; safe when several
        processes start at once."""
        await conn.execute("LOCK TABLE bank_key IN SHARE ROW EXCLUSIVE MODE")
        present = {row["purpose"] for row in await conn.fetch("SELECT purpose FROM bank_key WHERE state = 'signing'")}
        for purpose in PURPOSES.keys() - present:
            await self.rotate(conn, purpose)
        await self.load(conn)

    async def prepare(self, conn: Connection, purpose: str) -> None:
        """Publish the key that signs next, so that who keeps keys has it before it is used."""
        await conn.execute("LOCK TABLE bank_key IN SHARE ROW EXCLUSIVE MODE")
        if not await conn.fetchval("SELECT count(*) FROM bank_key WHERE purpose = $1 AND state = 'next'", purpose):
            await self._make(conn, purpose, state="next")
        await self.load(conn)

    async def rotate(self, conn: Connection, purpose: str) -> str:
        """The next key signs from now on (one is made where none was prepared); its kid. The one of before stays
        published: for good where it signed statements, else until what it signed has expired."""
        await self.prepare(conn, purpose)
        moment, state = now_ms(), "retired" if purpose == STATEMENT else "published"
        await conn.execute(
            "UPDATE bank_key SET state = $2, retired_at_ms = $3 WHERE purpose = $1 AND state = 'signing'",
            purpose, state, moment,
        )  # fmt: skip
        kid = await conn.fetchval(
            "UPDATE bank_key SET state = 'signing' WHERE purpose = $1 AND state = 'next' RETURNING kid", purpose
        )
        await announce(conn, "bank_key", kid, now_ms=moment)
        await self.load(conn)
        return str(kid)

    async def refresh(self, database: Database, changes: list[Change]) -> None:
        if any(change.kind == "bank_key" for change in changes):
            async with database.connection() as conn:
                await self.load(conn)

    async def _make(self, conn: Connection, purpose: str, *, state: str) -> None:
        alg = PURPOSES[purpose]
        key: Key = RSAKey.generate_key(2048) if alg == "PS256" else ECKey.generate_key("P-256")
        kid = key.thumbprint()
        public = {**key.as_dict(private=False), "kid": kid, "use": "sig", "alg": alg}
        if purpose == STATEMENT:
            public["purpose"] = STATEMENT  # travels with every statement: no key of another kind is taken for one
        sealed = self.seal(jsonio.encode(key.as_dict(private=True)), context=f"bank_key:{kid}")
        moment = now_ms()
        await conn.execute(
            """INSERT INTO bank_key (kid, purpose, alg, public_jwk, private_sealed, state, created_at_ms)
               VALUES ($1, $2, $3, $4, $5, $6, $7)""",
            kid, purpose, alg, public, sealed, state, moment,
        )  # fmt: skip
        await announce(conn, "bank_key", kid, now_ms=moment)

    def _open(self, row: Any) -> SigningKey:
        private = jsonio.decode(self.unseal(row["private_sealed"], context=f"bank_key:{row['kid']}"), dict[str, Any])
        key: Key = RSAKey.import_key(private) if row["alg"] == "PS256" else ECKey.import_key(private)
        return SigningKey(
            row["kid"], row["purpose"], row["alg"], row["state"], key, row["public_jwk"], row["created_at_ms"],
            row["retired_at_ms"],
        )  # fmt: skip


def _registry(alg: str, header: Mapping[str, Any]) -> jws.JWSRegistry:
    """joserfc checks headers against a registry; the Open Banking claims in `crit` are declared to it by name."""
    extra = {name: jws_header(name) for name in header.get("crit", ())}
    return jws.JWSRegistry(header_registry=extra, algorithms=[alg], strict_check_header=False)


def jws_header(name: str) -> Any:
    """A private protected header: a string or a number."""
    from joserfc.registry import HeaderParameter

    return HeaderParameter(name, "str" if not name.endswith("iat") else "int", True)


def read_kek(home: Path, *, make: bool) -> bytes:
    """The 32 bytes of HOME/kek, as hex. With `make` (sandbox) a missing file is made, 0600; else it must be there."""
    path = home / "kek"
    if not path.exists():
        if not make:
            raise KeyEncryptionKeyMissing(f"No key-encryption key: put 64 hexadecimal digits into {path} (mode 0600)")
        home.mkdir(parents=True, exist_ok=True)
        _write_once(path, secrets.token_hex(KEK_BYTES))
    text = path.read_text().strip()
    try:
        kek = bytes.fromhex(text)
    except ValueError:
        kek = b""
    if len(kek) != KEK_BYTES:
        raise KeyEncryptionKeyMissing(f"{path} must hold 64 hexadecimal digits")
    return kek


def _write_once(path: Path, text: str) -> None:
    """Several processes may start at once: the first writes, the others read."""
    draft = path.with_suffix(f".{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(text)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
