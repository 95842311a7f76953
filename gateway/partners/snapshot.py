"""What every worker knows without asking: a frozen picture of partners, apps, policies, contracts and revocations.

A request reads one Snapshot from start to end. The keeper swaps in a new one when the change feed says so. Documents
are compiled once a version; one that this program cannot read is counted and holds nothing else up: a suspension must
bite whatever state a neighbour's file is in. Of a partner or a policy the last good version stays in force. A contract
version that cannot be read stops that partner's pricing from its start on, as any other terms would be the wrong ones.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from gateway import metrics
from gateway.clock import now_ms, rfc3339
from gateway.database import Connection, Database
from gateway.database.changes import Change, latest_seq
from gateway.document import DocumentInvalid
from gateway.partners import store
from gateway.partners.contract import Contract, fingerprint
from gateway.partners.contract_rules import from_document
from gateway.partners.partner import App, Partner, PartnerState
from gateway.partners.partner_file import PartnerTerms, compile_partner, partner_terms
from gateway.partners.recording import PICTURE_LIMIT_S
from gateway.partners.store import Version
from gateway.policies.policy import Policy
from gateway.policies.policy_file import DEFAULT, PolicyTerms, compile_policy, policy_terms
from gateway.refusal import Refusal

log = structlog.get_logger(__name__)
DOOR_LIMIT_S = 5.0  # a suspension must bite: who has not heard for so long serves nobody
assert DOOR_LIMIT_S < PICTURE_LIMIT_S, "settlement counts on the longer one"
_KINDS = frozenset(("partner", "policy", "contract", "app_key", "grant"))  # changes that a snapshot shows
_READERS: dict[str, Callable[..., Any]] = {
    "partner": partner_terms,
    "policy": policy_terms,
    "contract": lambda body, *, name: from_document(body, file=name),
}


class TermsUnreadable(Refusal):
    """Your contract has a version for that moment that this gateway cannot read yet. We know; try again later."""

    status, code, ob_code, outcome = 503, "terms_unreadable", "D033", "gateway_error"
    title = "The terms of that moment cannot be read"


class PictureTooOld(Refusal):
    """This worker has not heard for 5 seconds who may do what under which terms, so it does nothing. Try again."""

    status, ob_status = 503, 500  # the standard's files know no 503
    code, ob_code, outcome = "configuration_stale", "U000", "gateway_error"
    title = "The gateway cannot tell what is in force"


@dataclass(frozen=True, slots=True)
class UnreadableTerms:
    """The version of a partner that cannot be read; of several, the one that starts first."""

    contract_id: str
    version: int
    starts_ms: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`generation` is the change feed's `seq` that the picture holds; `policies` has each partner's own, compiled."""

    generation: int
    partners: Mapping[str, Partner]
    apps: Mapping[str, App]  # by client_id
    policies: Mapping[str, Policy]  # by partner_id; absent = everything denied
    contracts: Mapping[str, tuple[Contract, ...]]  # by partner_id, as recorded, all currencies; only what can be read
    revoked_grants: frozenset[str]
    unreadable: Mapping[str, UnreadableTerms] = field(default_factory=dict)  # by partner_id

    def contract_at(self, partner_id: str, occurred_ms: int) -> Contract | None:
        """The version whose term holds that instant; of several, the latest. Never today's terms for an old fact.

        Raises TermsUnreadable from the start of a version that cannot be read on, also after its end: what its funders
        and customers had used of their caps by then is part of every later price.
        """
        unreadable = self.unreadable.get(partner_id)
        if unreadable is not None and occurred_ms >= unreadable.starts_ms:
            raise TermsUnreadable(
                f"Version {unreadable.version} of your contract, from {rfc3339(unreadable.starts_ms)} on, "
                "cannot be read here yet. The bank has been told; try again later"
            )
        versions = self.contracts.get(partner_id, ())
        return next((contract for contract in reversed(versions) if contract.in_force(occurred_ms)), None)

    def contract_version(self, partner_id: str, version: int) -> Contract:
        """The version that a fact names. Raises TermsUnreadable where this program cannot read it."""
        found = next((c for c in self.contracts.get(partner_id, ()) if c.version == version), None)
        if found is None:
            raise TermsUnreadable(f"Version {version} of your contract cannot be read here. Try again later")
        return found


class SnapshotKeeper:
    """One instance a worker. Start the change feed, `load`, and subscribe `refresh` to the feed.

    `age_s` says how long ago the picture was surely current: a suspension must not wait for a worker that is cut off
    (DOOR_LIMIT_S), and settlement counts on it that nobody prices by one older than PICTURE_LIMIT_S (recording.py).
    """

    def __init__(self, database: Database, *, age_s: Callable[[], float] = lambda: 0.0) -> None:
        self._database = database
        self._age_s = age_s
        self._documents = CompiledDocuments()
        self._current: Snapshot | None = None

    @property
    def current(self) -> Snapshot:
        """Raises PictureTooOld."""
        assert self._current is not None, "load comes before the first request"
        if self._age_s() > DOOR_LIMIT_S:
            raise PictureTooOld(headers=(("retry-after", "1"),))
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
            assert self._current is not None, "load comes before the feed"
            self._swap(replace(self._current, generation=changes[-1].seq, revoked_grants=revoked))
        elif kinds:
            await self.load()

    def _swap(self, fresh: Snapshot) -> None:
        if self._current is None or fresh.generation >= self._current.generation:
            self._current = fresh
            metrics.gauge("parasol_config_generation", fresh.generation)
            for partner_id in fresh.unreadable:  # until this process ends: neither rows nor readers ever change
                metrics.gauge("parasol_terms_unreadable", 1, partner=partner_id)


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
        if version.kind == "contract":
            return _as_recorded(version, terms)
        if terms is None:
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


def _as_recorded(version: Version, contract: Contract | None) -> Contract | None:
    """The contract, if it says to this program exactly what was agreed and sealed; if not, somebody is told."""
    if contract is not None and fingerprint(contract) == version.sha256:
        return contract
    log.error(
        "terms_unreadable", partner_id=version.partner_id, contract_id=version.id, contract_version=version.version,
        reason=f"no pricing from {rfc3339(version.starts_ms or 0)} on",
    )  # fmt: skip
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
    contracts = documents.of("contract", versions)
    return Snapshot(
        generation=generation,
        partners=partners,
        apps={app.client_id: app for partner in partners.values() for app in partner.apps},
        policies=_policies(documents.of("partner", versions), documents.of("policy", versions)),
        contracts=_contracts(contracts, versions),
        revoked_grants=await store.revoked_grants(conn, now_ms=now_ms()),
        unreadable=_unreadable(contracts, versions),
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


def _unreadable(
    contracts: Mapping[tuple[str, int], Contract], versions: Sequence[Version]
) -> dict[str, UnreadableTerms]:
    """By partner id, the first start of what is recorded and cannot be read."""
    found: dict[str, UnreadableTerms] = {}
    for version in versions:
        if version.kind != "contract" or (version.id, version.version) in contracts:
            continue
        assert version.partner_id is not None
        assert version.starts_ms is not None, "a contract's row has its term"
        known = found.get(version.partner_id)
        if known is None or version.starts_ms < known.starts_ms:
            found[version.partner_id] = UnreadableTerms(version.id, version.version, version.starts_ms)
    return found
