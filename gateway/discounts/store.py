"""Redemptions and their counters in PostgreSQL. The decision of a batch of holds is one statement (ADR 0006)."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from asyncpg import Record

from gateway.clock import local_day
from gateway.database import Connection
from gateway.database.expiry import Expiry
from gateway.database.idempotency import KeyedRequest
from gateway.discounts.limits import COUNTERS_KEPT_MS, Limit, full_name, limit_of
from gateway.discounts.model import (
    CounterChange,
    Fault,
    Funding,
    Hold,
    Redemption,
    RedemptionState,
    Take,
    stored_operation,
)
from gateway.events import outbox
from gateway.events.outbox import Event
from gateway.jsonio import encode
from gateway.ledger.book import Entry

_HOLD = "SELECT place, broken, known_id, known_hash FROM hold_redemptions($1, $2, $3, $4, $5, $6, $7, $8, $9)"
_STEP = "SELECT step_redemptions($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
DATED_COUNTERS = Expiry(
    "counter",
    """(starts_with(name, 'day|') OR starts_with(name, 'plate|'))
       AND right(name, 10) < to_char(timestamp 'epoch' + $1::bigint * interval '1 millisecond', 'YYYY-MM-DD')""",
    kept_ms=COUNTERS_KEPT_MS,
)
DUE_LOOKS = 10_000  # times of holds that one look drops or finds: more than a second brings
_COLUMNS = """redemption_id, partner_id, contract_id, contract_version, discount_id, state, currency, order_minor,
    held_minor, discount_minor, reversed_minor, subject_token, site_id, mcc, order_reference, hold_key, bound_to,
    occurred_at_ms, held_at_ms, expires_ms, changed_at_ms, counter_names, counter_takes, funding"""


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one hold: broken, known as the redemption of its key, or held."""

    broken: Take | Fault | None
    known_id: str | None
    known_hash: bytes | None


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a batch of steps begins with: the redemptions that are there, by id, locked; the request hashes of the keys
    that were used before, by (partner, operation, key); the business day that is held open."""

    redemptions: dict[str, Redemption]
    known: dict[tuple[str, str, str], bytes]
    day: date


@dataclass(frozen=True, slots=True)
class SteppedRow:
    """What a step may change in a redemption. Its fields are read by `step_redemptions`."""

    redemption_id: str
    state: str
    order_minor: int
    discount_minor: int
    reversed_minor: int
    site_id: str | None
    mcc: str | None
    funding: Funding | None


@dataclass(frozen=True, slots=True)
class StepRow:
    """The key of a step that was taken. Its fields are read by `step_redemptions`."""

    redemption_id: str
    partner_id: str
    operation: str
    key: str
    request_hash: bytes


@dataclass(frozen=True, slots=True)
class CounterState:
    """One counter as it stands."""

    cap: int | None
    taken: int
    used: int
    reversed: int


async def hold_many(conn: Connection, holds: Sequence[Hold], *, now_ms: int) -> list[Decision]:
    """Decide the holds in order and write what was decided; exact at every cap. Keys and orders differ in the batch."""
    caps: dict[str, int | None] = {}
    wanted: dict[str, int] = defaultdict(int)
    for hold in holds:
        for take in hold.takes:
            caps[take.counter] = take.cap
            wanted[take.counter] += take.amount
    names = sorted(caps)
    place = {name: number for number, name in enumerate(names, 1)}
    needs = [(row, take) for row, hold in enumerate(holds, 1) for take in hold.takes]
    rows = await conn.fetch(
        _HOLD,
        now_ms, names, [caps[name] for name in names], [wanted[name] for name in names],
        [row for row, _ in needs], [place[take.counter] for _, take in needs],
        [take.amount for _, take in needs], [take.cap for _, take in needs],
        encode([hold.row for hold in holds]).decode(),
    )  # fmt: skip
    takes = [take for _, take in needs]
    return [Decision(_broken(row["broken"], takes), row["known_id"], row["known_hash"]) for row in rows]


def _broken(number: int | None, takes: Sequence[Take]) -> Take | Fault | None:
    if number is None:
        return None
    return takes[number - 1] if number > 0 else Fault(number)


async def load_many(conn: Connection, redemption_ids: Sequence[str]) -> dict[str, Redemption]:
    """The redemptions by id, as they were committed last."""
    if not redemption_ids:
        return {}
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} FROM redemption WHERE redemption_id = ANY ($1)",
        list(redemption_ids),
    )
    return {row["redemption_id"]: _redemption(row) for row in rows}


async def begin_steps(
    conn: Connection, redemption_ids: Sequence[str], requests: Sequence[KeyedRequest], *, now_ms: int
) -> Beginning:
    """Locks the redemptions, in the order of their ids, and holds the business day open, until the transaction ends."""
    rows = await conn.fetch(
        f"SELECT {_COLUMNS}, operation, key, request_hash, business_day FROM begin_steps($1, $2, $3, $4)",
        list(redemption_ids), encode(requests).decode(), local_day(now_ms, outbox.BANK_ZONE), outbox.DAY_LOCK,
    )  # fmt: skip
    begun = Beginning({}, {}, rows[-1]["business_day"])
    for row in rows[:-1]:
        if row["key"] is None:
            begun.redemptions[row["redemption_id"]] = _redemption(row)
        else:
            begun.known[row["partner_id"], row["operation"], row["key"]] = row["request_hash"]
    return begun


async def lock_funders(conn: Connection, names: Collection[str]) -> dict[str, int]:
    """What these counters have used; they are ours until the transaction ends."""
    return {
        row["name"]: row["used"] for row in await conn.fetch("SELECT name, used FROM lock_funders($1)", sorted(names))
    }


async def held_by_request(conn: Connection, request: KeyedRequest) -> Redemption | None:
    """The redemption that this key has held. Raises IdempotencyKeyReused."""
    row = await conn.fetchrow(
        f"""SELECT {_COLUMNS}, hold_request FROM redemption
            WHERE hold_key = $1 AND partner_id = $2 AND hold_operation = $3""",
        request.key, request.partner_id, stored_operation(request.operation),
    )  # fmt: skip
    if row is None:
        return None
    request.check_same(row["hold_request"])
    return _redemption(row)


async def write_steps(
    conn: Connection,
    redemptions: Sequence[Redemption],
    *,
    counters: Mapping[str, CounterChange],
    steps: Sequence[StepRow],
    events: Sequence[Event],
    entries: Sequence[Entry],
    day: date,
    now_ms: int,
) -> None:
    """The redemptions as they are now, what is told and booked, and what their counters get: one statement.

    `day` is the one that is held open; `steps` are their keys.
    """
    names = sorted(counters, key=lambda name: (limit_of(name) is not Limit.FUND, name))
    await conn.execute(
        _STEP,
        now_ms, names,
        [counters[name].taken for name in names], [counters[name].used for name in names],
        [counters[name].reversed for name in names],
        encode([_stepped(redemption) for redemption in redemptions]).decode(), encode(steps).decode(),
        [outbox.leaf(event, now_ms=now_ms, day=day) for event in events], encode(entries).decode(), day,
    )  # fmt: skip


async def bind_hold(conn: Connection, redemption_id: str, *, charge_id: str, now_ms: int) -> bool:
    """From now on the hold waits for this charge. False: it is over, or bound already."""
    bound = await conn.fetchval(
        """UPDATE redemption SET bound_to = $2, changed_at_ms = $3
           WHERE redemption_id = $1 AND state = 'HELD' AND bound_to IS NULL AND expires_ms > $3 RETURNING true""",
        redemption_id, charge_id, now_ms,
    )  # fmt: skip
    return bool(bound)


async def idle_hold(conn: Connection, partner_id: str, order_reference: str) -> str | None:
    """The order's hold, where no charge has taken it up."""
    found: str | None = await conn.fetchval(
        """SELECT redemption_id FROM redemption
           WHERE order_reference = $1 AND partner_id = $2 AND takes_order AND state = 'HELD' AND bound_to IS NULL""",
        order_reference, partner_id,
    )  # fmt: skip
    return found


async def expired_holds(conn: Connection, *, now_ms: int, limit: int) -> list[tuple[str, str]]:
    """(redemption, partner) of the holds whose time is over, oldest first; those bound to a charge wait for it."""
    rows = await conn.fetch(
        "SELECT redemption_id, partner_id FROM expired_holds($1, $2, $3)", now_ms, DUE_LOOKS, limit
    )  # fmt: skip
    return [(row["redemption_id"], row["partner_id"]) for row in rows]


async def counter_states(conn: Connection, names: Sequence[str]) -> dict[str, CounterState]:
    """The counters that exist; one that nobody took from yet does not."""
    rows = await conn.fetch("SELECT name, cap, taken, used, reversed FROM counter WHERE name = ANY ($1)", list(names))
    return {row["name"]: CounterState(row["cap"], row["taken"], row["used"], row["reversed"]) for row in rows}


async def budgets_used(conn: Connection) -> dict[str, int]:
    """What each campaign's budget has used, by counter; `}` is the character after `|`."""
    rows = await conn.fetch("SELECT name, used FROM counter WHERE name >= 'budget|' AND name < 'budget}'")
    return {row["name"]: row["used"] for row in rows}


def _stepped(redemption: Redemption) -> SteppedRow:
    return SteppedRow(
        redemption.redemption_id, redemption.state, redemption.order_minor, redemption.discount_minor,
        redemption.reversed_minor, redemption.site_id, redemption.mcc, redemption.funding,
    )  # fmt: skip


def _redemption(row: Record) -> Redemption:
    funding = row["funding"]
    names = (
        full_name(
            stored, contract_id=row["contract_id"], discount_id=row["discount_id"], currency=row["currency"],
            subject_token=row["subject_token"],
        )
        for stored in row["counter_names"]
    )  # fmt: skip
    return Redemption(
        row["redemption_id"], row["partner_id"], row["contract_id"], row["contract_version"], row["discount_id"],
        RedemptionState(row["state"]), row["currency"], row["order_minor"], row["held_minor"], row["discount_minor"],
        row["reversed_minor"], row["subject_token"], row["site_id"], row["mcc"], row["order_reference"],
        row["hold_key"], row["bound_to"], row["occurred_at_ms"], row["held_at_ms"], row["expires_ms"],
        row["changed_at_ms"], takes=dict(zip(names, row["counter_takes"], strict=True)),
        funding=Funding(**funding) if funding else None,
    )  # fmt: skip
