"""What a durable hold+confirm pair costs below HTTP: `python -m bench.holds [callers]` (ADR 0006).

The whole desk: rules, counters, known customers, orders, rows, keys, events, ledger entries, commit with fsync. Callers
hold and confirm in a closed loop against one campaign whose budget, day and partner cap are all counted. Beside it, on
the same database: the plain way (one guarded row and one transaction for each request) without events, keys or ledger.
"""

import asyncio
import secrets
import sys
import time
from collections.abc import Iterator

from bench import row_per_request as plain
from bench.scratch import scratch_database
from gateway.admission.door import REQUEST_HASH_BYTES
from gateway.database import Database
from gateway.discounts.desk import RedemptionDesk
from gateway.discounts.redemption import FinalOrder
from gateway.money import Money
from gateway.partners.contract import Contract
from gateway.partners.contract_rules import from_document
from gateway.partners.occasion import Occasion
from gateway.partners.snapshot import Snapshot
from gateway.partners.store import know_customers

CALLERS = 64  # of one worker: what a busy partner keeps open
RUN_S, WARM_UP_S, ROUNDS = 3.0, 1.0, 3
CAP_MINOR = 10**12
CUSTOMERS = 150_000  # more than any machine of ours serves in the rounds
NOW_MS = 1_790_000_000_000


def terms() -> Contract:
    fund = [{"party": "bank", "bps": 6000},
            {"party": "partner", "bps": 4000, "cap_minor": CAP_MINOR, "overflow": "bank"}]  # fmt: skip
    limits = {"per_customer": 1, "budget_minor": CAP_MINOR, "per_day_minor": CAP_MINOR}
    discount = {"id": "first-park", "title": "One fen", "kind": "cap_price", "pay_minor": 1, "fund": fund,
                "limits": limits}  # fmt: skip
    head = {"id": "parkco-2026", "version": 1, "currency": "CNY", "valid_from": "2026-01-01"}
    return from_document({"contract": head, "discount": [discount]})


async def know(database: Database) -> Iterator[str]:
    """Tokens that somebody has vouched for, each for one hold."""
    tokens = [f"idt_1_{secrets.token_hex(16)}" for _ in range(CUSTOMERS)]
    async with database.transaction() as conn:
        await know_customers(conn, [("parkco", token) for token in tokens], source="batch", now_ms=NOW_MS)
    return iter(tokens)


async def pair(desk: RedemptionDesk, token: str) -> None:
    key = token[-32:]
    occasion = Occasion(Money(1200, "CNY"), NOW_MS, token, None, "lot-1", "7523")
    held = await desk.hold_offer(
        "parkco", "first-park", occasion=occasion, operation="HoldRedemption", key=key,
        request_hash=b"h" * REQUEST_HASH_BYTES, order_reference=key, now_ms=NOW_MS,
    )  # fmt: skip
    await desk.confirm(
        "parkco", held.redemption_id, final=FinalOrder(), operation="ConfirmRedemption", key=key,
        request_hash=b"c" * REQUEST_HASH_BYTES, now_ms=NOW_MS,
    )  # fmt: skip


async def plain_pair(database: Database) -> None:
    async with database.transaction() as conn:
        assert await conn.execute(plain.TAKE, plain.BUDGET, 1199) == "UPDATE 1"
        hold_id = await conn.fetchval(plain.HOLD, plain.BUDGET, 1199)
    async with database.transaction() as conn:
        assert await conn.execute(plain.CONFIRM, hold_id) == "UPDATE 1"


async def pairs_per_second(one: object, *, callers: int, seconds: float) -> tuple[float, float]:
    """(pairs a second, share of one core that this process used)."""
    done, ends = 0, time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < ends:
            await one()  # type: ignore[operator]
            done += 1

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    took = time.perf_counter() - started
    return done / took, (time.process_time() - cpu) / took


async def main(callers: int) -> None:
    async with scratch_database(pool_size=8) as database:
        await plain.prepare(database.url, cap_minor=CAP_MINOR)
        snapshot = Snapshot(1, {}, {}, {}, {"parkco": (terms(),)}, frozenset())
        desk = RedemptionDesk(database, snapshot=lambda: snapshot, secret=bytes(32))
        tokens = await know(database)
        ways = {
            "gathered, complete": lambda: pair(desk, next(tokens)),
            "one row a request": lambda: plain_pair(database),
        }
        for way in ways.values():
            await pairs_per_second(way, callers=callers, seconds=WARM_UP_S)
        for _ in range(ROUNDS):
            for name, way in ways.items():
                rate, busy = await pairs_per_second(way, callers=callers, seconds=RUN_S)
                print(f"{name:20} {rate:8.0f} pairs/s   {1e6 / rate:6.0f} µs a pair, "
                      f"{busy * 1e6 / rate:4.0f} µs of it this process")  # fmt: skip


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else CALLERS))
