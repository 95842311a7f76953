"""`parasol …`: the commands. Each reads its arguments, calls one function and turns a failure into a sentence."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from gateway import __version__
from gateway.audit_commands import audit_commands
from gateway.clock import now_ms
from gateway.command import ACTOR, HOME, Home, Why, database_of, sentence, with_database
from gateway.settings import read_settings

if TYPE_CHECKING:
    from gateway.database import Database


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


Workers = Annotated[
    int, typer.Option(min=1, max=64, envvar="PARASOL_WORKERS", help="Processes that answer; try one a core.")
]
Folder = Annotated[Path, typer.Argument(help="Holds partners/ and policies/.")]


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
    from gateway import log
    from gateway.serve import local_address, serve

    given = read_settings()
    issuer = given.issuer if "PARASOL_ISSUER" in os.environ else local_address(host, port)
    settings = msgspec.structs.replace(
        given, sandbox=sandbox or given.sandbox, home=str(home.absolute()), workers=workers, issuer=issuer
    )
    log.configure(settings.log_level)
    serve(settings, host=host, port=port, on_ready=lambda address: typer.echo(f"Parasol serves at {address}"))


@app.command(rich_help_panel=OPERATE)
@sentence
def migrate(home: Home = HOME) -> None:
    """Bring the database up to this version's schema. Safe to run again.

    The database is that of PARASOL_DATABASE_URL, or else the embedded one of HOME. It is reached as the user of
    PARASOL_MIGRATE_URL, where there is one; that user makes the roles `owner` and `gateway` and their rights.
    """
    from gateway.database.migrate import migrate

    with database_of(home) as opened:
        applied = migrate(opened.owner_url, serving=opened.database_url)
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

    found = with_database(home, lambda database: plan(database, folder, POLICY_OPERATIONS, now_ms=now_ms()))
    Console().print(render(found))
    raise typer.Exit(1 if found.steps else 0)


@app.command(rich_help_panel=OPERATE)
@sentence
def apply(folder: Folder = Path(), home: Home = HOME) -> None:
    """Put partners/ and policies/ into force as new versions, all or nothing; every worker knows within a second."""
    from gateway.partners.apply import apply
    from gateway.partners.plan_table import render
    from gateway.routes import POLICY_OPERATIONS

    done = with_database(
        home, lambda database: apply(database, folder, POLICY_OPERATIONS, actor=ACTOR, now_ms=now_ms())
    )
    Console().print(render(done))


@app.command(rich_help_panel=OPERATE)
@sentence
def rotate_statement_key(reason: Why, home: Home = HOME) -> None:
    """Sign days and statements with the next key; the one of before stays published, and its statements stay true."""
    from gateway.provision import rotate_statement_key

    settings = msgspec.structs.replace(read_settings(), home=str(home.absolute()))
    kid = with_database(home, lambda database: rotate_statement_key(database, settings, actor=ACTOR, reason=reason))
    typer.echo(f"Key {kid} signs statements from now on; see /.well-known/statement-keys.")


@app.command(rich_help_panel=OPERATE)
@sentence
def revoke_key(
    kid: Annotated[str, typer.Argument(help="The kid of one of the bank's own keys, as /oauth/jwks shows it.")],
    reason: Why,
    home: Home = HOME,
) -> None:
    """Revoke a signing key of the bank that got out: what it signed is refused within a second, the next key signs."""
    from gateway.keyring import Keyring, read_kek
    from gateway.oauth.store import revoke_bank_key

    async def work(database: "Database") -> bool:
        keyring = Keyring(read_kek(home, make=False))
        async with database.transaction() as conn:
            done = await revoke_bank_key(conn, kid, actor=ACTOR, reason=reason, now_ms=now_ms())
            await keyring.ensure(conn)
            return done

    if not with_database(home, work):
        raise typer.BadParameter(f"{kid} is no key of the bank, or is revoked already")
    typer.echo(f"Revoked {kid}. Partners fetch new tokens; their keys are as they were.")


app.add_typer(audit_commands, name="audit", rich_help_panel=CHECK)


@app.command(rich_help_panel=CHECK)
def version() -> None:
    """Say which Parasol this is."""
    typer.echo(__version__)


def main() -> None:
    """The `parasol` command."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
