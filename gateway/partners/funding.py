"""Who pays which part of a discount: the split of docs/settlement-rules.md §6, local to one event and unbiased.

Cumulative rounding with an offset that the seed decides: the legs sum to the amount, each is within one unit of its
exact part, and over many seeds its mean is the exact part, whatever the amounts are. (Largest remainder is not: at a
price of one fen and shares of 60 and 40 per cent it gives the spare unit to the same party each time.) The settlement
engine and the verifier follow the same page, each with its own code.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256

from gateway.partners.contract import BPS_WHOLE, Share

ORDER = ("bank", "partner", "merchant", "network")  # the parties' fixed order: where a share stands decides nothing
_WHOLE = 2**32  # `u` is a fraction of this


def seed_of(key: str, redemption_id: str) -> str:
    """What decides a redemption's spare units. The id is random and made after the key has arrived, so that no key can
    be chosen for its seed. Who gives a hold back and holds again draws anew: that moves at most one unit a redemption,
    and shows in the drift that the verifier prints."""
    return f"{key}|{redemption_id}"


def split(
    amount_minor: int, fund: Sequence[Share], *, seed: str, cap_left_minor: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Minor units per party, in the fixed order; they sum to `amount_minor`. Each capped share needs its
    `cap_left_minor`: what exceeds it moves to the share's overflow party. split(−x) = −split(x)."""
    shares = sorted(fund, key=lambda share: ORDER.index(share.party))
    parts = cut(abs(amount_minor), [share.bps for share in shares], offset=offset_of(seed))
    legs: dict[str, int] = {share.party: part for share, part in zip(shares, parts, strict=True)}
    for share in shares:
        if share.overflow is not None:
            excess = max(legs[share.party] - (cap_left_minor or {})[share.party], 0)
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
    """What a partial reversal changes per party: the split of what remains after, less what remained before.

    A full reversal therefore zeroes every leg, in whatever steps it is taken. `seed` and `cap_left_minor` are the
    original's.
    """
    before = split(original_minor - reversed_before_minor, fund, seed=seed, cap_left_minor=cap_left_minor)
    remaining = original_minor - reversed_before_minor - reversed_minor
    after = split(remaining, fund, seed=seed, cap_left_minor=cap_left_minor)
    return {party: after[party] - before[party] for party in before}


def cut(size_minor: int, bps: Sequence[int], *, offset: int) -> list[int]:
    """`size_minor` ≥ 0 in parts of `bps`, which sum to 10,000; `offset` / 2³² is u. Rounded down at each cumulated
    share plus u, so that what one part loses the next one has."""
    parts, cumulated, before = [], 0, 0
    for share in bps:
        cumulated += share
        upto = (size_minor * cumulated * _WHOLE + offset * BPS_WHOLE) // (BPS_WHOLE * _WHOLE)
        parts.append(upto - before)
        before = upto
    return parts


def offset_of(seed: str) -> int:
    """The first four bytes of the seed's SHA-256, big-endian: fair over many seeds, the same for all who recompute."""
    return int.from_bytes(sha256(seed.encode()).digest()[:4], "big")
