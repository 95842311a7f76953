"""`parasol audit …`: is the trail whole?"""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.command import HOME, Home, sentence, with_database

if TYPE_CHECKING:
    from gateway.database import Database

Noted = Annotated[
    list[str] | None,
    typer.Option("--head", metavar="NUMBER:HASH", help="A row that must be there, as it was noted elsewhere."),
]
audit_commands = typer.Typer(help="The audit trail.", no_args_is_help=True)


@audit_commands.callback()
def commands() -> None:
    """The audit trail."""


@audit_commands.command("verify")
@sentence
def verify_trail(home: Home = HOME, noted: Noted = None) -> None:
    """Recompute the audit trail against every sealed day: a changed, missing or cut-off row is named.

    Rows after the last seal are held by nothing but a head that was kept elsewhere: the log has one a minute
    (`audit_head`), and --head takes it. Exit status 1 when something is not as it was.
    """
    from gateway.audit import AuditChainBroken
    from gateway.keyring import Keyring, read_kek
    from gateway.settlement.audit_anchor import AuditVerdict, verify_audit

    heads = dict(map(_read_head, noted or ()))

    async def work(database: "Database") -> AuditVerdict:
        keyring = Keyring(read_kek(home, make=False))
        async with database.connection() as conn:
            await keyring.load(conn)
        return await verify_audit(database, keyring, noted=heads)

    try:
        found = with_database(home, work)
    except AuditChainBroken as broken:
        typer.echo(f"Broken: {broken}.", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"Whole: {found.rows} rows, held by the heads of {found.days} sealed days.")


@audit_commands.command("head")
@sentence
def show_head(home: Home = HOME) -> None:
    """Say the trail's last row as NUMBER:HASH, to be kept elsewhere; see `parasol audit verify --head`."""
    from gateway.audit import head

    async def work(database: "Database") -> str:
        async with database.connection() as conn:
            found = await head(conn)
        return f"{found[0]}:{found[1].hex()}" if found else "0:" + "0" * 64

    typer.echo(with_database(home, work))


def _read_head(text: str) -> tuple[int, bytes]:
    if not re.fullmatch(r"[0-9]{1,18}:[0-9a-f]{64}", text, re.ASCII):
        raise typer.BadParameter(f"{text!r} is not NUMBER:HASH")
    number, _, digest = text.partition(":")
    return int(number), bytes.fromhex(digest)
