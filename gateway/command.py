"""What the commands share: their database, who runs them and why, and a failure turned into a sentence."""

import asyncio
import getpass
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

import msgspec
import typer
from rich.console import Console

from gateway.free_text import unreadable_in
from gateway.settings import Settings, SettingsInvalid, read_settings

if TYPE_CHECKING:
    from gateway.database import Database

P = ParamSpec("P")
T = TypeVar("T")
FAILED = 2  # exit status: it could not be done; 1 is a check that said no
ACTOR = "command line"  # in the audit log
REASON_LIMIT = 300  # characters, as in the admin API
HOME = Path(".parasol")
Home = Annotated[Path, typer.Option(envvar="PARASOL_HOME", help="Folder of the database, keys, logs and credentials.")]


def said(reason: str) -> str:
    """A reason that says something, and that can be read."""
    if not reason.strip() or len(reason) > REASON_LIMIT:
        raise typer.BadParameter(f"say why, in 1 to {REASON_LIMIT} characters")
    if found := unreadable_in(reason):
        raise typer.BadParameter(f"it holds {found}, which cannot be read")
    return reason


Why = Annotated[str, typer.Option("--reason", help="Why; it stands in the audit trail.", callback=said)]


def sentence(command: Callable[P, None]) -> Callable[P, None]:
    """Failures that a person can do something about are printed as such; a bug keeps its trace."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            _log_to_standard_error()
            command(*args, **kwargs)
        except _explained() as error:
            Console(stderr=True, highlight=False, soft_wrap=True).print(f"parasol: {error}", markup=False)
            raise typer.Exit(FAILED) from None
        except _database_errors() as error:
            typer.echo(f"parasol: The database cannot be used ({type(error).__name__}). Is it running, and is "
                       "PARASOL_DATABASE_URL right? Then run `parasol migrate`.", err=True)  # fmt: skip
            raise typer.Exit(FAILED) from None
        except BrokenPipeError:
            raise  # whoever read our output has left: typer ends quietly
        except OSError as error:
            place = error.filename or "A file"
            typer.echo(f"parasol: {place} cannot be used: {error.strerror or error}.", err=True)
            raise typer.Exit(FAILED) from None

    return run


def _log_to_standard_error() -> None:
    """As lines that can be lost: what a library logs neither ends a command nor stands among its output."""
    from gateway import log

    log.configure(read_settings().log_level)


def _explained() -> tuple[type[Exception], ...]:
    """Loaded when something failed: `parasol --help` should not have to wait for them."""
    from gateway.database.embedded import EmbeddedUnusable
    from gateway.database.migrate import OldHome
    from gateway.demo.stage import DemoCannotStart
    from gateway.document import DocumentInvalid
    from gateway.keyring import KeyEncryptionKeyMissing, SealBroken
    from gateway.port import CannotServe
    from gateway.provision import NotReadyToServe

    return (
        SettingsInvalid, EmbeddedUnusable, OldHome, DocumentInvalid, KeyEncryptionKeyMissing, SealBroken, CannotServe,
        DemoCannotStart, NotReadyToServe,
    )  # fmt: skip


def _database_errors() -> tuple[type[Exception], ...]:
    import asyncpg
    import psycopg

    from gateway.database.absence import DatabaseAway

    return (
        asyncpg.PostgresError, asyncpg.InterfaceError, psycopg.Error, ConnectionRefusedError, ConnectionResetError,
        DatabaseAway, socket.gaierror, TimeoutError,
    )  # fmt: skip


@contextmanager
def database_of(home: Path) -> Iterator[Settings]:
    """Settings with the address of the given database, or of the embedded one of that home (it may be serving)."""
    from gateway import serve
    from gateway.port import CannotServe

    settings = read_settings()
    if not settings.database_url and not (home / "postgres").exists():
        raise CannotServe(f"No database: set PARASOL_DATABASE_URL, or name the --home of a sandbox ({home} has none)")
    with serve.with_database(msgspec.structs.replace(settings, sandbox=True, home=str(home.absolute()))) as opened:
        yield opened


def with_database(home: Path, work: Callable[["Database"], Awaitable[T]]) -> T:
    from gateway.audit import came_from
    from gateway.database import Database

    async def connected(url: str) -> T:
        came_from.set(f"{getpass.getuser()} on {socket.gethostname()}")  # of this command alone
        database = await Database.connect(url, pool_size=1)
        try:
            return await work(database)
        finally:
            await database.close()

    with database_of(home) as opened:
        return asyncio.run(connected(opened.database_url))
