"""Heavy work in a process of its own: an order on its standard input, its word on its standard output."""

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import Any

import msgspec


class ProcessLost(Exception):
    """It ended early, by itself or by a signal; its log says why."""

    def __init__(self, status: int | None) -> None:
        super().__init__(f"ended with status {status}")


async def ask_process(module: str, order: Any, *, environ: Mapping[str, str] | None = None) -> bytes:
    """What `python -m module PARENT` says to the order, in JSON; `environ` comes on top of ours. Raises ProcessLost.

    One that is no longer waited for is ended.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, str(os.getpid()), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **(environ or {})},
    )  # fmt: skip
    try:
        said, _ = await process.communicate(msgspec.json.encode(order))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise ProcessLost(process.returncode)
    return said
