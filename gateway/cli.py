"""`parasol …`: the commands. Each reads its arguments, calls one function and turns a failure into a sentence."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

import msgspec
import typer
from rich.console import Console

from gateway import __version__
from gateway.clock import now_ms
from gateway.settings import SettingsInvalid, read_settings

if TYPE_CHECKING:
    from gateway.database import Database

P = ParamSpec("P")
T = TypeVar("T")
FAILED = 2  # exit status: it could not be done; 1 is a check that said no
ACTOR = "command line"  # in the audit log

app = typer.Typer(
    help="Parasol, the partner open-banking gateway. Start with [bold]parasol run[/bold].",
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
TRY, OPERATE, CHECK = "Try it", "Operate it", "Check it"

Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]
Home = Annotated[Path, typer.Option(envvar="PARASOL_HOME", help="Folder of the database, keys, logs and credentials.")]
Workers = Annotated[
    int, typer.Option(min=1, max=64, envvar="PARASOL_WORKERS", help="Processes that answer; try one a core.")
]
Folder = Annotated[Path, typer.Argument(help="Holds partners/ and policies/.")]
HOME = Path(".parasol")


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

    return run


def _log_to_standard_error() -> None:
    """As lines that can be lost: what a library logs neither ends a command nor stands among its output."""
    from gateway import log

    log.configure(read_settings().log_level)


def _explained() -> tuple[type[Exception], ...]:
    """Loaded when something failed: `parasol --help` should not have to wait for them."""
    from gateway.database.embedded import EmbeddedMissing
    from gateway.database.migrate import OldHome
    from gateway.document import DocumentInvalid
    from gateway.keyring import KeyEncryptionKeyMissing, SealBroken
    from gateway.port import CannotServe

    return SettingsInvalid, EmbeddedMissing, OldHome, DocumentInvalid, KeyEncryptionKeyMissing, SealBroken, CannotServe


def _database_errors() -> tuple[type[Exception], ...]:
    import asyncpg
    import psycopg

    return asyncpg.PostgresError, asyncpg.InterfaceError, psycopg.Error, ConnectionError


@app.command(rich_help_panel=TRY)
@sentence
def run(
    once: Annotated[bool, typer.Option("--once", help="End after the journey, with its status.")] = False,
    host: Host = "127.0.0.1",
    port: Port = 8080,
    home: Home = HOME,
    workers: Workers = 2,
) -> None:
    """Start a sandbox gateway, drive a partner's whole journey through it, then stay up.

    This is what `make run` does. The gateway's own log goes to HOME/gateway.log.
    """
    from gateway.run import PARASOL, Premises, run

    premises = Premises(host, port, home, workers)
    demo = [*PARASOL, "demo", "--once", "--url", premises.address, "--home", str(home)]
    raise typer.Exit(run(premises, demo=demo, stay=not once))


@app.command(rich_help_panel=TRY)
@sentence
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Exit status 0 only if every check held; this is always so.")
    ] = False,
    url: Annotated[str, typer.Option(help="A running sandbox gateway.")] = "http://127.0.0.1:8080",
    home: Home = HOME,
    parking_day: Annotated[Path | None, typer.Option(help="Free spaces of car parks through a day (CSV).")] = None,
    purchases: Annotated[Path | None, typer.Option(help="Purchases of an online shop's customers.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every session and customer, not 2,000 of each.")] = False,
) -> None:
    """Drive one partner's whole journey through a running sandbox, and check every step.

    With --parking-day or --purchases a real day goes through the same API; where a file is not there, a small day is
    made instead.
    """
    from gateway.demo.journey import run_demo
    from gateway.demo.replay import Replay

    wanted = parking_day is not None or purchases is not None or everything
    replay = Replay(parking_day, purchases, everything) if wanted else None
    raise typer.Exit(run_demo(url=url, home=home, replay=replay))


@app.command(
    rich_help_panel=CHECK,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    add_help_option=False,
)
def verify(context: typer.Context) -> None:
    """Recompute statements offline, every cent and every proof: FILE… --jwks KEYS --partner ID."""
    from gateway.settlement.verify import main as verify_main

    raise typer.Exit(verify_main(context.args))


@app.command(rich_help_panel=OPERATE)
@sentence
def serve(
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Embedded database, demo partners, sandbox bank.")] = False,
    host: Host = "127.0.0.1",
    port: Port = 8080,
    home: Home = HOME,
    workers: Workers = 1,
) -> None:
    """Serve the gateway until Ctrl-C or SIGTERM.

    With --sandbox everything is embedded in HOME: the database is started, migrated and filled with partners/ and
    policies/. PARASOL_DATABASE_URL replaces the embedded database.

    Without --sandbox run `parasol migrate` and `parasol apply` first.
    """
    from gateway.serve import local_address, serve

    given = read_settings()
    issuer = given.issuer if "PARASOL_ISSUER" in os.environ else local_address(host, port)
    settings = msgspec.structs.replace(
        given, sandbox=sandbox or given.sandbox, home=str(home.absolute()), workers=workers, issuer=issuer
    )
    serve(settings, host=host, port=port, on_ready=lambda address: typer.echo(f"Parasol serves at {address}"))


@app.command(rich_help_panel=OPERATE)
@sentence
def migrate(home: Home = HOME) -> None:
    """Bring the database up to this version's schema. Safe to run again.

    The database is that of PARASOL_DATABASE_URL, or else the embedded one of HOME.
    """
    from gateway.database.migrate import migrate

    with _database_of(home) as url:
        applied = migrate(url)
    typer.echo("\n".join(f"applied {name}" for name in applied) or "Nothing to apply: the schema is current.")


@app.command(rich_help_panel=OPERATE)
@sentence
def diff(folder: Folder = Path(), home: Home = HOME) -> None:
    """Show what `apply` would change: each document added, changed or removed, and which fields.

    Exit status 1 when there is a difference, so that a pipeline can tell drift.
    """
    from gateway.partners.apply import plan
    from gateway.partners.plan_table import render
    from gateway.routes import POLICY_OPERATIONS

    found = _with_database(home, lambda database: plan(database, folder, POLICY_OPERATIONS, now_ms=now_ms()))
    Console().print(render(found))
    raise typer.Exit(1 if found.steps else 0)


@app.command(rich_help_panel=OPERATE)
@sentence
def apply(folder: Folder = Path(), home: Home = HOME) -> None:
    """Put partners/ and policies/ into force as new versions, all or nothing; every worker knows within a second."""
    from gateway.partners.apply import apply
    from gateway.partners.plan_table import render
    from gateway.routes import POLICY_OPERATIONS

    done = _with_database(
        home, lambda database: apply(database, folder, POLICY_OPERATIONS, actor=ACTOR, now_ms=now_ms())
    )
    Console().print(render(done))


@app.command(rich_help_panel=OPERATE)
@sentence
def rotate_statement_key(home: Home = HOME) -> None:
    """Sign days and statements with the next key; the one of before stays published, and its statements stay true."""
    from gateway.provision import rotate_statement_key

    settings = msgspec.structs.replace(read_settings(), home=str(home.absolute()))
    kid = _with_database(home, lambda database: rotate_statement_key(database, settings, actor=ACTOR))
    typer.echo(f"Key {kid} signs statements from now on; see /.well-known/statement-keys.")


@app.command(rich_help_panel=CHECK)
def version() -> None:
    """Say which Parasol this is."""
    typer.echo(__version__)


@contextmanager
def _database_of(home: Path) -> Iterator[str]:
    """The address of the given database, or of the embedded one of that home, which may be serving at the moment."""
    from gateway.port import CannotServe
    from gateway.serve import with_database

    settings = read_settings()
    if not settings.database_url and not (home / "postgres").exists():
        raise CannotServe(f"No database: set PARASOL_DATABASE_URL, or name the --home of a sandbox ({home} has none)")
    with with_database(msgspec.structs.replace(settings, sandbox=True, home=str(home.absolute()))) as opened:
        yield opened.database_url


def _with_database(home: Path, work: Callable[["Database"], Awaitable[T]]) -> T:
    from gateway.database import Database

    async def connected(url: str) -> T:
        database = await Database.connect(url, pool_size=1)
        try:
            return await work(database)
        finally:
            await database.close()

    with _database_of(home) as url:
        return asyncio.run(connected(url))


def main() -> None:
    """The `parasol` command."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
