"""Who pays which part of a discount: the split, local to one event, unbiased, and the same forwards and back.

Largest remainder of |amount| · bps; a tie, and only a tie, goes to the smallest SHA-256 of "event_id|party". The sign
is put back at the end, so split(−x) = −split(x). A capped party's excess over what it had left goes to its overflow.
The settlement engine and the verifier follow docs/settlement-rules.md, each with its own code.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256

from gateway.partners.contract import BPS_WHOLE, Share


def split(
    amount_minor: int, fund: Sequence[Share], *, seed: str, cap_left_minor: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Minor units per party; they sum to `amount_minor`. `cap_left_minor` is needed for each capped share."""
    size = abs(amount_minor)
    legs = {share.party: size * share.bps // BPS_WHOLE for share in fund}
    spare = size - sum(legs.values())
    by_remainder = sorted(fund, key=lambda share: (-(size * share.bps % BPS_WHOLE), tie_break(seed, share.party)))
    for share in by_remainder[:spare]:
        legs[share.party] += 1
    for share in fund:
        if share.overflow is not None:
            left = (cap_left_minor or {})[share.party]
            excess = max(legs[share.party] - left, 0)
            legs[share.party] -= excess
            legs[share.overflow] += excess
    sign = -1 if amount_minor < 0 else 1
    return {party: sign * leg for party, leg in legs.items()}


def reversal_legs(
    original_minor: int,
    fund: Sequence[Share],
    *,
    seed: str,
    cap_left_minor: Mapping[str, int] | None,
    reversed_before_minor: int,
    reversed_minor: int,
) -> dict[str, int]:
    """What a partial reversal changes per party (negative): the split of what remains after, less what remained before.

    A full reversal therefore zeroes every leg, in whatever steps it is taken. `seed` is the original event's id.
    """
    before = split(original_minor - reversed_before_minor, fund, seed=seed, cap_left_minor=cap_left_minor)
    remaining = original_minor - reversed_before_minor - reversed_minor
    after = split(remaining, fund, seed=seed, cap_left_minor=cap_left_minor)
    return {party: after[party] - before[party] for party in before}


def tie_break(seed: str, party: str) -> bytes:
    """Fair over many events, and the same for everybody who recomputes this one."""
    return sha256(f"{seed}|{party}".encode()).digest()
