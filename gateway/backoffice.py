"""The back office's process: a house that does its chores and answers nobody. `parasol serve` starts it.

`python -m gateway.backoffice PARENT PULSE`: the pid of the process that it ends with, and the descriptor of its pulse.
"""

import asyncio
import signal
import sys

from gateway import log
from gateway.app import open_house
from gateway.collector import pass_over_what_is_here
from gateway.lifeline import READY, beat, end_with_parent, tell
from gateway.settings import Settings, read_settings
from gateway.watched import watch


async def run(settings: Settings, pulse: int) -> None:
    """Until SIGTERM. The settings say `chores=inline`, so that the open house does them."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    beating = watch("pulse", beat(pulse))
    async with open_house(settings):
        pass_over_what_is_here()
        tell(pulse, READY)
        await ended.wait()
    await beating.end()


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    given = read_settings()
    log.configure(given.log_level)
    asyncio.run(run(given, int(sys.argv[2])))
