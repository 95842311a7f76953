"""What bank operations do with partners, and what they read: partners, the audit trail, the book."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from gateway import audit
from gateway.admission.refusals import QueryMalformed
from gateway.call import Answer, OpsCall
from gateway.clock import rfc3339
from gateway.database import Connection, Database
from gateway.ledger.store import trial_balance
from gateway.partners import lifecycle
from gateway.partners.partner import Partner
from gateway.partners.snapshot import SnapshotKeeper

AUDIT_PAGE = 100  # rows a page


@dataclass(frozen=True, slots=True)
class OpsApi:
    """Every change is audited with who, what before, what after, and from where."""

    database: Database
    snapshots: SnapshotKeeper

    async def list_partners(self, call: OpsCall) -> Answer:
        snapshot = self.snapshots.current
        shown = [partner_members(partner) for partner in sorted(snapshot.partners.values(), key=lambda p: p.partner_id)]
        return Answer(200, {"Data": {"Partner": shown, "Generation": snapshot.generation}})

    async def suspend(self, call: OpsCall) -> Answer:
        """Tokens already given stop on every worker within a second."""
        return await self._change(call, lifecycle.suspend, "SUSPENDED")

    async def reinstate(self, call: OpsCall) -> Answer:
        return await self._change(call, lifecycle.reinstate, "ACTIVE")

    async def read_audit(self, call: OpsCall) -> Answer:
        """Newest first; `BeforeSeq` pages back. `Hash` chains each row to the one before."""
        before = call.query.get("BeforeSeq")
        if before is not None and not (before.isascii() and before.isdigit() and len(before) < 19):
            raise QueryMalformed("BeforeSeq is a number", path="$query.BeforeSeq")
        async with self.database.connection() as conn:
            rows = await audit.latest(conn, limit=AUDIT_PAGE, before_seq=int(before) if before else None)
        return Answer(200, {"Data": {"Entry": [_audit_members(row) for row in rows]}})

    async def trial_balance(self, call: OpsCall) -> Answer:
        """Every account's debits and credits; both sums are equal per currency."""
        async with self.database.connection() as conn:
            rows = await trial_balance(conn)
        shown = [
            {"Account": r.account, "Currency": r.currency, "DebitMinor": r.debit_minor, "CreditMinor": r.credit_minor,
             "BalanceMinor": r.balance_minor}
            for r in rows
        ]  # fmt: skip
        sums = {"DebitMinor": sum(r.debit_minor for r in rows), "CreditMinor": sum(r.credit_minor for r in rows)}
        return Answer(200, {"Data": {"Account": shown, "Sum": sums}})

    async def _change(self, call: OpsCall, step: Callable[..., Awaitable[None]], state: str) -> Answer:
        partner_id = call.path["PartnerId"]
        async with self.database.transaction() as conn:
            await _step(conn, step, partner_id, call)
        return Answer(200, {"Data": {"PartnerId": partner_id, "State": state}})


async def _step(conn: Connection, step: Callable[..., Awaitable[None]], partner_id: str, call: OpsCall) -> None:
    await step(conn, partner_id, reason=call.body.reason, actor=call.operator.operator_id, now_ms=call.now_ms)


def partner_members(partner: Partner) -> dict[str, Any]:
    """A partner with its apps and keys, as operators see it."""
    return {
        "PartnerId": partner.partner_id,
        "Name": partner.name,
        "NameZh": partner.name_zh,
        "Trade": partner.trade,
        "State": partner.state.value,
        "PolicyId": partner.policy_id,
        "App": [
            {
                "ClientId": app.client_id,
                "Name": app.name,
                "Scopes": sorted(app.scopes),
                "Key": [{"Kid": key.kid, "State": key.state.value} for key in app.keys],
            }
            for app in partner.apps
        ],
    }


def _audit_members(row: Any) -> dict[str, Any]:
    return {
        "Seq": row["seq"], "DateTime": rfc3339(row["at_ms"]), "Actor": row["actor"], "Action": row["action"],
        "Source": row["detail"].get("from", ""), "Reason": row["detail"].get("reason", ""),
        "Subject": row["subject"], "Detail": row["detail"], "Hash": row["hash"].hex(),
    }  # fmt: skip
