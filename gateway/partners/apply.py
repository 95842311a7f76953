"""`parasol apply` and `diff`: what the folder says against what is in force, and new versions in one transaction.

A contract version is recorded with its `contract.effective`, so that settlement knows it from the same moment.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from gateway import audit
from gateway.database import Connection, Database
from gateway.database.changes import announce
from gateway.document import DocumentInvalid
from gateway.events.outbox import Event, append
from gateway.partners import store
from gateway.partners.contract import Contract, term_ms
from gateway.partners.folder import AgreedDocument, load_folder
from gateway.partners.plan import Plan, PlannedDocument, Step, differences
from gateway.partners.recording import APPLY_LIMIT_S, check_recordable, effective_event, term_told
from gateway.partners.store import NewVersion, Version

_Name = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class _Applied:
    """What the database has, and the business day and the moment that new versions would be recorded in."""

    versions: Sequence[Version]
    bodies: Mapping[_Name, Any]
    day: date
    now_ms: int


async def plan(database: Database, folder: Path, operations: frozenset[str], *, now_ms: int) -> Plan:
    """What `apply` would do now. `operations`: every id that a policy may name. Raises DocumentInvalid."""
    documents = tuple(load_folder(folder, operations).documents())
    async with database.transaction() as conn:
        return _compare(documents, await _read_applied(conn, now_ms=now_ms))


async def apply(database: Database, folder: Path, operations: frozenset[str], *, actor: str, now_ms: int) -> Plan:
    """Write a new version of whatever differs, all or nothing; returns what was done. Raises DocumentInvalid.

    Applying the same folder again writes nothing. What the folder no longer has is withdrawn; contracts stay.
    """
    async with asyncio.timeout(APPLY_LIMIT_S), database.transaction() as conn:
        documents = tuple(load_folder(folder, operations).documents())
        await store.lock_documents(conn)
        done = _compare(documents, await _read_applied(conn, now_ms=now_ms))
        for step in done.steps:
            await store.insert_version(conn, _new_version(step), actor=actor, now_ms=now_ms)
        await append(conn, [event for step in done.steps for event in _events(step, now_ms=now_ms)], now_ms=now_ms)
        for step in done.steps:  # documents, day, audit, changes: everybody takes the locks in this order
            await _audit(conn, step, actor=actor, now_ms=now_ms)
        for step in done.steps:
            await announce(conn, step.kind, step.id, now_ms=now_ms)
    return done


async def _read_applied(conn: Connection, *, now_ms: int) -> _Applied:
    """Without an event `append` only finds the day that is open, and holds it open until the transaction ends."""
    versions = await store.latest_versions(conn)
    bodies = await store.read_bodies(conn, [version.name for version in versions])
    return _Applied(versions, bodies, await append(conn, (), now_ms=now_ms), now_ms)


def _compare(documents: Sequence[AgreedDocument], applied: _Applied) -> Plan:
    planned = [_step(document, applied) for document in documents]
    wanted = {(document.kind, document.id) for document in documents}
    planned += [
        PlannedDocument(
            Step.REMOVE, v.kind, v.id, version=v.version + 1, partner_id=v.partner_id, body=applied.bodies[v.name],
            sha256=v.sha256,
        )
        for v in applied.versions
        if v.kind != "contract" and not v.withdrawn and (v.kind, v.id) not in wanted
    ]  # fmt: skip
    return Plan(tuple(_with_notes(planned)))


def _step(document: AgreedDocument, applied: _Applied) -> PlannedDocument:
    if document.contract is not None:
        return _contract_step(document, document.contract, applied)
    last = next((v for v in reversed(applied.versions) if (v.kind, v.id) == (document.kind, document.id)), None)
    if last is None or last.withdrawn:
        return _planned(Step.ADD, document, version=last.version + 1 if last else 1)
    if last.sha256 == document.sha256:
        return _planned(Step.KEEP, document, version=last.version)
    return _planned(Step.CHANGE, document, version=last.version + 1, before=applied.bodies[last.name])


def _contract_step(document: AgreedDocument, contract: Contract, applied: _Applied) -> PlannedDocument:
    """A version is what was agreed and what settled days refer to: it is added once, in order, and never changed."""
    assert document.partner_id is not None, "a contract lies in its partner's folder"
    contracts = [version for version in applied.versions if version.kind == "contract"]
    same = next((v for v in contracts if (v.id, v.version) == (document.id, contract.version)), None)
    if same is not None and same.partner_id == document.partner_id:
        _check_unchanged(document, same, applied)
        return _planned(Step.KEEP, document, version=same.version)
    check_recordable(
        contract, file=document.file, partner_id=document.partner_id, applied=contracts, day=applied.day,
        now_ms=applied.now_ms,
    )  # fmt: skip
    return _planned(Step.ADD, document, version=contract.version)


def _check_unchanged(document: AgreedDocument, same: Version, applied: _Applied) -> None:
    if same.sha256 == document.sha256:
        return
    last = max(v.version for v in applied.versions if (v.kind, v.id) == (same.kind, same.id))
    changed = next(iter(differences(applied.bodies[same.name], document.body)), None)
    raise DocumentInvalid(
        document.file, changed.key if changed else "$",
        f"differs from version {same.version} as it was applied, and an applied version never changes; "
        f"write the new terms as version {last + 1}",
    )  # fmt: skip


def _planned(
    step: Step, document: AgreedDocument, *, version: int, before: Mapping[str, Any] | None = None
) -> PlannedDocument:
    return PlannedDocument(
        step, document.kind, document.id, version=version, partner_id=document.partner_id, body=document.body,
        sha256=document.sha256, differences=tuple(differences(before, document.body)) if before is not None else (),
        contract=document.contract,
    )  # fmt: skip


def _with_notes(planned: Sequence[PlannedDocument]) -> Iterator[PlannedDocument]:
    """New contract versions say when they are in force, and which earlier ones they replace."""
    earlier: dict[str, list[Contract]] = defaultdict(list)
    for step in planned:
        if step.contract is None:
            yield step
            continue
        yield replace(step, note=term_told(step.contract, earlier[step.id])) if step.step is Step.ADD else step
        earlier[step.id].append(step.contract)


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


async def _audit(conn: Connection, step: PlannedDocument, *, actor: str, now_ms: int) -> None:
    detail = {
        "step": step.step.value,
        "version": step.version,
        "sha256": step.sha256.hex(),
        "changed": [[each.key, each.before, each.after] for each in step.differences],
    }
    subject = f"{step.kind} {step.id}"
    await audit.record(conn, actor=actor, action="document.apply", subject=subject, detail=detail, now_ms=now_ms)
