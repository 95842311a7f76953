"""The back office as a process of its own, for the machine that kills it: takes every job until none is left."""

import asyncio
import sys
from pathlib import Path

from gateway import log
from tests.unit.settlement.money_machine import open_bank


async def main(url: str, home: Path, now_ms: int) -> None:
    async with open_bank(url, home) as bank:
        bank.now_ms = now_ms
        await bank.work()


if __name__ == "__main__":
    log.configure("critical")
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
