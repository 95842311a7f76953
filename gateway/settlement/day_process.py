"""A process for one large day: reads its leaves, writes its file, says what it found in one line of JSON.

`python -m gateway.settlement.day_process PARENT`; the order comes on standard input. It ends with its parent.
"""

import asyncio
import gc
import signal
import sys
from pathlib import Path

import msgspec

from gateway import log
from gateway.database import Database
from gateway.lifeline import end_with_parent
from gateway.settlement.day_file import DayRead, Order, read_day_here

LOG_LEVEL = "info"


async def carry_out(order: Order) -> DayRead:
    database = await Database.connect(order.database_url, pool_size=1)
    try:
        return await read_day_here(database, order.day, place=Path(order.place))
    finally:
        await database.close()


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    log.configure(LOG_LEVEL)
    gc.disable()  # millions of rows without a cycle among them
    done = asyncio.run(carry_out(msgspec.json.decode(sys.stdin.buffer.read(), type=Order)))
    sys.stdout.buffer.write(msgspec.json.encode(done))
