"""From events to lines (§4–§7), and what they move in ranks and accrued commission (§9).

An event that disagrees with the terms raises a sentence and has no lines; the statement is refused anyway.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .canonical import INT_LIMIT, Refused, canonical, integer, shown, string
from .terms import Discount, Version, split

TIME_LIMIT = 253_370_764_800_000  # ms; 9999-01-01: every local date of an earlier instant exists
_MOST = INT_LIMIT - 1


@dataclass(slots=True)
class Redemption:
    """A confirmed redemption that this statement holds, or whose earlier reversals it holds."""

    redemption_id: str
    version: Version
    discount: str
    discount_minor: int
    cap_left: Mapping[str, int]
    reversed_minor: int


@dataclass(slots=True)
class Reckoning:
    """Events in the order of recording go in, expected lines (canonical) and sums come out."""

    partner: str
    currency: str
    versions: Sequence[Version]
    ranks: dict[str, int]
    accrued: dict[str, int]
    lines: list[str] = field(default_factory=list)
    bank_owes_minor: int = 0
    partner_owes_minor: int = 0
    _redemptions: dict[str, Redemption] = field(default_factory=dict)
    _confirmed: set[str] = field(default_factory=set)

    def take(self, event: Mapping[str, Any]) -> None:
        """Raises Refused. The envelope's members are there, and are texts and numbers."""
        rule = _RULES.get(event["type"])
        if rule is None:
            return
        data = event["data"]
        if type(data) is not dict:
            raise Refused(f"data is {shown(data)}, expected is an object")
        if not 0 <= event["occurred_at_ms"] < TIME_LIMIT:
            raise Refused(f"occurred_at_ms is {shown(event['occurred_at_ms'])}, expected is 0 to {TIME_LIMIT}")
        rule(self, event, data)

    # --- redemptions ------------------------------------------------------------------------------------------
    def _confirm(self, event: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        version, discount = self._discount(event, data)
        order, given = _amount(data, "order_minor"), _amount(data, "discount_minor")
        most = discount.off(order)
        if not 0 < given <= most:
            raise Refused(f"discount_minor is {given}, the terms give 1 to {most} for an order of {order}")
        _same("payable_minor", data.get("payable_minor"), order - given)
        _same("amount_minor", event["amount_minor"], given)
        cap_left = _cap_left(data, discount)
        legs = split(given, discount.fund, seed=event["event_id"], cap_left=cap_left)
        _same("legs", data.get("legs"), legs)
        redemption_id = string(data.get("redemption_id"), "redemption_id")
        if redemption_id in self._confirmed:
            raise Refused(f"redemption {shown(redemption_id)} is confirmed a second time")
        self._confirmed.add(redemption_id)
        self._redemptions[event["event_id"]] = Redemption(redemption_id, version, data["discount"], given, cap_left, 0)
        self._lines(event, data["discount"], discount_paid=given, discount_funding=-legs.get("partner", 0))

    def _reverse(self, event: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        version, discount = self._discount(event, data)
        seed = string(data.get("original_event_id"), "original_event_id")
        original, before = _amount(data, "original_discount_minor"), _amount(data, "reversed_before_minor")
        now = _amount(data, "reversed_minor")
        if now == 0 or before + now > original:
            raise Refused(f"reversed_minor is {now} after {before}, but {original} was given")
        _same("amount_minor", event["amount_minor"], -now)
        cap_left = _cap_left(data, discount)
        whole, held, kept = (
            split(minor, discount.fund, seed=seed, cap_left=cap_left)
            for minor in (original, original - before, original - before - now)
        )
        _same("original_legs", data.get("original_legs"), whole)
        legs = {party: kept[party] - held[party] for party in kept}
        _same("legs", data.get("legs"), legs)
        redemption_id = string(data.get("redemption_id"), "redemption_id")
        self._follow(seed, Redemption(redemption_id, version, data["discount"], original, cap_left, before), now=now)
        self._lines(event, data["discount"], discount_paid=-now, discount_funding=-legs.get("partner", 0))

    def _follow(self, seed: str, told: Redemption, *, now: int) -> None:
        """What the reversal tells of its original is what the original, or the reversal before, has said here."""
        known = self._redemptions.setdefault(seed, told)
        for name in ("redemption_id", "discount", "discount_minor", "cap_left", "reversed_minor"):
            if getattr(told, name) != getattr(known, name):
                said, found = shown(getattr(known, name)), shown(getattr(told, name))
                raise Refused(f"{name} of the original {shown(seed)} is {said} until here, but it says {found}")
        if told.version is not known.version:
            raise Refused(f"its original {shown(seed)} is of contract version {known.version.version}")
        known.reversed_minor += now

    def _discount(self, event: Mapping[str, Any], data: Mapping[str, Any]) -> tuple[Version, Discount]:
        version = self._in_force(event)
        if version is None:
            raise Refused(
                f"contract {shown(event['contract'])} version {shown(event['contract_version'])} was not in force at "
                f"{event['occurred_at_ms']}"
            )
        name = string(data.get("discount"), "discount")
        discount = version.discounts.get(name)
        if discount is None:
            raise Refused(f"version {version.version} of the contract has no discount {shown(name)}")
        return version, discount

    def _in_force(self, event: Mapping[str, Any]) -> Version | None:
        """The version that the event names, if it is the one its instant picks: of several, the latest."""
        instant = event["occurred_at_ms"]
        for version in reversed(self.versions):
            if version.start_ms <= instant < version.end_ms:
                named, number = event["contract"], event["contract_version"]
                same = named == version.contract and number == version.version and type(number) is int
                return version if same else None
        return None

    # --- commission ---------------------------------------------------------------------------------------------
    def _goal(self, event: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        goal = string(data.get("goal"), "goal")
        version = self._in_force(event)
        terms = version.commissions.get(goal) if version else None
        if version is None or terms is None:
            return
        spend = integer(event["amount_minor"], "amount_minor of a goal", low=0, high=_MOST)
        if terms.kind == "CPA":
            key = f"{goal} {version.month(event['occurred_at_ms'])}"
            rank = self.ranks.get(key, 0)
            self.ranks[key] = rank + 1
            self._lines(event, goal, commission=terms.of_rank(rank))
            return
        share = terms.of_spend(spend)
        if terms.window_ms is not None:
            anchor = integer(data.get("anchor_at_ms"), "anchor_at_ms", low=0, high=_MOST)
            share = share if event["occurred_at_ms"] <= anchor + terms.window_ms else 0
        if terms.cap_minor is not None:
            token = string(event["subject_token"], "subject_token, which a cap per customer needs,")
            key = f"{version.contract} {version.version} {goal} {token}"
            before = self.accrued.get(key, 0)
            share = min(share, max(terms.cap_minor - before, 0))
            self.accrued[key] = before + share
        self._lines(event, goal, commission=share)

    # --- lines ------------------------------------------------------------------------------------------------
    def _lines(self, event: Mapping[str, Any], term: str, **amounts: int) -> None:
        """A line a kind, spelled by hand as there are hundreds of thousands."""
        if event["currency"] != self.currency:
            raise Refused(f"currency is {shown(event['currency'])}, the statement's is {self.currency}")
        contract, event_id, quoted = canonical(event["contract"]), canonical(event["event_id"]), canonical(term)
        version = event["contract_version"]
        for kind, amount in amounts.items():
            if amount > 0:
                self.bank_owes_minor += amount
            else:
                self.partner_owes_minor -= amount
            self.lines.append(
                f'{{"amount_minor":{amount},"contract":{contract},"contract_version":{version},'
                f'"event_id":{event_id},"kind":"{kind}","term":{quoted}}}'
            )


_RULES: Mapping[str, Callable[[Reckoning, Mapping[str, Any], Mapping[str, Any]], None]] = {
    "redemption.confirmed": Reckoning._confirm,
    "redemption.reversed": Reckoning._reverse,
    "goal.reached": Reckoning._goal,
}


def _amount(data: Mapping[str, Any], name: str) -> int:
    """A number of minor units that is not negative."""
    value = data.get(name)
    if type(value) is not int or not 0 <= value <= _MOST:
        return integer(value, name, low=0)
    return value


def _same(name: str, found: Any, expected: Any) -> None:
    """Equal, and of the same kind: true is not 1."""
    if found != expected or (type(found) is not type(expected)):
        raise Refused(f"{name} is {shown(found)}, expected {shown(expected)}")


def _cap_left(data: Mapping[str, Any], discount: Discount) -> dict[str, int]:
    """What each capped funder had left."""
    told = data.get("cap_left_minor")
    if type(told) is not dict:
        raise Refused(f"cap_left_minor is {shown(told)}, expected is an object")
    return {
        share.party: integer(told.get(share.party), f"cap_left_minor of {share.party}", low=0, high=share.cap_minor)
        for share in discount.fund
        if share.cap_minor is not None
    }
