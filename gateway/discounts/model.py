"""What a discount is made of while it runs: what a hold takes, and a redemption with its funding. Frozen, no rules."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from gateway.partners.funding import seed_of


class RedemptionState(StrEnum):
    """HELD → CONFIRMED → PART_REVERSED → REVERSED, or HELD → RELEASED | EXPIRED."""

    HELD = "HELD"
    CONFIRMED = "CONFIRMED"
    PART_REVERSED = "PART_REVERSED"
    REVERSED = "REVERSED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"


@dataclass(frozen=True, slots=True)
class Take:
    """What a hold takes from one counter: fen or times, all of it or the hold breaks. `cap=None`: not limited."""

    counter: str
    amount: int
    cap: int | None


class Fault(IntEnum):
    """What else than a counter breaks a hold; the numbers are those of `hold_redemptions`."""

    CUSTOMER_UNKNOWN = -1
    ORDER_HAS_OFFER = -2


def stored_operation(operation: str) -> str:
    """As a redemption and an index of it store the operation that held it: nothing for the usual one."""
    return "" if operation == "HoldRedemption" else operation


@dataclass(frozen=True, slots=True)
class HeldRow:
    """A hold as it will be written, with the request that asked for it. Its fields are read by `hold_redemptions`.

    `operation`: as it is stored.
    `vouched_token`: the customer's token where somebody must have vouched for it; None where nobody need.
    `counter_names`: what it takes from, in short (`stored_name` of limits.py), and how much of each.
    """

    redemption_id: str
    partner_id: str
    operation: str
    key: str
    request_hash: bytes
    contract_id: str
    contract_version: int
    discount_id: str
    currency: str
    order_minor: int
    held_minor: int
    subject_token: str | None
    vouched_token: str | None
    site_id: str | None
    mcc: str | None
    order_reference: str
    occurred_at_ms: int
    expires_ms: int
    counter_names: tuple[str, ...]
    counter_takes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold that the rules allow, waiting for its counters."""

    row: HeldRow
    takes: tuple[Take, ...]


@dataclass(frozen=True, slots=True)
class Funding:
    """Who paid which part of a confirmed discount. `cap_left` is what each capped party of the version had left."""

    event_id: str
    legs: Mapping[str, int]
    reversed_legs: Mapping[str, int]
    cap_left: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Redemption:
    """A redemption as it stands. `takes` is what its hold took, by counter; `bound_to` the charge that it pays for."""

    redemption_id: str
    partner_id: str
    contract_id: str
    contract_version: int
    discount_id: str
    state: RedemptionState
    currency: str
    order_minor: int
    held_minor: int
    discount_minor: int
    reversed_minor: int
    subject_token: str | None
    site_id: str | None
    mcc: str | None
    order_reference: str
    hold_key: str
    bound_to: str | None
    occurred_at_ms: int
    held_at_ms: int
    expires_ms: int
    changed_at_ms: int
    takes: Mapping[str, int]
    funding: Funding | None

    @property
    def granted_minor(self) -> int:
        """What comes off the order: as held, then as confirmed; nothing once the hold has gone back."""
        return self.held_minor if self.state is RedemptionState.HELD else self.discount_minor

    @property
    def seed(self) -> str:
        """What decides who has the spare unit: the partner's key, and an id that was made after the key came."""
        return seed_of(self.hold_key, self.redemption_id)

    @property
    def left_minor(self) -> int:
        """What of a granted discount has not gone back."""
        return self.discount_minor - self.reversed_minor


@dataclass(frozen=True, slots=True)
class CounterChange:
    """What a step changes in one counter; see the columns of the table."""

    taken: int = 0
    used: int = 0
    reversed: int = 0

    def __add__(self, other: "CounterChange") -> "CounterChange":
        return CounterChange(self.taken + other.taken, self.used + other.used, self.reversed + other.reversed)
