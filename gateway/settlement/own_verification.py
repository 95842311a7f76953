"""Our own verifier over a statement that was just made, as the partner will run it: what it refuses, in its words.

A small file is verified in this process. A large one is verified in a process of its own, which knows nothing of the
engine: the verifier's helpers are started from it, so they stay as small as they are at the partner's.

`python -m gateway.settlement.own_verification PARENT`; the order comes on standard input. It ends with its parent.
"""

import asyncio
import gc
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gateway.lifeline import end_with_parent
from gateway.settlement.asked_process import ProcessLost, ask_process
from gateway.settlement.verify import verify_files

MODULE = "gateway.settlement.own_verification"
LARGE_BYTES = 16 * 1024 * 1024  # from here on the verifier has helpers


class Order(msgspec.Struct, frozen=True):
    """Which files, and the bank's published keys."""

    paths: list[str]
    jwks: dict[str, Any]


class VerifierLost(Exception):
    """Its process ended before it had said anything."""


async def refusals(paths: Sequence[Path], jwks: Mapping[str, Any]) -> list[str]:
    """Nothing: all of them are accepted. Raises VerifierLost."""
    order = Order([str(path) for path in paths], dict(jwks))
    if max(path.stat().st_size for path in paths) < LARGE_BYTES:
        return await asyncio.to_thread(_refusals, order)
    try:
        return msgspec.json.decode(await ask_process(MODULE, order), type=list[str])
    except ProcessLost as lost:
        raise VerifierLost(f"our own verifier {lost}; the log says more") from None


def _refusals(order: Order) -> list[str]:
    report = verify_files(order.paths, jwks=order.jwks)
    if report.accepted:
        return []
    return [fault for file in report.files for fault in file.faults] or ["without a word"]


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.disable()  # as the verifier's command does
    sys.stdout.buffer.write(msgspec.json.encode(_refusals(msgspec.json.decode(sys.stdin.buffer.read(), type=Order))))
