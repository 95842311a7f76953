"""`parasol apply` and `diff`: what the folder says against what is in force, and new versions in one transaction."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway import audit
from gateway.database import Connection, Database
from gateway.database.changes import announce
from gateway.document import DocumentInvalid
from gateway.partners import store
from gateway.partners.folder import AgreedDocument, load_folder
from gateway.partners.plan import Plan, PlannedDocument, Step, differences
from gateway.partners.store import NewVersion, Version

_Name = tuple[str, str, int]


async def plan(database: Database, folder: Path, operations: frozenset[str]) -> Plan:
    """What `apply` would do now. `operations`: every id that a policy may name. Raises DocumentInvalid."""
    documents = tuple(load_folder(folder, operations).documents())
    async with database.transaction() as conn:
        return await _compare(conn, documents)


async def apply(database: Database, folder: Path, operations: frozenset[str], *, actor: str, now_ms: int) -> Plan:
    """Write a new version of whatever differs, all or nothing; returns what was done. Raises DocumentInvalid.

    Applying the same folder again writes nothing. What the folder no longer has is withdrawn; contracts stay.
    """
    documents = tuple(load_folder(folder, operations).documents())
    async with database.transaction() as conn:
        await store.lock_documents(conn)
        done = await _compare(conn, documents)
        for step in done.steps:
            await _write(conn, step, actor=actor, now_ms=now_ms)
        for step in done.steps:  # after the audit: everybody takes the two locks in this order
            await announce(conn, step.kind, step.id, now_ms=now_ms)
    return done


async def _compare(conn: Connection, documents: Sequence[AgreedDocument]) -> Plan:
    versions = await store.latest_versions(conn)
    bodies = await store.read_bodies(conn, [version.name for version in versions])
    planned = [_step(document, versions, bodies) for document in documents]
    wanted = {(document.kind, document.id) for document in documents}
    planned += [
        PlannedDocument(
            Step.REMOVE, v.kind, v.id, version=v.version + 1, partner_id=v.partner_id, body=bodies[v.name],
            sha256=v.sha256,
        )
        for v in versions
        if v.kind != "contract" and not v.withdrawn and (v.kind, v.id) not in wanted
    ]  # fmt: skip
    return Plan(tuple(planned))


def _step(document: AgreedDocument, versions: Sequence[Version], bodies: Mapping[_Name, Any]) -> PlannedDocument:
    same = [version for version in versions if (version.kind, version.id) == (document.kind, document.id)]
    if document.version is not None:
        return _contract_step(document, document.version, same, bodies)
    last = same[-1] if same else None
    if last is None or last.withdrawn:
        return _planned(Step.ADD, document, version=last.version + 1 if last else 1)
    if last.sha256 == document.sha256:
        return _planned(Step.KEEP, document, version=last.version)
    return _planned(Step.CHANGE, document, version=last.version + 1, before=bodies[last.name])


def _contract_step(
    document: AgreedDocument, version: int, applied: Sequence[Version], bodies: Mapping[_Name, Any]
) -> PlannedDocument:
    """A version is what was agreed and what settled days refer to: it is added once, in order, and never changed."""
    if applied and applied[0].partner_id != document.partner_id:
        owner = applied[0].partner_id
        raise DocumentInvalid(document.file, "$.contract.id", f"is the id of a contract of {owner}")
    same = next((each for each in applied if each.version == version), None)
    if same is not None and same.sha256 == document.sha256:
        return _planned(Step.KEEP, document, version=version)
    if same is not None:
        changed = next(iter(differences(bodies[same.name], document.body)), None)
        raise DocumentInvalid(
            document.file, changed.key if changed else "$",
            f"differs from version {version} as it was applied, and an applied version never changes; "
            f"write the new terms as version {applied[-1].version + 1}",
        )  # fmt: skip
    if applied and version < applied[-1].version:
        last = applied[-1].version
        raise DocumentInvalid(
            document.file, "$.contract.version", f"is {version}, but version {last} has been applied already"
        )
    return _planned(Step.ADD, document, version=version)


def _planned(
    step: Step, document: AgreedDocument, *, version: int, before: Mapping[str, Any] | None = None
) -> PlannedDocument:
    return PlannedDocument(
        step, document.kind, document.id, version=version, partner_id=document.partner_id, body=document.body,
        sha256=document.sha256, differences=tuple(differences(before, document.body)) if before is not None else (),
    )  # fmt: skip


async def _write(conn: Connection, step: PlannedDocument, *, actor: str, now_ms: int) -> None:
    new = NewVersion(
        step.kind, step.id, step.version, step.partner_id, step.body, step.sha256, withdrawn=step.step is Step.REMOVE
    )
    await store.insert_version(conn, new, actor=actor, now_ms=now_ms)
    detail = {
        "step": step.step.value,
        "version": step.version,
        "sha256": step.sha256.hex(),
        "changed": [[each.key, each.before, each.after] for each in step.differences],
    }
    subject = f"{step.kind} {step.id}"
    await audit.record(conn, actor=actor, action="document.apply", subject=subject, detail=detail, now_ms=now_ms)
