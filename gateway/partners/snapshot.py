"""What every worker knows without asking: a frozen picture of partners, apps, policies, contracts and revocations.

A request reads one Snapshot from start to end. The keeper swaps in a new one when the change feed says so. Documents
are compiled once a version; one that this program cannot read leaves the last good one of that name in force, is
counted, and holds nothing else up: a suspension must bite whatever state a neighbour's file is in.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from gateway import metrics
from gateway.clock import now_ms
from gateway.database import Connection, Database
from gateway.database.changes import Change, latest_seq
from gateway.document import DocumentInvalid
from gateway.partners import store
from gateway.partners.contract import Contract
from gateway.partners.contract_rules import from_document
from gateway.partners.partner import App, Partner, PartnerState
from gateway.partners.partner_file import PartnerTerms, compile_partner, partner_terms
from gateway.partners.store import Version
from gateway.policies.policy import Policy
from gateway.policies.policy_file import DEFAULT, PolicyTerms, compile_policy, policy_terms

log = structlog.get_logger(__name__)
_KINDS = frozenset(("partner", "policy", "contract", "app_key", "grant"))  # changes that a snapshot shows
_READERS: dict[str, Callable[..., Any]] = {
    "partner": partner_terms,
    "policy": policy_terms,
    "contract": lambda body, *, name: from_document(body, file=name),
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`generation` is the change feed's `seq` that the picture holds; `policies` has each partner's own, compiled."""

    generation: int
    partners: Mapping[str, Partner]
    apps: Mapping[str, App]  # by client_id
    policies: Mapping[str, Policy]  # by partner_id; absent = everything denied
    contracts: Mapping[str, tuple[Contract, ...]]  # by partner_id, oldest version first
    revoked_grants: frozenset[str]

    def contract_at(self, partner_id: str, occurred_ms: int) -> Contract | None:
        """The version whose term holds that instant; of several, the latest. Never today's terms for an old fact."""
        versions = self.contracts.get(partner_id, ())
        return next((contract for contract in reversed(versions) if contract.in_force(occurred_ms)), None)


class SnapshotKeeper:
    """One instance a worker. Start the change feed, `load`, and subscribe `refresh` to the feed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._documents = CompiledDocuments()
        self._current: Snapshot | None = None

    @property
    def current(self) -> Snapshot:
        assert self._current is not None, "load comes before the first request"
        return self._current

    async def load(self) -> None:
        """Read what is new and swap the whole picture in; never an older one over a newer one."""
        async with self._database.connection() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            fresh = await _read(conn, self._documents)
        self._swap(fresh)

    async def refresh(self, changes: Sequence[Change]) -> None:
        """The change feed's subscriber. Customers revoke all day: that alone does not read the partners again."""
        kinds = {change.kind for change in changes} & _KINDS
        if kinds == {"grant"}:
            async with self._database.connection() as conn:
                revoked = await store.revoked_grants(conn, now_ms=now_ms())
            self._swap(replace(self.current, generation=changes[-1].seq, revoked_grants=revoked))
        elif kinds:
            await self.load()

    def _swap(self, fresh: Snapshot) -> None:
        if self._current is None or fresh.generation >= self._current.generation:
            self._current = fresh
            metrics.gauge("parasol_config_generation", fresh.generation)


class CompiledDocuments:
    """Documents of the versions in force, each read and checked once."""

    def __init__(self) -> None:
        self._terms: dict[tuple[str, str, int], Any] = {}

    async def bring(self, conn: Connection, versions: Sequence[Version]) -> None:
        """Compile what is new here, forget what is not in force any more."""
        missing = [version for version in versions if version.name not in self._terms and not version.withdrawn]
        bodies = await store.read_bodies(conn, [version.name for version in missing]) if missing else {}
        for version in missing:
            self._terms[version.name] = await self._compile(conn, version, bodies[version.name])
        for stale in self._terms.keys() - {version.name for version in versions}:
            del self._terms[stale]

    def of(self, kind: str, versions: Sequence[Version]) -> dict[tuple[str, int], Any]:
        """Terms by (id, version); what could not be read and has no good version before it is left out."""
        found = {(v.id, v.version): self._terms[v.name] for v in versions if v.kind == kind and not v.withdrawn}
        return {name: terms for name, terms in found.items() if terms is not None}

    async def _compile(self, conn: Connection, version: Version, body: Any) -> Any:
        """The terms, or those of the last good version before; a contract's versions never stand for one another."""
        terms = _compiled(version.name, body)
        if terms is None and version.kind != "contract":
            async for earlier, old_body in store.versions_before(conn, version.name):
                if (terms := _compiled((version.kind, version.id, earlier), old_body)) is not None:
                    break
        return terms


def _compiled(name: tuple[str, str, int], body: Any) -> Any:
    kind, identity, version = name
    label = f"{kind} {identity} version {version}"
    try:
        return _READERS[kind](body, name=label)
    except DocumentInvalid as error:
        log.error("document_refused", file=label, key=error.key, reason=error.reason)
        metrics.count("parasol_documents_refused_total", kind=kind)
        return None


async def _read(conn: Connection, documents: CompiledDocuments) -> Snapshot:
    """One consistent picture, in the caller's transaction."""
    generation = await latest_seq(conn)
    versions = await store.latest_versions(conn)
    await documents.bring(conn, versions)
    states, keys = await store.partner_states(conn), await store.registered_keys(conn)
    partners = {
        name: compile_partner(terms, state=states.get(name, PartnerState.ACTIVE), registered=keys)
        for (name, _), terms in documents.of("partner", versions).items()
    }
    return Snapshot(
        generation=generation,
        partners=partners,
        apps={app.client_id: app for partner in partners.values() for app in partner.apps},
        policies=_policies(documents.of("partner", versions), documents.of("policy", versions)),
        contracts=_contracts(documents.of("contract", versions), versions),
        revoked_grants=await store.revoked_grants(conn, now_ms=now_ms()),
    )


def _policies(
    partners: Mapping[tuple[str, int], PartnerTerms], policies: Mapping[tuple[str, int], PolicyTerms]
) -> dict[str, Policy]:
    """Each partner's own, by partner id. A partner whose policy is not there has none, and is denied everything."""
    named = {name: (version, terms) for (name, version), terms in policies.items()}
    if DEFAULT not in named:
        return {}
    _, default = named[DEFAULT]
    return {
        partner_id: compile_policy(
            default, named[terms.policy.use][1], terms.policy, version=named[terms.policy.use][0]
        )
        for (partner_id, _), terms in partners.items()
        if terms.policy.use in named
    }


def _contracts(
    contracts: Mapping[tuple[str, int], Contract], versions: Sequence[Version]
) -> dict[str, tuple[Contract, ...]]:
    """By partner id, oldest version first, as the versions come."""
    found: dict[str, tuple[Contract, ...]] = {}
    for version in versions:
        contract = contracts.get((version.id, version.version))
        if version.kind == "contract" and contract is not None and version.partner_id is not None:
            found[version.partner_id] = (*found.get(version.partner_id, ()), contract)
    return found
