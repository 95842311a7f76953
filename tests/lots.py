"""A car park with a real desk and a real database; only the bank is played, and says what it is told to."""

from dataclasses import dataclass, field
from typing import Any

from gateway.corebank.port import CoreBankUnavailable
from gateway.database import Database
from gateway.database.idempotency import KeyedRequest
from gateway.discounts.desk import RedemptionDesk
from gateway.discounts.model import RedemptionState
from gateway.money import Money
from gateway.parking.charging import Barrier, Exit
from gateway.parking.model import Agreement, Charge, Session, SessionStatus
from gateway.parking.refunding import RefundCounter
from gateway.parking.store import charges, stays
from gateway.refusal import Refusal
from tests.desks import NOW_MS, ONE_FEN, contract, desk_with

HOUR_MS = 3_600_000
FEE = Money(1200, "CNY")


class FundsShort(Refusal):
    """What a bank's rule may say no with."""

    code = "funds_short"


@dataclass(slots=True)
class FakeBank:
    """Answers in the order given, the last one for ever; counts money by payment, as ids make orders happen once."""

    answers: list[Any]
    taken: dict[str, int] = field(default_factory=dict)
    given: dict[str, int] = field(default_factory=dict)

    async def collect(self, *, payment_id: str, amount: Money, **_: Any) -> "Answered":
        return self._answer(self.taken, payment_id, amount)

    async def refund(self, *, refund_id: str, amount: Money, **_: Any) -> "Answered":
        return self._answer(self.given, refund_id, amount)

    def _answer(self, book: dict[str, int], order_id: str, amount: Money) -> "Answered":
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer == "LOST":  # the bank has acted, its answer never came
            book[order_id] = amount.minor
            raise CoreBankUnavailable
        if isinstance(answer, Exception):
            raise answer
        if answer == "ACSC":
            book[order_id] = amount.minor
        return Answered(answer)


@dataclass(frozen=True, slots=True)
class Answered:
    status: str
    reason: str | None = None


@dataclass(slots=True)
class Lot:
    """One car park with a desk, a barrier and a bank that says what it is told to."""

    database: Database
    bank: FakeBank
    desk: RedemptionDesk
    barrier: Barrier
    counter: RefundCounter

    async def park(self, plate: str = "p") -> Exit:
        agreement = Agreement(f"vag_{plate}", "parkco", plate, "粤B***1", "cns_1", "idt_1_a", "ACTIVE", NOW_MS)
        session = Session(
            f"prk_{plate}", "parkco", "lot-1", plate, "粤B***1", f"vag_{plate}", SessionStatus.PARKED, None,
            NOW_MS - HOUR_MS, None, NOW_MS - HOUR_MS, NOW_MS - HOUR_MS,
        )  # fmt: skip
        async with self.database.transaction() as conn:
            await stays.add_agreement(conn, agreement)
            keyed = KeyedRequest("parkco", "EnterParking", f"key-{plate}", b"h")
            assert await stays.park(conn, session, keyed, capacity=0) == session
        return Exit(
            session, agreement, fee=FEE, left_at_ms=NOW_MS, mcc="7523", offer_id=None, creditor_account="acc_parkco",
            keyed=by_key(f"key-{plate}"),
        )  # fmt: skip

    async def session(self, plate: str = "p") -> Session:
        async with self.database.connection() as conn:
            found = await stays.find_session(conn, f"prk_{plate}")
        assert found is not None
        return found

    async def charge_now(self, charge: Charge) -> Charge:
        async with self.database.connection() as conn:
            return await charges.get_charge(conn, charge.charge_id)

    async def redemption(self, charge: Charge) -> RedemptionState:
        async with self.database.connection() as conn:
            state = await conn.fetchval("SELECT state FROM redemption WHERE redemption_id = $1", charge.redemption_id)
        return RedemptionState(state)


def by_key(key: str) -> KeyedRequest:
    return KeyedRequest("parkco", "ChargeParking", key, b"h")


def lot_with(database: Database, *answers: Any, discounts: tuple[dict[str, Any], ...] = (ONE_FEN,)) -> Lot:
    bank, desk = FakeBank(list(answers)), desk_with(database, contract(*discounts))
    return Lot(
        database, bank, desk, Barrier(database, discounts=desk, collections=bank),
        RefundCounter(database, discounts=desk, collections=bank),
    )  # fmt: skip


async def refund(lot: Lot, charge: Charge, minor: int, *, key: str = "r") -> Any:
    return await lot.counter.refund(
        charge, KeyedRequest("parkco", "RefundParkingCharge", key, str(minor).encode()), amount=Money(minor, "CNY"),
        now_ms=NOW_MS,
    )  # fmt: skip


async def lot_exit(lot: Lot) -> Exit:
    """The same car at the barrier again, as the partner's next request would see it."""
    session = await lot.session()
    agreement = Agreement("vag_p", "parkco", "p", "粤B***1", "cns_1", "idt_1_a", "ACTIVE", NOW_MS)
    return Exit(session, agreement, FEE, NOW_MS, "7523", None, "acc_parkco", by_key("k"))
