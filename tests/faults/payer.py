"""A worker process for the crash tests: collects payments, and dies where it is told to."""

import asyncio
import os
import signal
import sys

from gateway.corebank.port import CoreBank, OrderOutcome, PaymentOrder
from gateway.corebank.sandbox.bank import Clock, SandboxBank
from gateway.database import Database
from gateway.money import Money
from tests.tills import CREDITOR, NOW_MS, collections_over

CONCURRENT = 8
MINOR = 125


class DeadlyBank:
    """The sandbox bank, on whose orders this process dies: `before` they arrive, `after` they are done, or `never`."""

    def __init__(self, bank: CoreBank, moment: str) -> None:
        self._bank = bank
        self._moment = moment

    async def post_payment(self, order: PaymentOrder) -> OrderOutcome:
        if self._moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        outcome = await self._bank.post_payment(order)
        if self._moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return outcome

    def __getattr__(self, name: str) -> object:
        return getattr(self._bank, name)


async def main(url: str, mandate_id: str, moment: str, last: int) -> None:
    """Collects `pay_0` … and says `PAYMENT STATUS` as soon as each is answered."""
    database, bank_database = await Database.connect(url, pool_size=4), await Database.connect(url, pool_size=4)
    bank = DeadlyBank(SandboxBank(bank_database, Clock(lambda: NOW_MS)), moment)
    collections = collections_over(database, bank, moved=[])
    waiting = asyncio.Semaphore(CONCURRENT)

    async def collect(payment_id: str) -> None:
        async with waiting:
            done = await collections.collect(
                partner_id="parkco", mandate_id=mandate_id, payment_id=payment_id, amount=Money(MINOR, "CNY"),
                reference="ses_1", creditor_account=CREDITOR, now_ms=NOW_MS,
            )  # fmt: skip
            sys.stdout.write(f"{done.payment_id} {done.status}\n")
            sys.stdout.flush()

    await asyncio.gather(*(collect(f"pay_{number}") for number in range(last)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
