"""What the environment may set: one frozen object, read once at the start of a process."""

import os
from pathlib import Path
from typing import Annotated

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
    workers: int = 1
    client_cert_header: str = ""  # e.g. x-client-cert: URL-escaped PEM, overwritten by the proxy
    trusted_proxies: str = ""  # comma-separated CIDRs; only these may set the header above
    metrics_socket: str = ""  # Unix socket of the metrics hub; empty: this process renders its own
    metrics_port: int = 0  # where /metrics listens by itself, and nowhere else; 0: beside everything else
    metrics_host: str = "127.0.0.1"  # the address of that port
    chores: str = "inline"  # "inline": this process does the back office's chores; "elsewhere": another one does
    pool_size: int = 8  # connections a worker; two workers fit a default PostgreSQL many times over
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
        return msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsInvalid(f"A {_PREFIX} variable cannot be used: {error}") from None


def to_environment(settings: Settings) -> dict[str, str]:
    """The PARASOL_* variables that make a child process read the same settings."""
    plain = msgspec.to_builtins(settings)
    return {
        f"{_PREFIX}{name.upper()}": str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in plain.items()
    }
