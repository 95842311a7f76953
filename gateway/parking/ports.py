"""What parking needs from other rooms, in its own words; app.py plugs them in. Calls may be repeated by their key."""

from collections.abc import Sequence
from typing import Protocol

from gateway.database import Connection
from gateway.money import Money
from gateway.partners.occasion import Occasion


class Offer(Protocol):
    """An offer that applies, and its price."""

    @property
    def discount_id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def discount_minor(self) -> int: ...
    @property
    def payable_minor(self) -> int: ...


class Granted(Protocol):
    """A discount that is held or confirmed; `left_minor` is what of a confirmed one has not gone back."""

    @property
    def redemption_id(self) -> str: ...
    @property
    def discount_id(self) -> str: ...
    @property
    def granted_minor(self) -> int: ...
    @property
    def left_minor(self) -> int: ...


class Discounts(Protocol):
    """The redemption desk."""

    def offers(self, partner_id: str, *, occasion: Occasion, now_ms: int) -> Sequence[Offer]: ...

    async def hold_offer(
        self, partner_id: str, discount_id: str, *, occasion: Occasion, operation: str, key: str, request_hash: bytes,
        order_reference: str, now_ms: int,
    ) -> Granted: ...  # fmt: skip

    async def bind(self, conn: Connection, redemption_id: str, *, charge_id: str, now_ms: int) -> None: ...

    async def grant(self, partner_id: str, redemption_id: str, *, charge_id: str, now_ms: int) -> Granted: ...

    async def undo(self, partner_id: str, redemption_id: str, *, charge_id: str, now_ms: int) -> Granted: ...

    async def release(
        self, partner_id: str, redemption_id: str, *, operation: str, key: str, request_hash: bytes, now_ms: int
    ) -> Granted: ...

    async def reverse(
        self, partner_id: str, redemption_id: str, *, amount: Money, operation: str, key: str, request_hash: bytes,
        now_ms: int, charge_id: str | None,
    ) -> Granted: ...  # fmt: skip


class Collected(Protocol):
    """`status` is ACSC (settled), PDNG (the bank has not decided) or RJCT, with a reason."""

    @property
    def status(self) -> str: ...
    @property
    def reason(self) -> str | None: ...


class Refunded(Protocol):
    """The same for money that goes back."""

    @property
    def status(self) -> str: ...


class Collections(Protocol):
    """Taking money under a customer's mandate. The network is asked here: never inside a transaction."""

    async def collect(
        self, *, partner_id: str, mandate_id: str, payment_id: str, amount: Money, reference: str,
        creditor_account: str, now_ms: int,
    ) -> Collected: ...  # fmt: skip

    async def refund(
        self, *, partner_id: str, payment_id: str, refund_id: str, amount: Money, now_ms: int
    ) -> Refunded: ...
