"""What every worker knows without asking: a frozen picture of partners, apps, policies, contracts and revocations.

A request reads one Snapshot from start to end; the keeper swaps in a new one when the change feed says so. A
document that this program cannot read is counted and holds nothing else up: a suspension must bite whatever state a
neighbour's file is in. Of a partner or a policy the last good version stays in force. A contract version that cannot
be read stops that partner's pricing from its start on, as any other terms would be the wrong ones.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway import metrics
from gateway.clock import now_ms, rfc3339
from gateway.database import Connection, Database
from gateway.database.changes import Change, latest_seq
from gateway.partners import store
from gateway.partners.compiled import CompiledDocuments
from gateway.partners.contract import Contract
from gateway.partners.draft import Draft, Named, UnreadableTerms
from gateway.partners.partner import App, Partner
from gateway.partners.recording import PICTURE_LIMIT_S
from gateway.partners.turns import Turns, lasting
from gateway.policies.policy import Policy
from gateway.refusal import Refusal

DOOR_LIMIT_S = 5.0  # a suspension must bite: who has not heard for so long serves nobody
assert DOOR_LIMIT_S < PICTURE_LIMIT_S, "settlement counts on the longer one"
_KINDS = ("partner", "policy", "contract", "app_key", "grant")  # changes that a snapshot shows
PIECE = 128  # names a query, changes a picture: their rows hold the loop for a millisecond or two, a suspension in the
# middle of a great apply waits for one piece


class TermsUnreadable(Refusal):
    """Your contract has a version for that moment that this gateway cannot read yet. We know; try again later."""

    status, code, ob_code, outcome = 503, "terms_unreadable", "D033", "gateway_error"
    retry_after_s = 60  # people of the bank renew the gateway
    title = "The terms of that moment cannot be read"


class PictureTooOld(Refusal):
    """This worker has not heard for 5 seconds who may do what under which terms, so it does nothing. Try again."""

    status, retry_after_s = 503, 1
    code, ob_code, outcome = "configuration_stale", "D033", "gateway_error"
    oauth_error, oauth_status = "temporarily_unavailable", 503
    title = "The gateway cannot tell what is in force"


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
        self._draft = Draft()
        self._current: Snapshot | None = None
        self._one_writer = asyncio.Lock()

    @property
    def current(self) -> Snapshot:
        """Raises PictureTooOld."""
        assert self._current is not None, "load comes before the first request"
        if self._age_s() > DOOR_LIMIT_S:
            raise PictureTooOld
        return self._current

    async def load(self) -> None:
        """Read everything, page by page, and swap the whole picture in; never an older one over a newer one."""
        async with self._one_writer:
            with lasting():
                await self._load()

    async def refresh(self, changes: Sequence[Change]) -> None:
        """The change feed's subscriber: a wake-up. What changed is read from the table, after what the picture holds,
        so it matters neither in which order nor whether at all somebody was told."""
        if not any(change.kind in _KINDS for change in changes):
            return
        async with self._one_writer:
            assert self._current is not None, "load comes before the feed"
            if await self._follow(self._current.generation):
                with lasting():  # a great apply
                    while await self._follow(self._current.generation):
                        pass

    async def _load(self) -> None:
        draft, turns = Draft(), Turns()
        async with self._database.connection() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            generation = await latest_seq(conn)
            for kind in ("policy", "partner", "contract"):  # each refers to those before it
                last = ""
                while page := await store.document_ids(conn, kind, after=last, limit=PIECE):
                    await draft.renew(conn, _all(kind, page), documents=self._documents, turns=turns)
                    last = page[-1]
            draft.revoked_until_ms = await store.revocations(conn, now_ms=now_ms())
        self._swap(draft, generation)

    async def _follow(self, generation: int) -> bool:
        """Swap in a picture with the next piece of what has changed since; False: there is nothing.

        A suspension or a revocation is in the first one, however much was announced before it.
        """
        draft, turns = self._draft.copy(), Turns()
        async with self._database.connection() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            if not await store.changes_join(conn, generation):
                changed = None
            elif changed := await store.changes_after(conn, generation, _KINDS, limit=PIECE):
                await self._renew(conn, draft, changed, generation=generation, turns=turns)
        if changed is None:  # what the table had between is gone
            with lasting():
                await self._load()
            return False
        if changed:
            self._swap(draft, changed[-1].seq)
        return len(changed) == PIECE

    async def _renew(
        self, conn: Connection, draft: Draft, changed: Sequence[Change], *, generation: int, turns: Turns
    ) -> None:
        await draft.renew(conn, _named(changed), documents=self._documents, turns=turns)
        if len(changed) == PIECE:  # more is to come: what takes rights away does not wait for it
            urgent = await store.changes_after(conn, changed[-1].seq, ("app_key", "grant"), limit=PIECE)
            await draft.renew(conn, _named(urgent), documents=self._documents, turns=turns)
            draft.put_states(await store.states_changed_after(conn, generation))

    def _swap(self, draft: Draft, generation: int) -> None:
        if self._current is not None and generation < self._current.generation:
            return
        now = now_ms()
        draft.revoked_until_ms = {grant: until for grant, until in draft.revoked_until_ms.items() if until > now}
        self._draft = draft
        self._current = Snapshot(
            generation, draft.partners, draft.apps, draft.policies, draft.contracts, frozenset(draft.revoked_until_ms),
            unreadable=draft.unreadable,
        )  # fmt: skip
        metrics.gauge("parasol_config_generation", generation)
        metrics.gauge("parasol_partners", len(draft.partners))
        for partner_id in draft.unreadable:  # until this process ends: neither rows nor readers ever change
            metrics.gauge("parasol_terms_unreadable", 1, partner=partner_id)


_PLACES = {
    "policy": "policies",
    "partner": "partners",
    "contract": "contracts",
    "app_key": "clients",
    "grant": "grants",
}


def _named(changes: Sequence[Change]) -> Named:
    found: dict[str, set[str]] = {place: set() for place in _PLACES.values()}
    for change in changes:
        found[_PLACES[change.kind]].add(change.key)
    return Named(**found)


def _all(kind: str, ids: Sequence[str]) -> Named:
    return Named(**{_PLACES[kind]: ids})
