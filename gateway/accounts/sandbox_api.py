"""The sandbox bank's counter over HTTP: customers open accounts, activate cards and spend. Only in a sandbox."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.call import Answer, OpenCall
from gateway.clock import Moment, moment_ms
from gateway.corebank.port import OrderOutcome
from gateway.corebank.sandbox.people import DEMO_PASSCODE, Counter, Opening
from gateway.corebank.sandbox.store import FeedEvent
from gateway.jsonio import decode
from gateway.money import Amount, parse_amount
from gateway.partners.identity import normalise_phone
from gateway.refusal import Refusal, UnknownResource

_Id = Annotated[str, Meta(min_length=1, max_length=100)]
_Name = Annotated[str, Meta(min_length=1, max_length=70)]
BULK_LIMIT = 500  # events or customers a call: some 60 KiB
DEMO_LOGIN = "Sandbox customer"


class TooManyItems(Refusal):
    """More than one call takes."""

    code, outcome = "too_many_items", "schema"
    title = "One call takes at most 500 items"


class CurrencyNotKept(Refusal):
    """The sandbox's accounts are in one currency."""

    code, outcome = "currency_not_kept", "schema"
    title = "The sandbox bank keeps no account in that currency"


class NewCustomer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """Somebody opens an account; `scan_ticket` is what the app kept from a partner's link."""

    phone: str
    name: _Name = DEMO_LOGIN
    occurred_date_time: Moment | None = None
    opening_balance: Amount | None = None
    scan_ticket: _Id | None = None


class NewCustomers(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """Several at once."""

    customer: list[NewCustomer]


class BankEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """A card is activated, or money is spent."""

    event_id: _Id
    kind: Literal["CARD_ACTIVATED", "SPEND"]
    phone: str
    occurred_date_time: Moment
    amount: Amount | None = None


class BankEvents(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """Several at once."""

    event: list[BankEvent]


class OrderDecision(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """SETTLE books it if it can be booked; REJECT never does."""

    decision: Literal["SETTLE", "REJECT"] = "SETTLE"


@dataclass(frozen=True, slots=True)
class SandboxBankApi:
    """Nobody is admitted here: these operations exist only in a sandbox, with made-up people."""

    counter: Counter
    currency: str
    decide: Callable[..., Awaitable[OrderOutcome | None]]  # SandboxBank.decide

    async def decide_order(self, call: OpenCall) -> Answer:
        """What the bank's back office does with an order that it left pending; one that is decided stays so."""
        wanted = decode(call.raw_body or b"{}", OrderDecision)
        outcome = await self.decide(call.path["OrderId"], book=wanted.decision == "SETTLE")
        if outcome is None:
            raise UnknownResource("The bank has no order of that id")
        shown = {"OrderId": outcome.order_id, "Status": outcome.status.value}
        return Answer(200, {"Data": {**shown, **({"StatusReasonCode": outcome.reason} if outcome.reason else {})}})

    async def open_accounts(self, call: OpenCall) -> Answer:
        """Each gets a customer and an account; somebody who is a customer already stays who they are."""
        wanted = decode(call.raw_body, NewCustomers).customer
        _check_count(wanted)
        openings = [
            Opening(
                phone=normalise_phone(one.phone, path=f"$.Customer[{i}].Phone"),
                name=one.name,
                currency=self.currency,
                occurred_ms=_moment(one.occurred_date_time, f"$.Customer[{i}].OccurredDateTime", now_ms=call.now_ms),
                opening_minor=self._minor(one.opening_balance, f"$.Customer[{i}].OpeningBalance"),
                scan_ticket=one.scan_ticket,
            )
            for i, one in enumerate(wanted)
        ]
        known = await self.counter.open_accounts(openings)
        logins = await self.counter.logins(list(known.values()))
        shown = [
            {"CustomerId": customer_id, "Login": logins[customer_id], "Passcode": DEMO_PASSCODE}
            for customer_id in (known[opening.phone] for opening in openings)
        ]
        return Answer(201, {"Data": {"Customer": shown}})

    async def tell_events(self, call: OpenCall) -> Answer:
        """Onto the bank's goal feed, once per EventId."""
        wanted = decode(call.raw_body, BankEvents).event
        _check_count(wanted)
        phones = [normalise_phone(one.phone, path=f"$.Event[{i}].Phone") for i, one in enumerate(wanted)]
        known = await self.counter.customer_ids(phones)
        for i, phone in enumerate(phones):
            if phone not in known:
                raise UnknownResource("Nobody with that phone has an account here", path=f"$.Event[{i}].Phone")
        events = [
            FeedEvent(
                one.event_id, one.kind, known[phone], self._minor(one.amount, f"$.Event[{i}].Amount"), self.currency,
                _moment(one.occurred_date_time, f"$.Event[{i}].OccurredDateTime", now_ms=call.now_ms), None,
            )
            for i, (one, phone) in enumerate(zip(wanted, phones, strict=True))
        ]  # fmt: skip
        fresh = await self.counter.tell(events)
        return Answer(202, {"Data": {"Accepted": len(fresh), "Known": len(events) - len(fresh)}})

    def _minor(self, amount: Amount | None, path: str) -> int:
        if amount is None:
            return 0
        if amount.currency != self.currency:
            raise CurrencyNotKept(f"Its accounts are in {self.currency}", path=f"{path}.Currency")
        return parse_amount(amount.amount, amount.currency, path=f"{path}.Amount").minor


def _check_count(items: list[NewCustomer] | list[BankEvent]) -> None:
    if not 1 <= len(items) <= BULK_LIMIT:
        raise TooManyItems(f"Send 1 to {BULK_LIMIT} items")


def _moment(value: Moment | None, path: str, *, now_ms: int) -> int:
    return now_ms if value is None else moment_ms(value, now_ms=now_ms, path=path)
