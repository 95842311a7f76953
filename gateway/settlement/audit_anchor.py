"""Sealed days hold the end of the audit trail: their signed heads show a trail that was cut off or written anew."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError

from gateway import audit
from gateway.audit import Anchor, AuditChainBroken
from gateway.base64url import unb64url
from gateway.database import Database
from gateway.jsonio import decode
from gateway.keyring import STATEMENT, Keyring
from gateway.refusal import BodyMalformed
from gateway.settlement.seal import FIRST
from gateway.settlement.store import days

SEALED = "day.sealed"  # the audit row of a day, after the row that its head names


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """What was found whole."""

    rows: int
    days: int  # sealed days whose heads name a row of the trail


async def verify_audit(database: Database, keyring: Keyring) -> AuditVerdict:
    """Every link, every sealed day's anchor, every head's signature and place. Raises AuditChainBroken."""
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
        rows = await audit.verify_chain(conn, anchors)
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
