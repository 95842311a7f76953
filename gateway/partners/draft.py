"""A draft of the next picture: what was read of some partners, policies and contracts, over what was known before.

A change costs what it names: its versions are read, its new documents compiled, all else is taken over as it stands.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.clock import now_ms
from gateway.database import Connection
from gateway.partners import store
from gateway.partners.compiled import CompiledDocuments
from gateway.partners.contract import Contract
from gateway.partners.partner import App, AppKey, Partner, PartnerState
from gateway.partners.partner_file import PartnerTerms, compile_partner
from gateway.partners.store import Version
from gateway.partners.turns import Turns
from gateway.policies.policy import Policy
from gateway.policies.policy_file import DEFAULT, OwnTerms, PolicyTerms, compile_policy


@dataclass(frozen=True, slots=True)
class UnreadableTerms:
    """The version of a partner that cannot be read; of several, the one that starts first."""

    contract_id: str
    version: int
    starts_ms: int


@dataclass(frozen=True, slots=True)
class Named:
    """What is to be read again. `clients` are apps whose keys changed, `grants` were revoked."""

    policies: Collection[str] = ()
    partners: Collection[str] = ()
    contracts: Collection[str] = ()
    clients: Collection[str] = ()
    grants: Collection[str] = ()


@dataclass(slots=True)
class Draft:
    """What a Snapshot holds, and what is needed to renew a part of it. `own`: each partner's word on its policy."""

    partners: dict[str, Partner] = field(default_factory=dict)
    apps: dict[str, App] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    contracts: dict[str, tuple[Contract, ...]] = field(default_factory=dict)
    unreadable: dict[str, UnreadableTerms] = field(default_factory=dict)
    revoked_until_ms: dict[str, int] = field(default_factory=dict)
    own: dict[str, OwnTerms] = field(default_factory=dict)
    named: dict[str, tuple[int, PolicyTerms]] = field(default_factory=dict)  # policies as agreed, with their version

    def copy(self) -> "Draft":
        """Frozen values are shared; 5,000 partners take a third of a millisecond."""
        return Draft(**{name: dict(getattr(self, name)) for name in self.__slots__})

    async def renew(self, conn: Connection, named: Named, *, documents: CompiledDocuments, turns: Turns) -> None:
        """Read what is named, in the caller's transaction, and put it in place of what was there."""
        if named.policies:
            await self._renew_policies(conn, named.policies, documents=documents, turns=turns)
        owners = {self.apps[client].partner_id for client in named.clients if client in self.apps}
        if partners := {*named.partners, *owners}:
            await self._renew_partners(conn, partners, documents=documents, turns=turns)
        if named.contracts:
            await self._renew_contracts(conn, named.contracts, documents=documents, turns=turns)
        if named.grants:
            self.revoked_until_ms |= await store.revocations(conn, named.grants, now_ms=now_ms())

    def put_states(self, states: Mapping[str, PartnerState]) -> None:
        """Those of partners that are here already; of others it is read with them."""
        for partner_id, state in states.items():
            if (partner := self.partners.get(partner_id)) is not None and partner.state is not state:
                self.partners[partner_id] = replace(partner, state=state)

    async def _renew_policies(
        self, conn: Connection, ids: Collection[str], *, documents: CompiledDocuments, turns: Turns
    ) -> None:
        versions = await store.last_versions(conn, "policy", ids)
        await documents.bring(conn, versions, turns)
        for version in versions:
            terms = documents.of(version)
            self.named.pop(version.id, None)
            if terms is not None:
                self.named[version.id] = (version.version, terms)
        await self._open(self._users(set(ids)), turns)

    async def _renew_partners(
        self, conn: Connection, ids: Collection[str], *, documents: CompiledDocuments, turns: Turns
    ) -> None:
        versions = await store.last_versions(conn, "partner", ids)
        await documents.bring(conn, versions, turns)
        found: list[PartnerTerms] = [terms for v in versions if (terms := documents.of(v)) is not None]
        states = await store.partner_states(conn, ids)
        keys = await store.registered_keys(conn, [app.client_id for terms in found for app in terms.app])
        for partner_id in ids:  # all of the old first: an app may have moved from one to another
            self._forget(partner_id)
        for terms in found:
            self._admit(terms, state=states.get(terms.partner.id, PartnerState.ACTIVE), keys=keys)
            await turns.take()
        await self._open(ids, turns)

    def _forget(self, partner_id: str) -> None:
        before = self.partners.pop(partner_id, None)
        for app in before.apps if before is not None else ():
            if (shown := self.apps.get(app.client_id)) is not None and shown.partner_id == partner_id:
                del self.apps[app.client_id]
        self.own.pop(partner_id, None)

    def _admit(self, terms: PartnerTerms, *, state: PartnerState, keys: Mapping[str, tuple[AppKey, ...]]) -> None:
        partner = compile_partner(terms, state=state, registered=keys)
        self.partners[partner.partner_id] = partner
        self.apps |= {app.client_id: app for app in partner.apps}
        self.own[partner.partner_id] = terms.policy

    # --- policies ----------------------------------------------------------------------------------------------------
    def _users(self, ids: Collection[str]) -> list[str]:
        """The partners under one of these policies; the default is under every one."""
        return [partner_id for partner_id, own in self.own.items() if DEFAULT in ids or own.use in ids]

    async def _open(self, partner_ids: Iterable[str], turns: Turns) -> None:
        """Each partner's own policy. Whoever's policy is not there has none, and is denied everything."""
        plain: dict[str, Policy] = {}  # partners without terms of their own share one
        default = self.named.get(DEFAULT)
        for partner_id in partner_ids:
            own = self.own.get(partner_id)
            self.policies.pop(partner_id, None)
            if own is None or default is None or own.use not in self.named:
                continue
            shared = plain.get(own.use) if own == OwnTerms(use=own.use) else None
            if shared is None:
                version, terms = self.named[own.use]
                shared = compile_policy(default[1], terms, own, version=version)
                if own == OwnTerms(use=own.use):
                    plain[own.use] = shared
            self.policies[partner_id] = shared
            await turns.take()

    # --- contracts ---------------------------------------------------------------------------------------------------
    async def _renew_contracts(
        self, conn: Connection, ids: Collection[str], *, documents: CompiledDocuments, turns: Turns
    ) -> None:
        versions = await store.versions_of_contracts(conn, ids)
        await documents.bring(conn, versions, turns)
        read: dict[str, list[tuple[Version, Any]]] = {}
        for version in versions:
            read.setdefault(partner_of(version), []).append((version, documents.of(version)))
        for partner_id, own in read.items():
            self._agree(partner_id, own)
            await turns.take()

    def _agree(self, partner_id: str, versions: list[tuple[Version, Any]]) -> None:
        """All versions of one partner, oldest first: what can be read, and the first start of what cannot."""
        readable = tuple(contract for _, contract in versions if contract is not None)
        missing = [(starts_of(version), version) for version, contract in versions if contract is None]
        self.contracts.pop(partner_id, None)
        self.unreadable.pop(partner_id, None)
        if readable:
            self.contracts[partner_id] = readable
        if missing:
            starts_ms, version = min(missing, key=lambda each: each[0])
            self.unreadable[partner_id] = UnreadableTerms(version.id, version.version, starts_ms)


def partner_of(version: Version) -> str:
    assert version.partner_id is not None, "a contract's row names its partner"
    return version.partner_id


def starts_of(version: Version) -> int:
    assert version.starts_ms is not None, "a contract's row has its term"
    return version.starts_ms
