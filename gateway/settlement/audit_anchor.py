"""Sealed days hold the end of the audit trail: their signed heads show a trail that was cut off or written anew."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import structlog
from joserfc import jws
from joserfc.errors import JoseError

from gateway import audit, metrics
from gateway.audit import NOTHING_NOTED, Anchor, AuditChainBroken
from gateway.base64url import unb64url
from gateway.database import Database
from gateway.jsonio import decode
from gateway.keyring import STATEMENT, Keyring
from gateway.refusal import BodyMalformed
from gateway.settlement.seal import FIRST
from gateway.settlement.store import days

SEALED = "day.sealed"  # the audit row of a day, after the row that its head names
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class AuditTeller:
    """Writes the trail's end into the log, which is kept elsewhere: between two seals that alone shows a cut."""

    database: Database
    _told: int = field(default=0, init=False)

    async def tell_due(self, now_ms: int) -> int:
        """Chore: a line whenever the trail has grown."""
        async with self.database.connection() as conn:
            found = await audit.head(conn)
        if found is None or found[0] == self._told:
            return 0
        self._told, digest = found
        metrics.gauge("parasol_audit_rows", self._told)
        log.info("audit_head", head=f"{self._told}:{digest.hex()}")
        return 0  # nothing is left to do: not again at once


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """What was found whole."""

    rows: int
    days: int  # sealed days whose heads name a row of the trail


async def verify_audit(
    database: Database, keyring: Keyring, *, noted: Mapping[int, bytes] = NOTHING_NOTED
) -> AuditVerdict:
    """Every link, every sealed day's anchor, every head's signature and place, and what was noted elsewhere (hashes by
    row). Raises AuditChainBroken."""
    async with database.connection() as conn:
        anchors, previous = list[Anchor](), FIRST
        for day, token in await days.signed_heads(conn):
            payload = _checked(token, keyring, of=day.isoformat())
            head = decode(payload, dict[str, Any])
            if head["business_day"] != day.isoformat() or head["previous_head_hash"] != previous.hex():
                raise AuditChainBroken(f"the head of {day.isoformat()} does not follow from the head before it")
            previous = sha256(payload).digest()
            if head["audit_head"] is not None:  # the days of before this was told have none
                name = f"the head of {day.isoformat()}"
                anchors.append(Anchor(name, bytes.fromhex(head["audit_head"]), (SEALED, day.isoformat())))
        rows = await audit.verify_chain(conn, anchors, noted=noted)
    return AuditVerdict(rows, len(anchors))


def _checked(token: str, keyring: Keyring, *, of: str) -> bytes:
    """The signed bytes of a head. Raises AuditChainBroken."""
    try:
        kid = decode(unb64url(token.partition(".")[0]), dict[str, Any])["kid"]
        key = keyring.public_key(kid)
        if key is not None and key.purpose == STATEMENT:
            return bytes(jws.deserialize_compact(token, key.key, algorithms=[key.alg]).payload)
    except (JoseError, BodyMalformed, ValueError, KeyError):
        pass
    raise AuditChainBroken(f"the head of {of} is not signed by a key of this bank's statements")
