"""Identifiers: ours are prefixed, sortable by time and unguessable; theirs are kept verbatim."""

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base32: nothing that reads like something else
_TIME_BITS, _RANDOM_BITS = 48, 80
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)  # ten bits at once


def new_id(prefix: str) -> str:
    """`rdm_` and 26 characters: 48 bits of milliseconds (B-trees like neighbours), then 80 random bits."""
    number = time.time_ns() // 1_000_000 << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    return f"{prefix}_{''.join([_PAIRS[number >> shift & 1023] for shift in range(120, -10, -10)])}"
