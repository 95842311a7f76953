"""`parasol enrol …`: what the bank decides about its own people and keys, each with a reason."""

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from gateway.clock import now_ms
from gateway.command import ACTOR, HOME, Home, Why, sentence, with_database
from gateway.settings import read_settings

if TYPE_CHECKING:
    from gateway.database import Database

NAME_LIMIT = 100  # characters of a person's name


class Role(StrEnum):
    """Of bank operations."""

    MAKER = "maker"
    CHECKER = "checker"


def _as_id(given: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]{1,39}", given):
        raise typer.BadParameter("write 2 to 40 small letters, digits and hyphens, a letter first")
    return given


def _as_name(given: str) -> str:
    if not given.strip() or len(given) > NAME_LIMIT or not given.isprintable():
        raise typer.BadParameter(f"write a name of 1 to {NAME_LIMIT} characters")
    return given


OperatorId = Annotated[
    str, typer.Argument(metavar="ID", help="Like olga-w: small letters, digits, hyphens.", callback=_as_id)
]


@sentence
def enrol(
    operator_id: OperatorId,
    name: Annotated[str, typer.Argument(help="Of the person.", callback=_as_name)],
    role: Annotated[Role, typer.Option(help="Makers ask, checkers agree; nobody checks what they made.")],
    home: Home = HOME,
    *,
    reason: Why,
) -> None:
    """Give a person of bank operations a new key, which is shown once."""
    from gateway.call import Operator
    from gateway.provision import enrol_operator

    person = Operator(operator_id, name, role.value)
    typer.echo(with_database(home, lambda database: enrol_operator(database, person, actor=ACTOR, reason=reason)))


@sentence
def revoke_operator(operator_id: OperatorId, reason: Why, home: Home = HOME) -> None:
    """Shut a person of bank operations out: their key opens nothing any more, within a second. `enrol` lets them in."""
    from gateway.provision import revoke_operator

    if not with_database(home, lambda database: revoke_operator(database, operator_id, actor=ACTOR, reason=reason)):
        raise typer.BadParameter(f"{operator_id} has no key, or it is revoked already")
    typer.echo(f"Revoked {operator_id}.")


@sentence
def rotate_statement_key(reason: Why, home: Home = HOME) -> None:
    """Sign days and statements with the next key; the one of before stays published, and its statements stay true."""
    from gateway.provision import rotate_statement_key

    settings = msgspec.structs.replace(read_settings(), home=str(home.absolute()))
    kid = with_database(home, lambda database: rotate_statement_key(database, settings, actor=ACTOR, reason=reason))
    typer.echo(f"Key {kid} signs statements from now on; see /.well-known/statement-keys.")


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


def add_bank_commands(app: typer.Typer, *, panel: str) -> None:
    """Under their own names, beside the other commands."""
    for command in (enrol, revoke_operator, rotate_statement_key, revoke_key):
        app.command(rich_help_panel=panel)(command)
