"""What was recorded of a partner's contract, for the writer of statements: from the database, not from a picture."""

from dataclasses import dataclass

from gateway.database import Connection
from gateway.document import DocumentInvalid
from gateway.partners import store
from gateway.partners.contract import Contract, fingerprint
from gateway.partners.contract_rules import from_document
from gateway.partners.store import Version


@dataclass(frozen=True, slots=True)
class RecordedVersion:
    """A version as its `contract.effective` names it; `contract` is None where this program cannot read it."""

    contract_id: str
    version: int
    currency: str
    sha256: bytes
    starts_ms: int
    ends_ms: int
    recorded_at_ms: int
    contract: Contract | None


async def recorded_versions(conn: Connection, partner_id: str) -> tuple[RecordedVersion, ...]:
    """Every version of the partner's contract, of all currencies, in the order of recording and of their numbers."""
    versions = await store.contract_versions(conn, partner_id)
    bodies = await store.read_bodies(conn, [version.name for version in versions])
    return tuple(_recorded(version, as_agreed(version, bodies[version.name])) for version in versions)


def as_agreed(version: Version, body: object) -> Contract | None:
    """The contract, if it says to this program exactly what was agreed and sealed."""
    try:
        contract = from_document(body, file=f"contract {version.id} version {version.version}")
    except DocumentInvalid:
        return None
    return contract if fingerprint(contract) == version.sha256 else None


def _recorded(version: Version, contract: Contract | None) -> RecordedVersion:
    assert version.currency is not None
    assert version.starts_ms is not None
    assert version.ends_ms is not None, "the database asks a contract's row for its term"
    return RecordedVersion(
        version.id, version.version, version.currency, version.sha256, version.starts_ms, version.ends_ms,
        recorded_at_ms=version.applied_at_ms, contract=contract,
    )  # fmt: skip
