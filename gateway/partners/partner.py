"""A partner and its apps, as agreed: frozen, read from the snapshot, the same on every worker."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class PartnerState(StrEnum):
    """The life of a partner; only an ACTIVE one is admitted, a TERMINATING one may still read and settle."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    TERMINATING = "TERMINATING"
    CLOSED = "CLOSED"


class KeyState(StrEnum):
    """The life of an app's key: `active` and `retiring` keys verify, the others do not."""

    PENDING = "pending"
    ACTIVE = "active"
    RETIRING = "retiring"
    REVOKED = "revoked"

    @property
    def verifies(self) -> bool:
        return self in (KeyState.ACTIVE, KeyState.RETIRING)


@dataclass(frozen=True, slots=True)
class AppKey:
    """A public key of an app (RFC 7517). `thumbprint` is its RFC 7638 SHA-256, base64url."""

    kid: str
    jwk: Mapping[str, Any]
    state: KeyState
    thumbprint: str


@dataclass(frozen=True, slots=True)
class App:
    """An OAuth client. `auth_method`: private_key_jwt, tls_client_auth or self_signed_tls_client_auth."""

    client_id: str
    partner_id: str
    name: str
    auth_method: str
    redirect_uris: tuple[str, ...]
    scopes: frozenset[str]
    keys: tuple[AppKey, ...]
    profile: str = "fapi2"

    def verifying_key(self, kid: str) -> AppKey | None:
        return next((key for key in self.keys if key.kid == kid and key.state.verifies), None)


@dataclass(frozen=True, slots=True)
class Partner:
    """Another trade that the bank has let in."""

    partner_id: str
    name: str
    name_zh: str
    trade: str  # parking, shop, metro, biller …
    state: PartnerState
    policy_id: str
    apps: tuple[App, ...]
    contacts: Mapping[str, str] = field(default_factory=dict)
    sites: tuple["Site", ...] = ()
    settlement_account: str = ""  # the account that payments to this partner are credited to


@dataclass(frozen=True, slots=True)
class Site:
    """A place or channel of a partner: a lot, a shop, a metro line. `tariff_id` names a parking fee table, if any."""

    site_id: str
    name: str
    mcc: str
    capacity: int = 0
    tariff_id: str = ""
    name_zh: str = ""
