"""The worker's book of consents: read from the database once, dropped when the change feed says that one changed."""

from collections.abc import Sequence

from gateway.consents import store
from gateway.consents.consent import Consent
from gateway.database import Database
from gateway.database.changes import Change
from gateway.refusal import UnknownResource

REMEMBERED = 50_000  # consents a worker: some 100 MB at most; the oldest go first


class ConsentBook:
    """One instance a worker; subscribe `refresh` to the change feed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, Consent] = {}
        self._drops = 0

    async def get(self, consent_id: str) -> Consent:
        """As it was at most a second ago. Whose it is and whether it is in force is the caller's to check.

        Raises UnknownResource.
        """
        known = self._known.get(consent_id)
        return known if known is not None else await self._load(consent_id)

    async def refresh(self, changes: Sequence[Change]) -> None:
        """The change feed's subscriber."""
        for change in changes:
            if change.kind == "consent":
                self._drops += 1
                self._known.pop(change.key, None)

    async def _load(self, consent_id: str) -> Consent:
        drops = self._drops
        async with self._database.connection() as conn:
            found = await store.find(conn, consent_id)
        if found is None:
            raise UnknownResource(f"There is no consent {consent_id}")
        if drops == self._drops:  # a change that came while we read may be newer than what we read
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[consent_id] = found
        return found
