"""A process for one statement: calculates it or makes its file again, says what became of it in one line of JSON.

`python -m gateway.settlement.statement_process PARENT`; the order comes on standard input. It ends with its parent.
"""

import asyncio
import signal
import sys
from typing import Literal

import msgspec

from gateway import log
from gateway.database import Database
from gateway.jobs.model import JobFailed
from gateway.keyring import Keyring, read_kek
from gateway.lifeline import end_with_parent
from gateway.settings import Settings, read_settings
from gateway.settlement.statement_calculation import Calculation


class Order(msgspec.Struct, frozen=True):
    """What to do."""

    task: Literal["calculate", "remake"]
    statement_id: str


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """How it went: nothing to say, or why not, in words."""

    failure: str | None = None
    final: bool = False


async def carry_out(settings: Settings, order: Order) -> Outcome:
    database = await Database.connect(settings.database_url, pool_size=2)
    try:
        keyring = Keyring(read_kek(settings.home_path, make=False))
        async with database.connection() as conn:
            await keyring.load(conn)
        work = Calculation(database, keyring, settings.home_path, settings.issuer)
        await (work.calculate if order.task == "calculate" else work.remake)(order.statement_id)
    except JobFailed as failed:
        return Outcome(str(failed), failed.final)
    finally:
        await database.close()
    return Outcome()


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    given = read_settings()
    log.configure(given.log_level)
    done = asyncio.run(carry_out(given, msgspec.json.decode(sys.stdin.buffer.read(), type=Order)))
    sys.stdout.buffer.write(msgspec.json.encode(done))
