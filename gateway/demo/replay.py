"""Step 6b: a real day of car parks and real customers' purchases, sent through the same API as everything else."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from gateway.clock import now_ms, rfc3339
from gateway.demo import parking_day, purchases
from gateway.demo.client import Token
from gateway.demo.parking_day import Stay
from gateway.demo.parking_steps import PARKING, bind_plate, create_mandate, enter, leave
from gateway.demo.purchases import Purchase
from gateway.demo.referral_steps import upload_lines
from gateway.demo.stage import V1, DemoCannotStart, Stage, data, identity_token
from gateway.demo.waiting import until
from gateway.money import Money

DEFAULT_SESSIONS, DEFAULT_CUSTOMERS = 2_000, 2_000
DAY_MS = 86_400_000
IN_FLIGHT = 24  # calls at once: more only wait for each other on two cores
DRIVERS = 40  # customers whose mandates the cars pay by
BULK = 500
LAPSE_MS = 10  # a day of the shop passes in so many milliseconds: spends follow the referral, none lies in the future
MANDATE_MONTH = "9000000.00"


@dataclass(slots=True)
class Replay:
    """What to send: files or, where there are none, something that we make; how much; and what it came to."""

    parking_file: Path | None
    purchases_file: Path | None
    everything: bool
    stays: list[Stay] = field(default_factory=list)
    bought: list[Purchase] = field(default_factory=list)
    calls: int = 0
    fees_minor: int = 0
    off_minor: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    lots: list[str] = field(default_factory=list)


def read_input(replay: Replay, console: Console) -> None:
    """Before anything is driven. Raises DemoCannotStart for a file that is not what it should be."""
    try:
        replay.stays = _stays(replay, console)
        replay.bought = _purchases(replay, console)
    except OSError as error:
        raise DemoCannotStart(f"{error.filename} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DemoCannotStart(str(error)) from None


async def replay_days(stage: Stage, replay: Replay) -> RenderableType:
    """Cars in and out of every lot, then purchases as spend after referral; prints what it came to."""
    await _drive_cars(stage, replay, replay.stays)
    await _shop(stage, replay, replay.bought)
    table = Table("What", "How many", "Seconds", "Calls a second", title="Replay · 回放")
    total = sum(replay.seconds.values())
    for name, count in (("parking sessions · 停车", len(replay.stays)), ("purchases · 消费", len(replay.bought))):
        table.add_row(name, f"{count:,}", f"{replay.seconds[name.split(' ')[0]]:.1f}", "")
    table.add_row("calls · 调用", f"{replay.calls:,}", f"{total:.1f}", f"{replay.calls / total:,.0f}")
    fees, off = Money(replay.fees_minor, "CNY"), Money(replay.off_minor, "CNY")
    table.add_row("fees, off · 费用、优惠 (CNY)", fees.text, off.text, "")
    return table


def _stays(replay: Replay, console: Console) -> list[Stay]:
    """The day of the file, moved by whole days to the latest date on which it is over; or a small one that we make."""
    yesterday = (now_ms() // DAY_MS - 1) * DAY_MS
    if replay.parking_file is None or not replay.parking_file.exists():
        if replay.parking_file is not None:
            console.print(
                f"{replay.parking_file} is not there: a small day is made instead · 文件不存在，改用生成的数据"
            )
        return parking_day.generate_day(start_ms=yesterday, stays=200)
    stays = parking_day.read_day(replay.parking_file)
    stays = stays if replay.everything else parking_day.sample(stays, DEFAULT_SESSIONS)
    return parking_day.shift(stays, by_ms=parking_day.whole_days_until(now_ms(), stays))


def _purchases(replay: Replay, console: Console) -> list[Purchase]:
    if replay.purchases_file is None or not replay.purchases_file.exists():
        if replay.purchases_file is not None:
            console.print(
                f"{replay.purchases_file} is not there: a small set is made instead · 文件不存在，改用生成的数据"
            )
        return purchases.generate_purchases(customers=200, last_ms=now_ms() // DAY_MS * DAY_MS)
    bought = purchases.read_purchases(replay.purchases_file, currency="CNY")
    return bought if replay.everything else purchases.first_customers(bought, DEFAULT_CUSTOMERS)


# --- cars ------------------------------------------------------------------------------------------------------
async def _drive_cars(stage: Stage, replay: Replay, stays: list[Stay]) -> None:
    lots = [lot["SiteId"] for lot in (await data(stage.parkco, "GET", f"{PARKING}/lots"))["Lot"]]
    cars, count = parking_day.assign_cars(stays)
    started = time.monotonic()
    mandates = await _mandates(stage, min(DRIVERS, count))
    await in_parallel("plates · 车牌", range(count), lambda car: _bind(stage, car, mandates))
    replay.calls += count + 8 * len(mandates)
    by_car: dict[int, list[Stay]] = {}
    for stay, car in zip(stays, cars, strict=True):
        by_car.setdefault(car, []).append(stay)
    await in_parallel("sessions · 停车", by_car.items(), lambda entry: _drive(stage, replay, entry, lots))
    replay.seconds["parking"] = time.monotonic() - started


async def _mandates(stage: Stage, count: int) -> list[str]:
    """Drivers with an account and a mandate each; their plates share them."""
    people = [
        {
            "Phone": stage.phone(1000 + n),
            "Name": f"车主 {n}",
            "OpeningBalance": {"Amount": "5000000.00", "Currency": "CNY"},
        }
        for n in range(count)
    ]
    customers = (await stage.sandbox("/customers", {"Customer": people}))["Customer"]
    mandates: list[str] = []

    async def give(customer: dict[str, Any]) -> None:
        consent_id = (await create_mandate(stage.parkco, month=MANDATE_MONTH))["ConsentId"]
        _: Token = await stage.parkco.approve(
            consent_id, kind="domestic-vrp-consent", scope="payments", CustomerId=customer["CustomerId"]
        )
        mandates.append(consent_id)

    await in_parallel("mandates · 授权", customers, give)
    return mandates


async def _bind(stage: Stage, car: int, mandates: list[str]) -> None:
    await bind_plate(stage.parkco, _plate(stage, car), mandates[car % len(mandates)])


async def _drive(stage: Stage, replay: Replay, entry: tuple[int, list[Stay]], lots: list[str]) -> None:
    """One car's stays, one after the other."""
    car, stays = entry
    for stay in stays:
        site = lots[int(sha256(stay.lot.encode()).hexdigest(), 16) % len(lots)]
        session = await enter(stage.parkco, _plate(stage, car), site, at=_moment(stay.entered_ms))
        charge = await leave(stage.parkco, session["SessionId"], at=_moment(stay.left_ms))
        replay.calls += 2
        replay.fees_minor += _fen(charge["FeeAmount"])
        replay.off_minor += _fen(charge["DiscountAmount"])
        stage.checks.expect("every car of the day gets out", charge["OpenBarrier"], charge)


def _plate(stage: Stage, car: int) -> str:
    return f"沪{'ABCDEFGHJK'[car // 100_000]}{stage.run[:1].upper()}{car % 100_000:05d}"


# --- purchases -------------------------------------------------------------------------------------------------
async def _shop(stage: Stage, replay: Replay, bought: list[Purchase]) -> None:
    """shopco brings its customers by one batch; the bank opens their accounts, and they spend."""
    started = time.monotonic()
    names = sorted({purchase.customer for purchase in bought})
    first = int(sha256(stage.run.encode()).hexdigest(), 16)
    phones = {name: f"+86139{(first + place) % 10**8:08d}" for place, name in enumerate(names)}
    keys = (await data(stage.shopco, "GET", f"{V1}/identity-keys"))["IdentityKey"][-1]
    tokens = [await identity_token(stage.shopco, phones[name], keys) for name in names]
    touched = rfc3339(now_ms() - DAY_MS)
    lines = ["customer_token,consent_ref,touched_at,site"]
    lines += [f"{token},order-{name},{touched}," for token, name in zip(tokens, names, strict=True)]
    batch = await upload_lines(
        stage.shopco, lines, distinct=len(set(tokens)), number=f"{stage.run}-shop", patience_s=600
    )
    stage.checks.expect("every customer of the shop is claimed", batch["Counts"]["OK"] == len(names), batch["Counts"])
    judged_before = await goals_judged(stage)
    people = [{"Phone": phone, "Name": "顾客"} for phone in dict.fromkeys(phones.values())]
    replay.calls += 3 + await _bulk(stage, "/customers", "Customer", people, "accounts · 开户")
    goals_ms = now_ms() + 1  # nobody spends before having an account
    events = list(_events(stage, bought, phones, start_ms=goals_ms))
    latest_ms = goals_ms + (max(p.at_ms for p in bought) - min(p.at_ms for p in bought)) // DAY_MS * LAPSE_MS
    await asyncio.sleep(max(0, latest_ms + 1 - now_ms()) / 1000)  # nothing may come from the future
    replay.calls += await _bulk(stage, "/customer-events", "Event", events, "purchases · 消费")
    expected = judged_before + len(events)

    async def judged() -> bool | None:
        return await goals_judged(stage) >= expected or None

    await until(judged, what=f"the bank's {len(events):,} goals are attributed", patience_s=600)
    replay.seconds["purchases"] = time.monotonic() - started


async def goals_judged(stage: Stage) -> int:
    """How many cards and spends have been decided so far, by the gateway's own metrics; an account that was open
    already is no goal, so accounts are not counted."""
    page = (await stage.http.get(f"{stage.url}/metrics")).text
    lines = [line for line in page.splitlines() if line.startswith("parasol_goals_total{") and "OPENED" not in line]
    return sum(int(line.rpartition(" ")[2].partition(".")[0]) for line in lines)


def _events(stage: Stage, bought: list[Purchase], phones: dict[str, str], *, start_ms: int) -> list[dict[str, Any]]:
    """A card activated at the first purchase, every purchase as spend; a day passes in LAPSE_MS."""
    first_ms = min(purchase.at_ms for purchase in bought)
    events: list[dict[str, Any]] = []
    active: set[str] = set()
    for number, purchase in enumerate(sorted(bought, key=lambda p: (p.at_ms, p.customer, p.amount_minor))):
        moment = rfc3339(start_ms + (purchase.at_ms - first_ms) // DAY_MS * LAPSE_MS)
        who = {"Phone": phones[purchase.customer], "OccurredDateTime": moment}
        if purchase.customer not in active:
            active.add(purchase.customer)
            events.append({"EventId": f"{stage.run}-card-{purchase.customer}", "Kind": "CARD_ACTIVATED", **who})
        amount = {"Amount": f"{purchase.amount_minor // 100}.{purchase.amount_minor % 100:02d}", "Currency": "CNY"}
        events.append({"EventId": f"{stage.run}-buy-{number}", "Kind": "SPEND", "Amount": amount, **who})
    return events


async def _bulk(stage: Stage, path: str, member: str, items: Sequence[dict[str, Any]], title: str) -> int:
    """In order, as the bank's feed has an order; returns the number of calls."""
    pieces = [items[start : start + BULK] for start in range(0, len(items), BULK)]

    async def send(piece: Sequence[dict[str, Any]]) -> None:
        await stage.sandbox(path, {member: list(piece)})

    await in_parallel(title, pieces, send, at_once=1)
    return len(pieces)


# --- many at once ------------------------------------------------------------------------------------------------
async def in_parallel(
    title: str, items: Any, work: Callable[[Any], Awaitable[None]], *, at_once: int = IN_FLIGHT
) -> None:
    """Every item through `work`, so many at once, with a bar; the first failure ends it."""
    waiting = iter(list(items))
    with Progress(
        TextColumn(f"  {title}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=True
    ) as bar:
        task = bar.add_task("", total=len(list(items)) if hasattr(items, "__len__") else None)

        async def worker() -> None:
            for item in waiting:
                await work(item)
                bar.advance(task)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(at_once):
                    group.create_task(worker())
        except ExceptionGroup as failures:
            raise first_of(failures) from None


def first_of(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first of several that failed at once: one sentence tells more than a tree of traces."""
    first = failures.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _fen(amount: dict[str, str]) -> int:
    whole, _, rest = amount["Amount"].partition(".")
    return int(whole) * 100 + int(rest or 0)
