"""Failures of a command as one sentence that says what to do, and exit status 2; a bug keeps its trace."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer
from rich.console import Console

P = ParamSpec("P")
FAILED = 2  # exit status: it could not be done; 1 is a check that said no


def sentence(command: Callable[P, None]) -> Callable[P, None]:
    """Failures that a person can do something about are printed as such; a bug keeps its trace."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except _explained() as error:
            Console(stderr=True, highlight=False, soft_wrap=True).print(f"parasol: {error}", markup=False)
            raise typer.Exit(FAILED) from None
        except _database_errors() as error:
            typer.echo(f"parasol: The database cannot be used ({type(error).__name__}). Is it running, and is "
                       "PARASOL_DATABASE_URL right? Then run `parasol migrate`.", err=True)  # fmt: skip
            raise typer.Exit(FAILED) from None

    return run


def _explained() -> tuple[type[Exception], ...]:
    """Loaded when something failed: `parasol --help` should not have to wait for them."""
    from gateway.database.embedded import EmbeddedMissing
    from gateway.database.migrate import OldHome
    from gateway.demo.stage import DemoCannotStart
    from gateway.document import DocumentInvalid
    from gateway.keyring import KeyEncryptionKeyMissing, SealBroken
    from gateway.port import CannotServe
    from gateway.provision import NotReadyToServe
    from gateway.settings import SettingsInvalid

    return (
        SettingsInvalid, EmbeddedMissing, OldHome, DocumentInvalid, KeyEncryptionKeyMissing, SealBroken, CannotServe,
        DemoCannotStart, NotReadyToServe,
    )  # fmt: skip


def _database_errors() -> tuple[type[Exception], ...]:
    import asyncpg
    import psycopg

    return asyncpg.PostgresError, asyncpg.InterfaceError, psycopg.Error, ConnectionError
