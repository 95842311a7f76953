"""What the folder says against what is in force: a pure comparison, by kind and id."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from gateway.document import DocumentInvalid
from gateway.partners.contract import Contract
from gateway.partners.folder import AgreedDocument
from gateway.partners.plan import Plan, PlannedDocument, Step, differences, told
from gateway.partners.public_key import thumbprint
from gateway.partners.recording import check_recordable, term_told
from gateway.partners.store import Version

Name = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Applied:
    """What the database has, and the business day and the moment that new versions would be recorded in."""

    versions: Sequence[Version]  # by kind, id and version: the last of partners and policies, all of contracts
    day: date
    now_ms: int
    last: Mapping[tuple[str, str], Version] = field(init=False)
    by_name: Mapping[Name, Version] = field(init=False)
    contracts_of: Mapping[str, Sequence[Version]] = field(init=False)  # by partner id

    def __post_init__(self) -> None:
        contracts: dict[str, list[Version]] = defaultdict(list)
        for version in self.versions:
            if version.kind == "contract" and version.partner_id is not None:
                contracts[version.partner_id].append(version)
        object.__setattr__(self, "last", {(version.kind, version.id): version for version in self.versions})
        object.__setattr__(self, "by_name", {version.name: version for version in self.versions})
        object.__setattr__(self, "contracts_of", contracts)

    def near(self, contract_id: str, partner_id: str) -> list[Version]:
        """The contract versions that a new one has to do with: its partner's, and that of its id."""
        own = list(self.contracts_of.get(partner_id, ()))
        namesake = self.last.get(("contract", contract_id))
        return own if namesake is None or namesake.partner_id == partner_id else [namesake, *own]

    def unlisted(self, documents: Sequence[AgreedDocument]) -> list[Version]:
        """Partners and policies in force that the folder does not have."""
        wanted = {(document.kind, document.id) for document in documents}
        return [
            version
            for version in self.versions
            if version.kind != "contract" and not version.withdrawn and (version.kind, version.id) not in wanted
        ]


def bodies_needed(documents: Sequence[AgreedDocument], applied: Applied) -> list[Name]:
    """Of what differs, and of what only the database has; equal documents need none."""
    needed = [version.name for version in applied.unlisted(documents)]
    for document in documents:
        before = _same_version(document, applied) or applied.last.get((document.kind, document.id))
        if before is not None and before.sha256 != document.sha256:
            needed.append(before.name)
    return needed


def compare(documents: Sequence[AgreedDocument], applied: Applied, *, bodies: Mapping[Name, Any], remove: bool) -> Plan:
    """What applying would do. `remove`: withdraw what the folder does not have. Raises DocumentInvalid."""
    planned = [_step(document, applied, bodies) for document in documents]
    extra = applied.unlisted(documents)
    if not remove:
        _check_names_are_free(documents, [bodies[version.name] for version in extra if version.kind == "partner"])
    planned += [_extra(version, bodies[version.name], remove=remove) for version in extra]
    return Plan(tuple(_with_notes(planned)))


def _extra(version: Version, body: Any, *, remove: bool) -> PlannedDocument:
    return PlannedDocument(
        Step.REMOVE if remove else Step.EXTRA, version.kind, version.id,
        version=version.version + 1 if remove else version.version, partner_id=version.partner_id, body=body,
        sha256=version.sha256, note="" if remove else "stays in force; `parasol apply --remove` withdraws it",
    )  # fmt: skip


def _same_version(document: AgreedDocument, applied: Applied) -> Version | None:
    """Of a contract: the version of that number, if it is this partner's."""
    if document.contract is None:
        return None
    same = applied.by_name.get((document.kind, document.id, document.contract.version))
    return same if same is not None and same.partner_id == document.partner_id else None


def _step(document: AgreedDocument, applied: Applied, bodies: Mapping[Name, Any]) -> PlannedDocument:
    if document.contract is not None:
        return _contract_step(document, document.contract, applied, bodies=bodies)
    last = applied.last.get((document.kind, document.id))
    if last is None or last.withdrawn:
        return _planned(Step.ADD, document, version=last.version + 1 if last else 1)
    if last.sha256 == document.sha256:
        return _planned(Step.KEEP, document, version=last.version)
    return _planned(Step.CHANGE, document, version=last.version + 1, before=bodies[last.name])


def _contract_step(
    document: AgreedDocument, contract: Contract, applied: Applied, *, bodies: Mapping[Name, Any]
) -> PlannedDocument:
    """A version is what was agreed and what settled days refer to: it is added once, in order, and never changed."""
    assert document.partner_id is not None, "a contract lies in its partner's folder"
    same, last = _same_version(document, applied), applied.last.get((document.kind, document.id))
    if same is not None:
        assert last is not None
        _check_unchanged(document, same, last, bodies=bodies)
        return _planned(Step.KEEP, document, version=same.version)
    check_recordable(
        contract, file=document.file, partner_id=document.partner_id,
        applied=applied.near(document.id, document.partner_id), day=applied.day, now_ms=applied.now_ms,
    )  # fmt: skip
    return _planned(
        Step.ADD, document, version=contract.version, before=bodies.get(last.name) if last is not None else None
    )


def _check_unchanged(document: AgreedDocument, same: Version, last: Version, *, bodies: Mapping[Name, Any]) -> None:
    if same.sha256 == document.sha256:
        return
    changed = list(differences(bodies[same.name], document.body))
    raise DocumentInvalid(
        document.file, changed[0].key if changed else "$",
        f"differs from version {same.version} as it was applied, and an applied version never changes; "
        f"write the new terms as version {last.version + 1}. What differs: {'; '.join(map(told, changed))}",
    )  # fmt: skip


def _check_names_are_free(documents: Sequence[AgreedDocument], kept: Sequence[Mapping[str, Any]]) -> None:
    """A partner that stays in force without a file keeps its client ids and keys: nobody else signs in as its app."""
    if not kept:
        return
    taken = {name: body["partner"]["id"] for body in kept for name in _client_names(body)}
    for document in documents:
        for name in _client_names(document.body) if document.kind == "partner" else ():
            if (owner := taken.get(name)) is not None:
                raise DocumentInvalid(
                    document.file, "$.app",
                    f"{name!r} is that of {owner}, which is in force and not in this folder; `parasol apply --remove` "
                    "withdraws it",
                )  # fmt: skip


def _client_names(body: Mapping[str, Any]) -> Iterator[str]:
    """Client ids, and the thumbprints of keys in the file."""
    for app in body.get("app", ()):
        yield app["client_id"]
        yield from map(thumbprint, app.get("keys", ()))


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
