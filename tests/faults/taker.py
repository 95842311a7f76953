"""A worker process for the crash tests: takes holds and confirms them, and says each answer as soon as it has it."""

import asyncio
import sys

from gateway.database import Database
from gateway.refusal import Refusal
from tests.desks import ONE_FEN, confirm, contract, desk_with, hold

CONCURRENT = 32  # enough that batches are larger than one
BUDGET_MINOR = 400_000  # of 1,000 a discount: 400 winners
ORDER_MINOR = 1001


def say(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


async def main(url: str, name: str, first: int, last: int) -> None:
    """Takes the keys `name-first` … `name-last`; says `held KEY ID`, `confirmed KEY ID`, or `refused KEY CODE`."""
    database = await Database.connect(url, pool_size=4)
    desk = desk_with(database, contract({**ONE_FEN, "limits": {"budget_minor": BUDGET_MINOR}}))
    waiting = asyncio.Semaphore(CONCURRENT)

    async def take(key: str) -> None:
        async with waiting:
            try:
                held = await hold(desk, ORDER_MINOR, key=key)
                say("held", key, held.redemption_id)
                done = await confirm(desk, held, key=key)
                say("confirmed", key, done.redemption_id)
            except Refusal as refusal:
                say("refused", key, refusal.code)

    await asyncio.gather(*(take(f"{name}-{number}") for number in range(first, last)))
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
