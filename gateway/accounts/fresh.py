"""Balances that are at most a second old: one question to the core bank a second and account, however many ask.

`Balance.DateTime` says when it was true, so a reader is never told that old money is new. Several askers of the same
account wait for one answer (single flight); our own payments drop what they have made untrue.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.corebank.port import Balance

MAX_AGE_MS = 1_000  # what a partner polling a balance would see anyway between two of its own calls
REMEMBERED = 20_000  # accounts a worker; oldest first out


@dataclass(slots=True)
class Fresh:
    """A balance, its rendered answer, and until when it may be told."""

    balance: Balance
    body: bytes
    until_ms: int


class FreshBalances:
    """One instance a worker."""

    def __init__(self, ask: Callable[[str], Awaitable[Balance | None]], render: Callable[[Balance], bytes]) -> None:
        self._ask = ask
        self._render = render
        self._known: dict[str, Fresh] = {}
        self._asking: dict[str, asyncio.Task[Fresh | None]] = {}

    async def get(self, account_id: str, *, now_ms: int) -> Fresh | None:
        """None: the bank has no such account. May raise CoreBankUnavailable."""
        known = self._known.get(account_id)
        if known is not None and known.until_ms - MAX_AGE_MS <= now_ms < known.until_ms:  # a clock may go back
            return known
        asking = self._asking.get(account_id)
        if asking is None:
            asking = self._asking[account_id] = asyncio.create_task(self._read(account_id, now_ms))
        return await asyncio.shield(asking)  # one asker that hangs up does not take the answer from the others

    def drop(self, account_id: str) -> None:
        """This worker has just moved money of the account: a question on its way may have the old answer, too."""
        self._known.pop(account_id, None)
        self._asking.pop(account_id, None)

    async def _read(self, account_id: str, now_ms: int) -> Fresh | None:
        try:
            balance = await self._ask(account_id)
        finally:
            is_current = self._asking.get(account_id) is asyncio.current_task()
            if is_current:
                del self._asking[account_id]
        if balance is None:
            return None
        fresh = Fresh(balance, self._render(balance), now_ms + MAX_AGE_MS)
        if is_current:
            self._remember(account_id, fresh)
        return fresh

    def _remember(self, account_id: str, fresh: Fresh) -> None:
        self._known.pop(account_id, None)  # so the oldest stands first
        if len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[account_id] = fresh
