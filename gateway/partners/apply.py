"""`parasol apply` and `diff`: what the folder says against what is in force, and new versions in one transaction.

Reading and comparing happens before the transaction, which holds the locks that everybody's writing needs; it looks
only whether somebody has applied meanwhile. A contract version is recorded with its `contract.effective`, so that
settlement knows it from the same moment.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from gateway import audit
from gateway.clock import local_day
from gateway.database import Connection, Database
from gateway.database.changes import announce_all
from gateway.events.outbox import BANK_ZONE, Event, append, open_day
from gateway.partners import store
from gateway.partners.compare import Applied, bodies_needed, compare
from gateway.partners.contract import term_ms
from gateway.partners.folder import AgreedDocument, folder_digest, load_folder
from gateway.partners.plan import Plan, PlannedDocument, Step
from gateway.partners.recording import APPLY_LIMIT_S, effective_event
from gateway.partners.store import NewVersion, Version
from gateway.partners.turns import lasting


@dataclass(frozen=True, slots=True)
class _Compared:
    """A plan, and what it was made against: the number of versions, which only grows, and the day that was open."""

    plan: Plan
    versions: int
    day: date


async def plan(database: Database, folder: Path, operations: frozenset[str], *, now_ms: int) -> Plan:
    """What `apply` would do now. `operations`: every id that a policy may name. Raises DocumentInvalid."""
    if (unchanged := await _as_applied(database, folder_digest(folder, operations))) is not None:
        return unchanged
    with lasting():
        documents = tuple(load_folder(folder, operations).documents())
    return (await _compared(database, documents, now_ms=now_ms, remove=False)).plan


async def apply(
    database: Database,
    folder: Path,
    operations: frozenset[str],
    *,
    actor: str,
    reason: str,
    now_ms: int,
    remove: bool = False,
) -> Plan:
    """Write a new version of whatever differs, all or nothing; returns what was done. Raises DocumentInvalid.

    Applying the same folder again writes nothing. What the folder does not have is withdrawn where `remove` says so,
    and stays in force otherwise; contracts always stay.
    """
    with lasting():
        async with asyncio.timeout(APPLY_LIMIT_S):
            digest = folder_digest(folder, operations)
            if (unchanged := await _as_applied(database, digest)) is not None:
                return unchanged
            documents = tuple(load_folder(folder, operations).documents())
            found = await _compared(database, documents, now_ms=now_ms, remove=remove)
            async with database.transaction() as conn:
                await store.lock_documents(conn)
                day = await append(conn, (), now_ms=now_ms)  # held open until the transaction ends
                if (await store.count_versions(conn), day) != (found.versions, found.day):  # somebody was faster
                    found = await _compare(conn, documents, day=day, now_ms=now_ms, remove=remove)
                await _write(conn, found.plan.steps, actor=actor, reason=reason, now_ms=now_ms)
                if not found.plan.extra and folder_digest(folder, operations) == digest:
                    await store.remember_folder(conn, digest, now_ms=now_ms)
    return found.plan


async def _as_applied(database: Database, digest: bytes) -> Plan | None:
    """The plan of a folder that was applied last and not changed since; None: it has to be read."""
    async with database.connection() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        if await store.remembered_folder(conn) != (digest, await store.count_versions(conn)):
            return None
        versions = await store.latest_versions(conn)
    return Plan(tuple(_kept(version) for version in versions if not version.withdrawn))


def _kept(version: Version) -> PlannedDocument:
    return PlannedDocument(
        Step.KEEP, version.kind, version.id, version=version.version, partner_id=version.partner_id, body={},
        sha256=version.sha256,
    )  # fmt: skip


async def _compared(database: Database, documents: Sequence[AgreedDocument], *, now_ms: int, remove: bool) -> _Compared:
    """Against one state of the database, without a lock."""
    async with database.connection() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        day = await open_day(conn, local_day(now_ms, BANK_ZONE))
        return await _compare(conn, documents, day=day, now_ms=now_ms, remove=remove)


async def _compare(
    conn: Connection, documents: Sequence[AgreedDocument], *, day: date, now_ms: int, remove: bool
) -> _Compared:
    applied = Applied(await store.latest_versions(conn), day, now_ms)
    bodies = await store.read_bodies(conn, bodies_needed(documents, applied))
    made = compare(documents, applied, bodies=bodies, remove=remove)
    return _Compared(made, await store.count_versions(conn), day)


async def _write(conn: Connection, steps: Sequence[PlannedDocument], *, actor: str, reason: str, now_ms: int) -> None:
    """Documents, day, audit, changes: everybody takes the locks in this order."""
    await store.insert_versions(conn, [_new_version(step) for step in steps], actor=actor, now_ms=now_ms)
    await append(conn, [event for step in steps for event in _events(step, now_ms=now_ms)], now_ms=now_ms)
    entries = [(f"{step.kind} {step.id}", {**_detail(step), "reason": reason}) for step in steps]
    await audit.record_all(conn, entries, actor=actor, action="document.apply", now_ms=now_ms)
    await announce_all(conn, [(step.kind, step.id) for step in steps], now_ms=now_ms)


def _new_version(step: PlannedDocument) -> NewVersion:
    starts_ms, ends_ms = term_ms(step.contract) if step.contract else (None, None)
    return NewVersion(
        step.kind, step.id, step.version, step.partner_id, step.body, step.sha256,
        withdrawn=step.step is Step.REMOVE, starts_ms=starts_ms, ends_ms=ends_ms,
        currency=step.contract.currency if step.contract else None,
    )  # fmt: skip


def _events(step: PlannedDocument, *, now_ms: int) -> Iterator[Event]:
    if step.contract is not None:
        assert step.partner_id is not None, "a contract lies in its partner's folder"
        yield effective_event(step.contract, partner_id=step.partner_id, sha256=step.sha256, now_ms=now_ms)


def _detail(step: PlannedDocument) -> dict[str, Any]:
    return {
        "step": step.step.value,
        "version": step.version,
        "sha256": step.sha256.hex(),
        "changed": [[each.key, each.before, each.after] for each in step.differences],
    }
