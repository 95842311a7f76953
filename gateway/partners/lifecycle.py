"""Suspending and reinstating a partner: bites on tokens already given, on every worker, within a second."""

from gateway import audit
from gateway.database import Connection
from gateway.database.changes import announce
from gateway.partners import store
from gateway.partners.partner import PartnerState
from gateway.refusal import StateConflict, UnknownResource

# Whoever is leaving or gone does not come back this way.
_MAY_BECOME = {PartnerState.ACTIVE: PartnerState.SUSPENDED, PartnerState.SUSPENDED: PartnerState.ACTIVE}


async def suspend(conn: Connection, partner_id: str, *, reason: str, actor: str, now_ms: int) -> None:
    """Nothing of the partner is admitted any more. Raises UnknownResource, StateConflict."""
    await _change(conn, partner_id, PartnerState.SUSPENDED, reason=reason, actor=actor, now_ms=now_ms)


async def reinstate(conn: Connection, partner_id: str, *, reason: str, actor: str, now_ms: int) -> None:
    """The partner's tokens that have not expired work again. Raises UnknownResource, StateConflict."""
    await _change(conn, partner_id, PartnerState.ACTIVE, reason=reason, actor=actor, now_ms=now_ms)


async def _change(
    conn: Connection, partner_id: str, state: PartnerState, *, reason: str, actor: str, now_ms: int
) -> None:
    before = await store.lock_state(conn, partner_id)
    if before is None:
        raise UnknownResource(f"There is no partner {partner_id!r}")
    if _MAY_BECOME.get(before) is not state:
        raise StateConflict(f"Partner {partner_id} is {before} and cannot become {state}")
    await store.write_state(conn, partner_id, state, reason=reason, actor=actor, now_ms=now_ms)
    detail = {"before": before.value, "after": state.value, "reason": reason}
    await audit.record(conn, actor=actor, action="partner.state", subject=partner_id, detail=detail, now_ms=now_ms)
    await announce(conn, "partner", partner_id, now_ms=now_ms)
