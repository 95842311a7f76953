"""Documents of the versions in force, each read and checked once a process, whoever asks for the picture how often."""

from collections.abc import Callable, Sequence
from typing import Any

import structlog

from gateway import metrics
from gateway.clock import rfc3339
from gateway.database import Connection
from gateway.document import DocumentInvalid
from gateway.partners import store
from gateway.partners.contract import Contract, fingerprint
from gateway.partners.contract_rules import from_document
from gateway.partners.partner_file import partner_terms
from gateway.partners.store import Version
from gateway.partners.turns import Turns
from gateway.policies.policy_file import policy_terms

log = structlog.get_logger(__name__)
_READERS: dict[str, Callable[..., Any]] = {
    "partner": partner_terms,
    "policy": policy_terms,
    "contract": lambda body, *, name: from_document(body, file=name),
}


class CompiledDocuments:
    """By kind and id: of a partner or policy its last version alone, of a contract every version."""

    def __init__(self) -> None:
        self._terms: dict[tuple[str, str], dict[int, Any]] = {}

    async def bring(self, conn: Connection, versions: Sequence[Version], turns: Turns) -> None:
        """Compile what is new here; `versions` are all that is in force of each document that is among them."""
        missing = [v for v in versions if not v.withdrawn and v.version not in self._terms.get((v.kind, v.id), ())]
        bodies = await store.read_bodies(conn, [version.name for version in missing]) if missing else {}
        for version in missing:
            terms = await self._compile(conn, version, bodies[version.name])
            known = self._terms.setdefault((version.kind, version.id), {})
            if version.kind != "contract":
                known.clear()
            known[version.version] = terms
            metrics.count("parasol_documents_compiled_total", kind=version.kind)
            await turns.take()

    def of(self, version: Version) -> Any:
        """The terms of a version that was brought; None: withdrawn, or never readable."""
        return None if version.withdrawn else self._terms[version.kind, version.id][version.version]

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
