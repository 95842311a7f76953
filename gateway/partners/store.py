"""All SQL of partners and policies: versions of agreed documents, states, keys, revocations."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.database import Connection
from gateway.partners.partner import AppKey, KeyState, PartnerState
from gateway.partners.public_key import thumbprint

_APPLY = 0x61707079  # advisory lock: "appy"; documents are applied by one at a time


@dataclass(frozen=True, slots=True)
class Version:
    """One row of `document` without its body. `kind` is partner, contract or policy."""

    kind: str
    id: str
    version: int
    partner_id: str | None
    sha256: bytes
    withdrawn: bool

    @property
    def name(self) -> tuple[str, str, int]:
        return self.kind, self.id, self.version


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A row to insert."""

    kind: str
    id: str
    version: int
    partner_id: str | None
    body: Mapping[str, Any]
    sha256: bytes
    withdrawn: bool = False


async def lock_documents(conn: Connection) -> None:
    """Until the transaction ends nobody else applies."""
    await conn.execute("SELECT pg_advisory_xact_lock($1)", _APPLY)


async def latest_versions(conn: Connection) -> list[Version]:
    """The last version of every partner and policy, and every version of every contract, oldest first."""
    rows = await conn.fetch(
        """SELECT kind, id, version, partner_id, sha256, withdrawn
           FROM (SELECT *, max(version) OVER (PARTITION BY kind, id) AS last FROM document) AS every
           WHERE kind = 'contract' OR version = last ORDER BY kind, id, version"""
    )
    return [Version(**row) for row in rows]


async def read_bodies(conn: Connection, names: Sequence[tuple[str, str, int]]) -> dict[tuple[str, str, int], Any]:
    """Bodies by (kind, id, version)."""
    kinds, ids, versions = ([name[i] for name in names] for i in range(3))
    rows = await conn.fetch(
        """SELECT kind, id, version, body FROM document
           JOIN unnest($1::text[], $2::text[], $3::int[]) AS wanted (kind, id, version) USING (kind, id, version)""",
        kinds, ids, versions,
    )  # fmt: skip
    return {(row["kind"], row["id"], row["version"]): row["body"] for row in rows}


async def versions_before(conn: Connection, name: tuple[str, str, int]) -> AsyncIterator[tuple[int, Any]]:
    """(version, body) of the versions before this one, newest first."""
    async for row in conn.cursor(
        """SELECT version, body FROM document WHERE kind = $1 AND id = $2 AND version < $3 AND NOT withdrawn
           ORDER BY version DESC""",
        *name,
    ):
        yield row["version"], row["body"]


async def insert_version(conn: Connection, new: NewVersion, *, actor: str, now_ms: int) -> None:
    await conn.execute(
        """INSERT INTO document (kind, id, version, partner_id, body, sha256, withdrawn, applied_at_ms, applied_by)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)""",
        new.kind, new.id, new.version, new.partner_id, new.body, new.sha256, new.withdrawn, now_ms, actor,
    )  # fmt: skip


async def partner_states(conn: Connection) -> dict[str, PartnerState]:
    rows = await conn.fetch("SELECT partner_id, state FROM partner_state")
    return {row["partner_id"]: PartnerState(row["state"]) for row in rows}


async def lock_state(conn: Connection, partner_id: str) -> PartnerState | None:
    """The partner's state, held until the transaction ends; None: no such partner was ever applied."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('partner_state ' || $1, 0))", partner_id)
    row = await conn.fetchrow(
        """SELECT coalesce(s.state, 'ACTIVE') AS state FROM document d LEFT JOIN partner_state s ON s.partner_id = d.id
           WHERE d.kind = 'partner' AND d.id = $1 LIMIT 1""",
        partner_id,
    )
    return PartnerState(row["state"]) if row else None


async def write_state(
    conn: Connection, partner_id: str, state: PartnerState, *, reason: str, actor: str, now_ms: int
) -> None:
    await conn.execute(
        """INSERT INTO partner_state (partner_id, state, changed_at_ms, changed_by, reason) VALUES ($1, $2, $3, $4, $5)
           ON CONFLICT (partner_id) DO UPDATE SET state = excluded.state, changed_at_ms = excluded.changed_at_ms,
               changed_by = excluded.changed_by, reason = excluded.reason""",
        partner_id, state.value, now_ms, actor, reason,
    )  # fmt: skip


async def registered_keys(conn: Connection) -> dict[str, tuple[AppKey, ...]]:
    """Keys that live outside the files, by client_id; revoked ones too, so that a file cannot bring them back."""
    rows = await conn.fetch("SELECT client_id, kid, jwk, state FROM app_key ORDER BY client_id, changed_at_ms, kid")
    keys: dict[str, tuple[AppKey, ...]] = {}
    for row in rows:
        key = AppKey(row["kid"], row["jwk"], KeyState(row["state"]), thumbprint(row["jwk"]))
        keys[row["client_id"]] = (*keys.get(row["client_id"], ()), key)
    return keys


async def register_key(conn: Connection, client_id: str, jwk: Mapping[str, Any], *, now_ms: int) -> bool:
    """Make the public key verify from now on; False: it was there already, in whatever state."""
    fresh = await conn.fetchval(
        """INSERT INTO app_key (client_id, kid, jwk, state, changed_at_ms) VALUES ($1, $2, $3, 'active', $4)
           ON CONFLICT DO NOTHING RETURNING true""",
        client_id, jwk["kid"], jwk, now_ms,
    )  # fmt: skip
    return bool(fresh)


async def revoked_grants(conn: Connection, *, now_ms: int) -> frozenset[str]:
    """Only while a token of theirs may still be alive."""
    rows = await conn.fetch("SELECT grant_id FROM revoked_grant WHERE until_ms > $1", now_ms)
    return frozenset(row["grant_id"] for row in rows)


# --- identity keys ---------------------------------------------------------------------------------------------------
async def identity_keys(conn: Connection, partner_id: str | None = None) -> list[Any]:
    """Sealed keys of one partner, or of all, by partner and epoch."""
    return list(
        await conn.fetch(
            """SELECT partner_id, epoch, key_sealed, created_at_ms FROM identity_key
               WHERE $1::text IS NULL OR partner_id = $1 ORDER BY partner_id, epoch""",
            partner_id,
        )
    )  # fmt: skip


async def insert_identity_key(conn: Connection, partner_id: str, *, epoch: int, key_sealed: bytes, now_ms: int) -> bool:
    """False: another process was first, and its key stays."""
    made = await conn.fetchval(
        """INSERT INTO identity_key (partner_id, epoch, key_sealed, created_at_ms) VALUES ($1, $2, $3, $4)
           ON CONFLICT DO NOTHING RETURNING true""",
        partner_id, epoch, key_sealed, now_ms,
    )  # fmt: skip
    return bool(made)


# --- known customers -------------------------------------------------------------------------------------------------
async def know_customers(conn: Connection, tokens: Sequence[tuple[str, str]], *, source: str, now_ms: int) -> None:
    """(partner, token) pairs that a fact vouches for; known ones stay as they are. See `known_customer`."""
    await conn.execute(
        """INSERT INTO known_customer (partner_id, token, epoch, source, known_at_ms)
           SELECT DISTINCT n.partner_id, n.token, split_part(n.token, '_', 2)::int, $3, $4::bigint
           FROM unnest($1::text[], $2::text[]) AS n (partner_id, token) ON CONFLICT DO NOTHING""",
        [partner_id for partner_id, _ in tokens], [token for _, token in tokens], source, now_ms,
    )  # fmt: skip
