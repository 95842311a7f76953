"""The back office's process: a house that does its chores and answers nobody. `parasol serve` starts it.

`python -m gateway.backoffice PARENT`, the pid of the process that it ends with.
"""

import asyncio
import signal
import sys

from gateway import log
from gateway.app import open_house
from gateway.collector import pass_over_what_is_here
from gateway.lifeline import end_with_parent
from gateway.settings import Settings, read_settings


async def run(settings: Settings) -> None:
    """Until SIGTERM. The settings say `chores=inline`, so that the open house does them."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with open_house(settings):
        pass_over_what_is_here()
        await ended.wait()


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    given = read_settings()
    log.configure(given.log_level)
    asyncio.run(run(given))
