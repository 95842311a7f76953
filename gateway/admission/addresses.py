"""How often an address may come where nobody has been recognised yet: OAuth endpoints, log-ins, pages, signed links.

Where callers prove who they are, only refused requests are counted: a partner's busy server is never held up by this,
a stranger who tries things is. Pages and links count every request, as each of them costs the database something.
"""

from dataclasses import dataclass

from gateway.admission.refusals import AddressThrottled
from gateway.policies.policy import Rate
from gateway.policies.throttle import Throttle, neighbourhood


@dataclass(frozen=True, slots=True)
class AddressRule:
    """`refused_only`: a request that is answered with a yes costs nothing."""

    rate: Rate
    refused_only: bool


# By `Operation.throttle`. The rates are an address's, and many customers may share one: capacity is protected here,
# guessing is made hopeless elsewhere (256-bit secrets; the guard of a customer's login).
RULES = {
    "client": AddressRule(Rate(20, 200), refused_only=True),  # what a partner's server calls
    "page": AddressRule(Rate(50, 500), refused_only=False),  # a shopping centre's customers behind one address
    "log-in": AddressRule(Rate(1, 20), refused_only=True),  # operators, of whom there are dozens
}


class AddressThrottle:
    """One instance a worker; the table is shared by all workers of the host."""

    def __init__(self, table: Throttle, rules: dict[str, AddressRule] = RULES) -> None:
        self._table = table
        self._rules = rules

    def enter(self, kind: str, address: str, *, now_ms: int) -> None:
        """Before the request is looked at. Raises AddressThrottled."""
        rule = self._rules[kind]
        wait_ms = self._table.wait_ms(_key(kind, address), rule.rate, now_ms=now_ms, take=not rule.refused_only)
        if wait_ms:
            raise AddressThrottled(-(-wait_ms // 1000))

    def answered(self, kind: str, address: str, *, status: int, now_ms: int) -> None:
        """A no costs, by whatever rule or page it was said; our own failures are not the caller's doing."""
        rule = self._rules[kind]
        if rule.refused_only and 400 <= status < 500:
            self._table.wait_ms(_key(kind, address), rule.rate, now_ms=now_ms)


def _key(kind: str, address: str) -> str:
    return f"{kind} {neighbourhood(address)}"
