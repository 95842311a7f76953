"""A compiled policy: what a partner may do. Absent = denied; every no has a reason code."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from gateway.money import Money
from gateway.refusal import Refusal


class OperationDenied(Refusal):
    """The policy does not name the operation."""

    status, code, ob_code, outcome = 403, "policy_operation", "D001", "policy_operation"
    title = "Your policy does not open this operation"


class AmountDenied(Refusal):
    """Above the policy's amount for one call."""

    status, code, ob_code, outcome = 403, "policy_amount", "U014", "policy_amount"
    title = "The amount is above what your policy allows in one call"


class CurrencyDenied(Refusal):
    """The policy does not name the currency."""

    status, code, ob_code, outcome = 403, "policy_currency", "U014", "policy_amount"
    title = "Your policy does not open this currency"


class SourceDenied(Refusal):
    """The caller's address is in none of the policy's networks."""

    status, code, ob_code, outcome = 403, "policy_ip", "D001", "policy_ip"
    title = "Your policy does not open this network address"


# Every scope there is: two of Open Banking, four of our own.
SCOPES = frozenset(("accounts", "payments", "parking", "discounts", "referrals", "settlement"))


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_second` sustained, `burst` at once (GCRA)."""

    per_second: int
    burst: int


@dataclass(frozen=True, slots=True)
class Policy:
    """Frozen and cheap to ask: set look-ups and integer compares only."""

    policy_id: str
    version: int
    operations: frozenset[str]
    scopes: frozenset[str]
    rate: Rate
    operation_rates: dict[str, Rate]
    currencies: frozenset[str]
    max_amount_minor: int
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def check_operation(self, operation_id: str) -> None:
        if operation_id not in self.operations:
            raise OperationDenied(f"Policy {self.policy_id} does not name {operation_id}; ask the bank to open it")

    def check_source(self, source: str) -> None:
        """No networks named = any address; the credential is what proves the partner."""
        if self.networks and not _within(source, self.networks):
            raise SourceDenied(f"Policy {self.policy_id} does not name {source}")

    def check_amount(self, money: Money, *, path: str) -> None:
        if money.currency not in self.currencies:
            raise CurrencyDenied(f"Policy {self.policy_id} opens {', '.join(sorted(self.currencies))}", path=path)
        if money.minor > self.max_amount_minor:
            ceiling = Money(self.max_amount_minor, money.currency)
            raise AmountDenied(f"Policy {self.policy_id} allows {ceiling.text} {money.currency} a call", path=path)


def _within(source: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    """False for a peer without an address (a Unix socket), too."""
    try:
        address = ip_address(source)
    except ValueError:
        return False
    return any(address in network for network in networks)
