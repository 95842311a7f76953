"""Identifiers: ours are prefixed, sortable by time and unguessable; theirs are kept verbatim."""

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base32: nothing that reads like something else
_TIME_BITS, _RANDOM_BITS = 48, 80


def new_id(prefix: str) -> str:
    """`rdm_` and 26 characters: 48 bits of milliseconds (B-trees like neighbours), then 80 random bits."""
    number = time.time_ns() // 1_000_000 << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    digits = [_ALPHABET[number >> shift & 31] for shift in range(125, -5, -5)]
    return f"{prefix}_{''.join(digits)}"
