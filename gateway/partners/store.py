"""All SQL of partners and policies: versions of agreed documents, states, keys, revocations."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway import metrics
from gateway.database import Connection
from gateway.database.changes import Change
from gateway.partners.partner import AppKey, KeyState, PartnerState
from gateway.partners.public_key import thumbprint

R = TypeVar("R", bound=Sequence[Any])
_APPLY = 0x61707079  # advisory lock: "appy"; documents are applied by one at a time


@dataclass(frozen=True, slots=True)
class Version:
    """One row of `document` without its body. `kind` is partner, contract or policy.

    A contract's term and currency are columns, so that a program that cannot read the body knows what it misses.
    """

    kind: str
    id: str
    version: int
    partner_id: str | None
    sha256: bytes
    withdrawn: bool
    applied_at_ms: int
    starts_ms: int | None = None
    ends_ms: int | None = None
    currency: str | None = None

    @property
    def name(self) -> tuple[str, str, int]:
        return self.kind, self.id, self.version


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A row to insert; a contract's has its term and currency."""

    kind: str
    id: str
    version: int
    partner_id: str | None
    body: Mapping[str, Any]
    sha256: bytes
    withdrawn: bool = False
    starts_ms: int | None = None
    ends_ms: int | None = None
    currency: str | None = None


async def lock_documents(conn: Connection) -> None:
    """Until the transaction ends nobody else applies."""
    await conn.execute("SELECT pg_advisory_xact_lock($1)", _APPLY)


_VERSION = "kind, id, version, partner_id, sha256, withdrawn, applied_at_ms, starts_ms, ends_ms, currency"


async def latest_versions(conn: Connection) -> list[Version]:
    """The last version of every partner and policy, and every version of every contract, oldest first."""
    rows = await conn.fetch(
        f"""SELECT {_VERSION}
            FROM (SELECT *, max(version) OVER (PARTITION BY kind, id) AS last FROM document) AS every
            WHERE kind = 'contract' OR version = last ORDER BY kind, id, version"""
    )
    return [Version(**row) for row in rows]


async def document_ids(conn: Connection, kind: str, *, after: str, limit: int) -> list[str]:
    """The next ids of a kind, withdrawn ones too; begin after the empty text."""
    rows = await conn.fetch(
        "SELECT DISTINCT id FROM document WHERE kind = $1 AND id > $2 ORDER BY id LIMIT $3", kind, after, limit
    )
    return [row["id"] for row in rows]


async def last_versions(conn: Connection, kind: str, ids: Collection[str]) -> list[Version]:
    """Of these partners or policies, as far as they are known."""
    rows = await conn.fetch(
        f"""SELECT last.* FROM unnest($2::text[]) AS wanted (wanted_id) CROSS JOIN LATERAL (
                SELECT {_VERSION} FROM document WHERE kind = $1 AND id = wanted_id ORDER BY version DESC LIMIT 1
            ) AS last ORDER BY id""",
        kind, list(ids),
    )  # fmt: skip
    return _counted([Version(**row) for row in rows])


async def versions_of_contracts(conn: Connection, ids: Collection[str]) -> list[Version]:
    """Every version of the partners whose contracts these are, oldest first."""
    rows = await conn.fetch(
        f"""SELECT {_VERSION} FROM document WHERE kind = 'contract' AND partner_id IN (
                SELECT partner_id FROM document WHERE kind = 'contract' AND id = ANY($1::text[])
            ) ORDER BY id, version""",
        list(ids),
    )
    return _counted([Version(**row) for row in rows])


async def read_bodies(conn: Connection, names: Sequence[tuple[str, str, int]]) -> dict[tuple[str, str, int], Any]:
    """Bodies by (kind, id, version)."""
    kinds, ids, versions = ([name[i] for name in names] for i in range(3))
    rows = await conn.fetch(
        """SELECT kind, id, version, body FROM document
           JOIN unnest($1::text[], $2::text[], $3::int[]) AS wanted (kind, id, version) USING (kind, id, version)""",
        kinds, ids, versions,
    )  # fmt: skip
    return {(row["kind"], row["id"], row["version"]): row["body"] for row in rows}


async def contract_versions(conn: Connection, partner_id: str) -> list[Version]:
    """Every version recorded for the partner, of all currencies, in the order of recording and of their numbers."""
    rows = await conn.fetch(
        """SELECT kind, id, version, partner_id, sha256, withdrawn, applied_at_ms, starts_ms, ends_ms, currency
           FROM document WHERE kind = 'contract' AND partner_id = $1 ORDER BY version""",
        partner_id,
    )
    return [Version(**row) for row in rows]


async def versions_before(conn: Connection, name: tuple[str, str, int]) -> AsyncIterator[tuple[int, Any]]:
    """(version, body) of the versions before this one, newest first."""
    async for row in conn.cursor(
        """SELECT version, body FROM document WHERE kind = $1 AND id = $2 AND version < $3 AND NOT withdrawn
           ORDER BY version DESC""",
        *name,
    ):
        yield row["version"], row["body"]


async def count_versions(conn: Connection) -> int:
    """Rows are neither changed nor deleted: the same number is the same content."""
    return int(await conn.fetchval("SELECT count(*) FROM document"))


async def insert_versions(conn: Connection, new: Sequence[NewVersion], *, actor: str, now_ms: int) -> None:
    """In this order, as versions of a contract rise; one COPY, however many."""
    await conn.copy_records_to_table(
        "document",
        columns=("kind", "id", "version", "partner_id", "body", "sha256", "withdrawn", "applied_at_ms", "applied_by",
                 "starts_ms", "ends_ms", "currency"),
        records=[
            (
                each.kind, each.id, each.version, each.partner_id, each.body, each.sha256, each.withdrawn, now_ms,
                actor, each.starts_ms, each.ends_ms, each.currency,
            )
            for each in new
        ],
    )  # fmt: skip


async def remembered_folder(conn: Connection) -> tuple[bytes, int] | None:
    """Digest of the folder that was applied last and left no difference, and how many versions there were then."""
    row = await conn.fetchrow("SELECT digest, versions FROM applied_folder")
    return (row["digest"], row["versions"]) if row else None


async def remember_folder(conn: Connection, digest: bytes, *, now_ms: int) -> None:
    """The folder whose every document has just become, or was, what is in force."""
    await conn.execute(
        """INSERT INTO applied_folder (digest, versions, applied_at_ms) SELECT $1, count(*), $2::bigint FROM document
           ON CONFLICT (only_row) DO UPDATE SET digest = excluded.digest, versions = excluded.versions,
               applied_at_ms = excluded.applied_at_ms""",
        digest, now_ms,
    )  # fmt: skip


async def partner_states(conn: Connection, ids: Collection[str]) -> dict[str, PartnerState]:
    """Of those among these partners to whom anything has happened."""
    rows = await conn.fetch("SELECT partner_id, state FROM partner_state WHERE partner_id = ANY($1::text[])", list(ids))
    return {row["partner_id"]: PartnerState(row["state"]) for row in _counted(rows)}


async def states_changed_after(conn: Connection, seq: int) -> dict[str, PartnerState]:
    """Of every partner that was announced after that change."""
    rows = await conn.fetch(
        """SELECT partner_id, state FROM partner_state
           WHERE partner_id IN (SELECT key FROM change WHERE seq > $1 AND kind = 'partner')""",
        seq,
    )
    return {row["partner_id"]: PartnerState(row["state"]) for row in _counted(rows)}


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


async def registered_keys(conn: Connection, client_ids: Collection[str]) -> dict[str, tuple[AppKey, ...]]:
    """Keys that live outside the files, by client_id; revoked ones too, so that a file cannot bring them back."""
    rows = await conn.fetch(
        """SELECT client_id, kid, jwk, state FROM app_key WHERE client_id = ANY($1::text[])
           ORDER BY client_id, changed_at_ms, kid""",
        list(client_ids),
    )
    keys: dict[str, tuple[AppKey, ...]] = {}
    for row in _counted(rows):
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


async def revocations(conn: Connection, grants: Collection[str] | None = None, *, now_ms: int) -> dict[str, int]:
    """Until when a token of each of these grants, or of any that was revoked, may still be alive; epoch ms."""
    rows = await conn.fetch(
        """SELECT grant_id, until_ms FROM revoked_grant
           WHERE until_ms > $2 AND ($1::text[] IS NULL OR grant_id = ANY($1))""",
        None if grants is None else list(grants), now_ms,
    )  # fmt: skip
    return {row["grant_id"]: row["until_ms"] for row in _counted(rows)}


# --- what changed ----------------------------------------------------------------------------------------------------
async def changes_after(conn: Connection, seq: int, kinds: Collection[str], *, limit: int) -> list[Change]:
    """The next changes of these kinds, in order."""
    rows = await conn.fetch(
        "SELECT seq, kind, key FROM change WHERE seq > $1 AND kind = ANY($2::text[]) ORDER BY seq LIMIT $3",
        seq, list(kinds), limit,
    )  # fmt: skip
    return [Change(row["seq"], row["kind"], row["key"]) for row in _counted(rows)]


async def changes_join(conn: Connection, seq: int) -> bool:
    """Whether the table still has everything after that change. A number that was never given costs a whole load."""
    oldest = await conn.fetchval("SELECT min(seq) FROM change")
    return oldest is None or int(oldest) <= seq + 1


def _counted(rows: R) -> R:
    """What a change costs is rows: at thousands of partners it must not be all of them."""
    metrics.count("parasol_config_rows_read_total", len(rows))
    return rows


# --- identity keys ---------------------------------------------------------------------------------------------------
async def identity_keys(conn: Connection, partner_ids: Sequence[str]) -> list[Any]:
    """Sealed keys of these partners, by partner and epoch."""
    return list(
        await conn.fetch(
            """SELECT partner_id, epoch, key_sealed, created_at_ms FROM identity_key
               WHERE partner_id = ANY ($1::text[]) ORDER BY partner_id, epoch""",
            list(partner_ids),
        )
    )


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
