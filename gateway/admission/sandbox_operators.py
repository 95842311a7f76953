"""Sandbox only: two makers and two checkers, their keys in HOME/sandbox/operators.json."""

from pathlib import Path

from msgspec import Struct

from gateway.admission.operators import enrol, new_operator_key
from gateway.call import Operator
from gateway.database import Database
from gateway.partners.credential_file import read_credentials, write_credentials
from gateway.partners.sandbox_keys import FOLDER

REASON = "the sandbox starts with its operators"
PEOPLE = (
    Operator("ops-maker", "First Maker", "maker"),
    Operator("ops-checker", "First Checker", "checker"),
    Operator("ops-maker-2", "Second Maker", "maker"),
    Operator("ops-checker-2", "Second Checker", "checker"),
)


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """One operator of the file; `key` goes into `Authorization: Bearer`."""

    id: str
    name: str
    role: str
    key: str

    def __repr__(self) -> str:
        return f"Entry({self.id})"


async def ensure_sandbox_operators(database: Database, home: Path, *, now_ms: int) -> Path:
    """The file is the truth: its keys are enrolled in whatever database is there. Safe to run again."""
    path = home / FOLDER / "operators.json"
    before = {entry.id: entry for entry in read_credentials(path, list[Entry]) or []}
    entries = [before.get(person.operator_id) or _entry(person) for person in PEOPLE]
    if entries != list(before.values()):
        write_credentials(path, entries)
    async with database.transaction() as conn:
        for person, entry in zip(PEOPLE, entries, strict=True):
            await enrol(conn, person, entry.key, actor="sandbox", reason=REASON, now_ms=now_ms)
    return path


def _entry(person: Operator) -> Entry:
    return Entry(person.operator_id, person.name, person.role, new_operator_key())
