"""What tests of settlement do through the operators' and the partners' doors."""

from datetime import date, timedelta
from typing import Any

import httpx

from gateway.clock import local_day, now_ms
from gateway.events.outbox import BANK_ZONE, Event, append
from tests.conftest import World, past_all_rules

ORDER = {"OfferId": "first-park", "OrderAmount": {"Amount": "30.00", "Currency": "CNY"}, "SiteId": "lot-1"}
REASON = {"Reason": "test"}


def today() -> str:
    return local_day(now_ms(), BANK_ZONE).isoformat()


def later(day: str, days: int = 1) -> str:
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()


async def redeem(world: World, token: str) -> str:
    """One confirmed redemption of parkco."""
    client = world.client("parkco")
    plate = f"沪A{sum(token.encode()):05d}"
    order = {**ORDER, "OrderReference": f"order of {token}", "CustomerToken": token, "Plate": plate}
    held = await client.call("POST", "/partner/v1/redemptions", body={"Data": order})
    assert held.status_code == 201, held.text
    redemption_id = str(held.json()["Data"]["RedemptionId"])
    done = await client.call("POST", f"/partner/v1/redemptions/{redemption_id}/confirmation", body={"Data": {}})
    assert done.status_code == 201, done.text
    return redemption_id


async def ask_to_close(world: World, day: str) -> httpx.Response:
    return await world.ops("ops-maker", "POST", f"/admin/v1/days/{day}/closure", json=REASON)


async def show_day(world: World, day: str) -> dict[str, Any]:
    return dict((await world.ops("ops-maker", "GET", f"/admin/v1/days/{day}")).json()["Data"])


async def close(world: World, day: str) -> dict[str, Any]:
    asked = await ask_to_close(world, day)
    assert asked.status_code == 202, asked.text
    await world.do_chores()
    return await show_day(world, day)


async def ask_to_calculate(world: World, day: str, partner: str = "parkco", **more: str) -> httpx.Response:
    body = {"PartnerId": partner, "ToDay": day, **REASON, **more}
    return await world.ops("ops-maker", "POST", "/admin/v1/statements", json=body)


async def show_statement(world: World, statement_id: str) -> dict[str, Any]:
    return dict((await world.ops("ops-maker", "GET", f"/admin/v1/statements/{statement_id}")).json()["Data"])


async def calculate(world: World, day: str, partner: str = "parkco") -> dict[str, Any]:
    asked = await ask_to_calculate(world, day, partner)
    assert asked.status_code == 202, asked.text
    await world.do_chores()
    return await show_statement(world, asked.json()["Data"]["StatementId"])


async def approve(world: World, statement: dict[str, Any], operator: str, role: str, **changed: str) -> Any:
    return await world.ops(
        operator, "POST", f"/admin/v1/statements/{statement['StatementId']}/approvals",
        json={"Role": role, "Sha256": statement["Sha256"], "Reason": "looked at it", **changed},
    )  # fmt: skip


async def issue(world: World, statement: dict[str, Any]) -> Any:
    path = f"/admin/v1/statements/{statement['StatementId']}/issue"
    return await world.ops("ops-checker", "POST", path, json={"Reason": "both have looked at it"})


async def approved(world: World, statement: dict[str, Any]) -> None:
    assert (await approve(world, statement, "ops-maker", "maker")).status_code == 200
    assert (await approve(world, statement, "ops-checker", "checker")).status_code == 200


async def issued(world: World, day: str) -> dict[str, Any]:
    """A day closed, and parkco's statement issued, its commissions not booked yet."""
    await close(world, day)
    statement = await calculate(world, day)
    await approved(world, statement)
    assert (await issue(world, statement)).status_code == 200
    return statement


async def refuse(world: World, statement: dict[str, Any], operator: str = "ops-checker") -> httpx.Response:
    path = f"/admin/v1/statements/{statement['StatementId']}/refusal"
    return await world.ops(operator, "POST", path, json={"Reason": "the price of lot-1 is last year's"})


async def jobs(world: World, **filters: str) -> list[dict[str, Any]]:
    answer = await world.ops("ops-maker", "GET", "/admin/v1/jobs", params=filters)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["Data"]["Job"])


async def download(world: World, statement_id: str, partner: str = "parkco") -> httpx.Response:
    return await world.client(partner).call("GET", f"/partner/v1/statements/{statement_id}/file")


async def change_as_superuser(world: World, table: str, statement: str, *values: Any) -> None:
    """Past the rights and triggers that refuse it to everybody else."""
    async with past_all_rules(world.url) as conn:
        await conn.execute(statement.format(table=table), *values)


async def reach_goals(world: World, count: int) -> int:
    """Activated cards of customers that parkco brought, as attribution records them; minor units they are worth."""
    contract = world.house.foundation.snapshots.current.contracts["parkco"][-1]
    moment = now_ms()
    events = [
        Event(
            "goal.reached", moment, {"goal": "CARD_ACTIVATED", "claim_id": f"clm_{n}", "anchor_at_ms": moment},
            partner="parkco", contract=contract.contract_id, contract_version=contract.version, currency="CNY",
            subject_token=f"idt_1_{n}",
        )
        for n in range(count)
    ]  # fmt: skip
    async with world.house.database.transaction() as conn:
        await append(conn, events, now_ms=moment)
    return sum(3_000 if rank < 500 else 4_000 if rank < 2_000 else 5_000 for rank in range(count))


async def commissions_booked(world: World) -> int:
    """What the book says the bank owes parkco for goals."""
    rows = await world.sql(
        """SELECT coalesce(sum(amount_minor), 0)::bigint FROM ledger_posting
           WHERE account = 'commission_expense:bank:CNY'"""
    )
    return int(rows[0][0])
