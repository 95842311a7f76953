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
from gateway.bank_commands import add_bank_commands
from gateway.clock import now_ms
from gateway.command import ACTOR, HOME, Home, Why, database_of, sentence, with_database
from gateway.settings import Settings, read_settings

if TYPE_CHECKING:
    from gateway.partners.plan import Plan


app = typer.Typer(
    help="Parasol, the partner open-banking gateway. Start with [bold]parasol run[/bold].",
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
TRY, OPERATE, CHECK = "Try it", "Operate it", "Check it"

Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]


Workers = Annotated[
    int, typer.Option(min=1, max=64, envvar="PARASOL_WORKERS", help="Processes that answer; try one a core.")
]
Folder = Annotated[Path, typer.Argument(envvar="PARASOL_DATA_DIR", help="Holds partners/ and policies/.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def parasol(
    version: Annotated[bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say it.")] = False,
) -> None:
    """Parasol, the partner open-banking gateway. Start with [bold]parasol run[/bold]."""


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
    demo = [*PARASOL, "demo", "--url", premises.address, "--home", str(home)]
    raise typer.Exit(run(premises, demo=demo, stay=not once))


@app.command(rich_help_panel=TRY)
@sentence
def demo(
    url: Annotated[str, typer.Option(help="A running sandbox gateway.")] = "http://127.0.0.1:8080",
    home: Home = HOME,
    parking_day: Annotated[Path | None, typer.Option(help="Free spaces of car parks through a day (CSV).")] = None,
    purchases: Annotated[Path | None, typer.Option(help="Purchases of an online shop's customers.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every session and customer, not 2,000 of each.")] = False,
) -> None:
    """Drive one partner's whole journey through a running sandbox, and check every step; status 0 if all held.

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
def reload(home: Home = HOME) -> None:
    """Let the gateway of HOME serve with the version that is installed now, without refusing anybody.

    New workers start, and once they are ready, the old ones answer what they have accepted and end. Run
    `parasol migrate` before, if the new version needs it. Exit status 2 when the old ones had to stay.
    """
    from gateway.renewal import renew

    typer.echo(renew(home))


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
def diff(folder: Folder = Path(), home: Home = HOME, as_json: AsJson = False) -> None:
    """Show what `apply` would change: each document added or changed, with every field's old and new value.

    Exit status 1 when there is a difference, so that a pipeline can tell drift; what is in force and not in the folder
    is one too.
    """
    from gateway.partners.apply import plan
    from gateway.routes import POLICY_OPERATIONS

    found = with_database(home, lambda database: plan(database, folder, POLICY_OPERATIONS, now_ms=now_ms()))
    _show(found, as_json=as_json)
    raise typer.Exit(1 if found.steps or found.extra else 0)


@app.command(rich_help_panel=OPERATE)
@sentence
def apply(
    folder: Folder = Path(),
    home: Home = HOME,
    remove: Annotated[bool, typer.Option("--remove", help="Withdraw what is in force and not in FOLDER.")] = False,
    as_json: AsJson = False,
    *,
    reason: Why,
) -> None:
    """Put partners/ and policies/ into force as new versions, all or nothing; every worker knows within a second.

    What FOLDER does not have stays in force unless --remove is given. In a sandbox a new partner gets its keys at once,
    in HOME/sandbox/.
    """
    from gateway.provision import apply_to

    settings = _settings_of(home)
    done = with_database(home, lambda database: apply_to(database, folder, settings, remove=remove, actor=ACTOR,
                                                         reason=reason))  # fmt: skip
    _show(done, as_json=as_json)


def _show(plan: "Plan", *, as_json: bool) -> None:
    from gateway.jsonio import encode
    from gateway.partners.plan_table import members, render

    if as_json:
        typer.echo(encode(members(plan)).decode())
    else:
        Console().print(render(plan))


add_bank_commands(app, panel=OPERATE)
app.add_typer(audit_commands, name="audit", rich_help_panel=CHECK)


@app.command(rich_help_panel=CHECK)
def version() -> None:
    """Say which Parasol this is."""
    typer.echo(__version__)


def _settings_of(home: Path) -> Settings:
    """Without a database named, that of a sandbox; a named one is a sandbox's only where PARASOL_SANDBOX says so."""
    given = read_settings()
    return msgspec.structs.replace(given, home=str(home.absolute()), sandbox=given.sandbox or not given.database_url)


def main() -> None:
    """The `parasol` command."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
