"""Who is looking at the console: a sealed cookie that holds the hash of the operator's key and when it ends.

The key itself is only in the login form. An operator whose key was withdrawn is out at the next page.
"""

from dataclasses import dataclass

from gateway.admission.operators import OperatorBook, is_whole, key_hash
from gateway.admission.refusals import OperatorNotAccepted
from gateway.base64url import b64url, unb64url
from gateway.call import OpenCall, Operator
from gateway.keyring import Keyring, SealBroken

SESSION_MS = 8 * 3_600_000  # a working day
_CONTEXT = "console-session"
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class ConsoleSessions:
    """Made and read by this worker alone; every worker has the same key-encryption key, so any of them may answer."""

    keyring: Keyring
    operators: OperatorBook
    secure: bool

    @property
    def cookie_name(self) -> str:
        return "__Host-parasol-console" if self.secure else "parasol-console"

    def open(self, key: str, *, now_ms: int) -> tuple[str, str]:
        """The set-cookie header of a new session. Raises OperatorNotAccepted."""
        if not is_whole(key):
            raise OperatorNotAccepted()
        self.operators.of_digest(key_hash(key))
        sealed = self.keyring.seal(key_hash(key) + (now_ms + SESSION_MS).to_bytes(8, "big"), context=_CONTEXT)
        return self._header(b64url(sealed), SESSION_MS // 1000)

    def close(self) -> tuple[str, str]:
        return self._header("", 0)

    def operator(self, call: OpenCall) -> Operator | None:
        """None: nobody, or not any more."""
        try:
            plain = self.keyring.unseal(unb64url(call.cookies.get(self.cookie_name, "")), context=_CONTEXT)
            if int.from_bytes(plain[_DIGEST_BYTES:], "big") <= call.now_ms:
                return None
            return self.operators.of_digest(plain[:_DIGEST_BYTES])
        except (SealBroken, ValueError, OperatorNotAccepted):
            return None

    def _header(self, value: str, age_s: int) -> tuple[str, str]:
        tail = "; Secure" if self.secure else ""
        return "set-cookie", f"{self.cookie_name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age_s}{tail}"
