"""`parasol audit …`: is the trail whole?"""

from typing import TYPE_CHECKING

import typer

from gateway.command import HOME, Home, sentence, with_database

if TYPE_CHECKING:
    from gateway.database import Database

audit_commands = typer.Typer(help="The audit trail.", no_args_is_help=True)


@audit_commands.callback()
def commands() -> None:
    """The audit trail."""


@audit_commands.command("verify")
@sentence
def verify_trail(home: Home = HOME) -> None:
    """Recompute the audit trail against every sealed day: a changed, missing or cut-off row is named.

    Exit status 1 when something is not as it was.
    """
    from gateway.audit import AuditChainBroken
    from gateway.keyring import Keyring, read_kek
    from gateway.settlement.audit_anchor import AuditVerdict, verify_audit

    async def work(database: "Database") -> AuditVerdict:
        keyring = Keyring(read_kek(home, make=False))
        async with database.connection() as conn:
            await keyring.load(conn)
        return await verify_audit(database, keyring)

    try:
        found = with_database(home, work)
    except AuditChainBroken as broken:
        typer.echo(f"Broken: {broken}.", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"Whole: {found.rows} rows, held by the heads of {found.days} sealed days.")
