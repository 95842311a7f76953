"""One meaning of an idempotency key at every operation that takes one (decision 28): a yes for each, and its nos."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.clock import now_ms
from gateway.partners.store import know_customers
from gateway.retention.dropping import Retention
from gateway.rooms import EXPIRIES
from gateway.routes import OPERATIONS
from tests.api.test_parking import PLATE, bound, charged, consent, parked
from tests.api.vrp_calls import CREDITOR, MANDATES, PAYMENTS, given, mandate_body, payment_body
from tests.conftest import World, open_world

V1 = "/partner/v1"
ORDER = {"OfferId": "first-park", "OrderAmount": {"Amount": "30.00", "Currency": "CNY"}, "SiteId": "lot-1"}
WHO = {"CustomerToken": "idt_1_a", "Plate": "粤B00001", "OrderReference": "order 1"}
THREE_DAYS_MS = 3 * 86_400_000


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that may come, another one for the same address, and where the answer names what was made."""

    path: str
    body: Any
    other: Any
    id_of: str
    more: dict[str, Any]

    async def by(self, world: World, body: Any, key: str) -> httpx.Response:
        return await world.client("parkco").call("POST", self.path, body=body, key=key, **self.more)


def sent(path: str, body: Any, other: Any, id_of: str, **more: Any) -> Sent:
    return Sent(path, body, other, id_of, more)


async def held(world: World) -> str:
    answer = await world.client("parkco").call("POST", f"{V1}/redemptions", body={"Data": {**ORDER, **WHO}})
    assert answer.status_code == 201, answer.text
    return f"{V1}/redemptions/{answer.json()['Data']['RedemptionId']}"


async def a_hold(world: World) -> Sent:
    body = {"Data": {**ORDER, **WHO}}
    return sent(f"{V1}/redemptions", body, {"Data": {**body["Data"], "CustomerToken": "idt_1_b"}}, "RedemptionId")


async def a_confirmation(world: World) -> Sent:
    smaller = {"Data": {"OrderAmount": {"Amount": "25.00", "Currency": "CNY"}}}
    return sent(f"{await held(world)}/confirmation", {"Data": {}}, smaller, "RedemptionId")


async def a_release(world: World) -> Sent:
    return sent(f"{await held(world)}/release", None, None, "RedemptionId")


async def a_reversal(world: World) -> Sent:
    path = await held(world)
    await world.client("parkco").call("POST", f"{path}/confirmation", body={"Data": {}})
    one, two = ({"Data": {"Amount": {"Amount": text, "Currency": "CNY"}}} for text in ("1.00", "2.00"))
    return sent(f"{path}/reversals", one, two, "ReversedAmount")


async def an_agreement(world: World) -> Sent:
    body = {"Data": {"Plate": PLATE, "ConsentId": await consent(world)}}
    return sent(
        f"{V1}/parking/vehicle-agreements", body, {"Data": {**body["Data"], "Plate": "粤B·54321"}}, "AgreementId"
    )


async def an_entry(world: World) -> Sent:
    await bound(world)
    body = {"Data": {"SiteId": "lot-1", "Plate": PLATE}}
    return sent(f"{V1}/parking/sessions", body, {"Data": {**body["Data"], "Plate": "粤B·54321"}}, "SessionId")


async def a_charge(world: World) -> Sent:
    await bound(world)
    path = f"{V1}/parking/sessions/{await parked(world)}/charges"
    return sent(path, {"Data": {}}, {"Data": {"OfferId": "first-park"}}, "ChargeId")


async def a_refund(world: World) -> Sent:
    await bound(world)
    charge = await charged(world, await parked(world))
    one, two = ({"Data": {"Amount": {"Amount": text, "Currency": "CNY"}}} for text in ("1.00", "2.00"))
    return sent(f"{V1}/parking/charges/{charge['ChargeId']}/refunds", one, two, "RefundId")


async def a_link(world: World) -> Sent:
    return sent(f"{V1}/referral-links", {"Data": {}}, {"Data": {"Campaign": "x"}}, "LinkId")


async def a_mandate(world: World) -> Sent:
    return sent(MANDATES, mandate_body(), mandate_body(CreditorAccount=CREDITOR), "ConsentId", sign="jws")


async def a_payment(world: World) -> Sent:
    consent_id, token = await given(world)
    other = payment_body(consent_id, "12.51")
    return sent(PAYMENTS, payment_body(consent_id), other, "DomesticVRPId", sign="jws", token=token)


SENT: dict[str, Callable[[World], Awaitable[Sent]]] = {
    "HoldRedemption": a_hold,
    "ConfirmRedemption": a_confirmation,
    "ReleaseRedemption": a_release,
    "ReverseRedemption": a_reversal,
    "CreateVehicleAgreement": an_agreement,
    "EnterParking": an_entry,
    "ChargeParking": a_charge,
    "RefundParkingCharge": a_refund,
    "CreateReferralLink": a_link,
    "domesticVrpConsentsPost": a_mandate,
    "domesticVrpPost": a_payment,
}
EXPIRING = {"CreateVehicleAgreement", "CreateReferralLink", "domesticVrpConsentsPost", "domesticVrpPost"}
every_operation = pytest.mark.parametrize("operation", sorted(SENT))


def test_every_operation_that_takes_a_key_is_tried() -> None:
    assert SENT.keys() == {operation.id for operation in OPERATIONS if operation.idempotent}


def made(answer: httpx.Response, request: Sent) -> Any:
    assert answer.status_code == 201, answer.text
    return answer.json()["Data"][request.id_of]


def code(answer: httpx.Response) -> str:
    body = answer.json()
    return str(body["Errors"][0]["ErrorCode"] if "Errors" in body else body["code"])


async def pass_days(world: World, ms: int) -> None:
    """As if the gateway had run so long, and dropped what had its time."""
    await world.sql("UPDATE retention_clock SET at_ms = at_ms + $1, seen_ms = seen_ms + $1", ms)
    await Retention(world.house.database, EXPIRIES).drop_expired_due(now_ms())


@every_operation
async def test_one_key_at_once_and_again_is_one_effect_with_one_answer(world: World, operation: str) -> None:
    request = await SENT[operation](world)
    answers = await asyncio.gather(*(request.by(world, request.body, "k") for _ in range(3)))
    first, *others = (made(answer, request) for answer in answers)
    assert others == [first, first]
    assert made(await request.by(world, request.body, "k"), request) == first
    if request.other is not None:
        other = await request.by(world, request.other, "k")
        assert (other.status_code, code(other)) in ((409, "idempotency_key_reused"), (409, "U029")), other.text
        assert made(await request.by(world, request.body, "k"), request) == first


@every_operation
async def test_who_never_heard_the_answer_gets_it_from_another_worker(
    home: Path, database_url: str, operation: str
) -> None:
    """The first one ended after its commit: what it knew is in the database, or nowhere."""
    async with open_world(home, database_url) as world:
        request = await SENT[operation](world)
        first = made(await request.by(world, request.body, "k"), request)
    async with open_world(home, database_url) as world:
        assert made(await request.by(world, request.body, "k"), request) == first


@pytest.mark.parametrize("operation", sorted(SENT.keys() - EXPIRING))
async def test_a_key_with_money_behind_it_is_kept_for_good(world: World, operation: str) -> None:
    request = await SENT[operation](world)
    first = made(await request.by(world, request.body, "k"), request)
    await pass_days(world, 1000 * THREE_DAYS_MS)
    assert made(await request.by(world, request.body, "k"), request) == first


@pytest.mark.parametrize("operation", ["CreateReferralLink", "domesticVrpConsentsPost"])
async def test_a_key_that_has_expired_makes_something_new(world: World, operation: str) -> None:
    request = await SENT[operation](world)
    first = made(await request.by(world, request.body, "k"), request)
    await pass_days(world, THREE_DAYS_MS // 3)
    assert made(await request.by(world, request.body, "k"), request) == first
    await pass_days(world, THREE_DAYS_MS)
    second = made(await request.by(world, request.other, "k"), request)
    assert second != first
    assert made(await request.by(world, request.other, "k"), request) == second


async def test_one_key_for_two_confirmations_confirms_one(world: World) -> None:
    first = await a_confirmation(world)
    async with world.house.database.transaction() as conn:
        await know_customers(conn, [("parkco", "idt_1_second")], source="consent", now_ms=now_ms())
    who = {"CustomerToken": "idt_1_second", "Plate": "粤B00002", "OrderReference": "order 2"}
    second = await world.client("parkco").call("POST", f"{V1}/redemptions", body={"Data": {**ORDER, **who}})
    path = f"{V1}/redemptions/{second.json()['Data']['RedemptionId']}/confirmation"
    assert (await first.by(world, first.body, "k")).status_code == 201
    other = await world.client("parkco").call("POST", path, body={"Data": {}}, key="k")
    assert (other.status_code, code(other)) == (409, "idempotency_key_reused")


async def test_one_key_for_charges_of_two_stays_charges_one(world: World) -> None:
    """Neither does the second one pay the full price because its offer could not be held."""
    first = await a_charge(world)
    await bound(world, plate="粤B·54321")
    path = f"{V1}/parking/sessions/{await parked(world, plate='粤B·54321')}/charges"
    one, two = await asyncio.gather(
        first.by(world, {"Data": {}}, "k"), world.client("parkco").call("POST", path, body={"Data": {}}, key="k")
    )
    assert sorted((one.status_code, two.status_code)) == [201, 409]
    assert {code(answer) for answer in (one, two) if answer.status_code == 409} == {"idempotency_key_reused"}
    assert len(await world.sql("SELECT FROM parking_charge")) == 1
