"""What the environment may set: one frozen object, read once at the start of a process."""

import logging
import os
import re
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

_PREFIX = "PARASOL_"


class SettingsInvalid(Exception):
    """An environment variable that cannot be used; the text names it and says what to write."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every knob, with its default. `PARASOL_DATABASE_URL` sets `database_url`, and so on."""

    database_url: str = ""
    migrate_url: str = ""  # for `migrate`: a user that may make roles and tables; without one, that of database_url
    home: str = ".parasol"
    issuer: str = "http://127.0.0.1:8080"  # the public base address; every URL we write or check starts with it
    sandbox: bool = False
    data_dir: str = "."  # holds partners/, policies/ and openapi/
    workers: Annotated[int, msgspec.Meta(ge=1)] = 1
    client_cert_header: str = ""  # e.g. x-client-cert: URL-escaped PEM, overwritten by the proxy
    trusted_proxies: str = ""  # comma-separated CIDRs; only these may set the header above
    metrics_socket: str = ""  # Unix socket of the metrics hub; empty: this process renders its own
    # Where /metrics listens by itself, and nowhere else; 0: beside everything else.
    metrics_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    metrics_host: str = "127.0.0.1"  # the address of that port
    chores: str = "inline"  # "inline": this process does the back office's chores; "elsewhere": another one does
    # Connections a worker; two workers fit a default PostgreSQL many times over.
    pool_size: Annotated[int, msgspec.Meta(ge=1)] = 8
    drain_s: Annotated[float, msgspec.Meta(ge=0, le=4)] = 1.0  # not ready, but serving, before a gateway leaves; all
    # of its leaving fits into 10 s, so a balancer that needs longer is told beforehand
    log_level: str = "info"

    @property
    def owner_url(self) -> str:
        return self.migrate_url or self.database_url

    @property
    def home_path(self) -> Path:
        return Path(self.home)

    @property
    def data_path(self) -> Path:
        return Path(self.data_dir)


def read_settings(environ: dict[str, str] | None = None) -> Settings:
    """Settings from PARASOL_* variables. Raises SettingsInvalid for a wrong value; unknown names are named too."""
    source = dict(os.environ) if environ is None else environ
    given = {key[len(_PREFIX) :].lower(): value for key, value in source.items() if key.startswith(_PREFIX)}
    known = {field.name for field in msgspec.structs.fields(Settings)}
    if unknown := sorted(given.keys() - known):
        raise SettingsInvalid(f"{_PREFIX}{unknown[0].upper()} is not a setting. Known: {', '.join(sorted(known))}")
    try:
        settings = msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        reason, _, member = str(error).partition(" - at `$.")
        raise SettingsInvalid(f"{_PREFIX}{member.rstrip('`').upper()} cannot be used: {reason}") from None
    for name, (is_usable, wanted) in _FORMS.items():
        if not is_usable(getattr(settings, name)):
            raise SettingsInvalid(f"{_PREFIX}{name.upper()} cannot be used: write {wanted}")
    return settings


def _is_database_url(text: str) -> bool:
    """None at all, or an address that both of our drivers can read."""
    try:
        parts = urlsplit(text)
        return not text or (parts.scheme in ("postgresql", "postgres") and (parts.port is None or parts.port > 0))
    except ValueError:  # a port that is no number, brackets that do not close
        return False


def _is_issuer(text: str) -> bool:
    return re.fullmatch(r"https?://[^\s/?#]+", text) is not None


def _are_networks(text: str) -> bool:
    try:
        return bool([ip_network(each.strip()) for each in text.split(",") if each.strip()]) or not text
    except ValueError:
        return False


# What a type does not say. Unchecked, each of them ends a worker as it starts, or the first who uses it.
_FORMS: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "database_url": (_is_database_url, "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"),
    "migrate_url": (_is_database_url, "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"),
    "issuer": (_is_issuer, "an address like https://bank.example, without a path"),
    "trusted_proxies": (_are_networks, "networks like 10.0.0.0/8,192.0.2.7/32"),
    "log_level": (lambda text: text.upper() in logging.getLevelNamesMapping(), "debug, info, warning or error"),
}


def to_environment(settings: Settings) -> dict[str, str]:
    """The PARASOL_* variables that make a child process read the same settings."""
    plain = msgspec.to_builtins(settings)
    return {
        f"{_PREFIX}{name.upper()}": str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in plain.items()
    }
