"""Which peers are our own proxies, and whose address they say a request came from.

A proxy that is trusted overwrites or extends X-Forwarded-For; the caller is the last address of it that is not itself
a trusted proxy, as everything before that one is the caller's own claim.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from gateway.admission.arrival import Arrival

HEADER = "x-forwarded-for"
_HOPS = 16  # addresses of one header that are looked at; more proxies than anybody chains
_REMEMBERED = 10_000  # peers, and texts of the header


class TrustedProxies:
    """Networks from `PARASOL_TRUSTED_PROXIES`; none configured: every peer is the caller itself."""

    def __init__(self, networks: str) -> None:
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(
            ip_network(text.strip()) for text in networks.split(",") if text.strip()
        )
        self._known: dict[str, bool] = {}
        self._callers: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._networks)

    def trusts(self, peer: str) -> bool:
        """Is that address one of ours? Remembered, as peers are few."""
        trusted = self._known.get(peer)
        if trusted is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            trusted = self._known[peer] = self._within(peer)
        return trusted

    def look_behind(self, arrival: Arrival) -> None:
        """Note whether a trusted proxy sent it on, and for whom. The source is empty when such a proxy does not say it
        in a form that can be believed: then no policy's network holds it."""
        if not self.trusts(arrival.source):
            return
        arrival.from_proxy = True
        told = arrival.headers.get(HEADER, "")
        caller = self._callers.get(told)
        if caller is None:
            if len(self._callers) >= _REMEMBERED:
                self._callers.clear()
            caller = self._callers[told] = self._last_stranger(told)
        arrival.source = caller

    def _last_stranger(self, told: str) -> str:
        for hop in reversed(told.rsplit(",", _HOPS)[-_HOPS:]):
            address = _address(hop.strip())
            if address is None:
                return ""
            if not any(address in network for network in self._networks):
                return str(address)
        return ""

    def _within(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._networks)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An IPv4 address within IPv6 (::ffff:192.0.2.1) is the IPv4 one, or a network of IPv4 would not hold it."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
