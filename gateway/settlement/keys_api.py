"""The bank's keys of statements, for anybody and for good: what a partner keeps to check statements with."""

from dataclasses import dataclass

from gateway.call import Answer, OpenCall
from gateway.clock import rfc3339
from gateway.keyring import Keyring, SigningKey

_HEADERS = (("cache-control", "public, max-age=300"),)


@dataclass(frozen=True, slots=True)
class StatementKeysApi:
    """A JWKS of its own: no key of tokens is in it, and no key of it is among those of tokens."""

    keyring: Keyring

    async def statement_keys(self, call: OpenCall) -> Answer:
        """RFC 7517, with the dates of each key: also of those that sign no more, as their statements stay."""
        return Answer(200, {"keys": [_members(key) for key in self.keyring.statement_keys()]}, _HEADERS)


def _members(key: SigningKey) -> dict[str, object]:
    dates: dict[str, object] = {"state": key.state, "created_at": rfc3339(key.created_at_ms)}
    if key.retired_at_ms is not None:
        dates["retired_at"] = rfc3339(key.retired_at_ms)
    return {**key.public_jwk, **dates}
