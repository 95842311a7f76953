"""A customer's name and passcode, asked of the bank behind the guard; for every page of ours that has a login form."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway import metrics
from gateway.call import OpenCall
from gateway.corebank.port import CoreBank, CoreBankUnavailable, Customer
from gateway.database import Database
from gateway.oauth.login_guard import Attempt, LoginGuard
from gateway.oauth.refusals import BankUnreachable


@dataclass(frozen=True, slots=True)
class Login:
    """Who it is, and the header that makes the browser a known one."""

    customer_id: str
    known_browser: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Logins:
    """The bank is never asked inside a transaction: the try is counted in one, what came of it written in another."""

    database: Database
    corebank: CoreBank
    guard: LoginGuard

    async def ask(self, call: OpenCall, fields: Mapping[str, str], *, client_id: str) -> Login | None:
        """None: name or passcode is not right. Raises TooManyLogins, BankUnreachable."""
        login, passcode = fields.get("login", ""), fields.get("passcode", "")
        async with self.database.transaction() as conn:
            attempt = await self.guard.begin(conn, call, login=login, client_id=client_id)
        customer = await self._find(attempt, login=login, passcode=passcode)
        if customer is None:
            metrics.count("parasol_logins_total", who="customer", outcome="failed")
            return None
        async with self.database.transaction() as conn:
            cookie = await self.guard.succeed(conn, attempt, login=login)
        return Login(customer.customer_id, cookie)

    async def _find(self, attempt: Attempt, *, login: str, passcode: str) -> Customer | None:
        try:
            return await self.corebank.find_login(login, passcode)
        except CoreBankUnavailable:
            async with self.database.transaction() as conn:
                await self.guard.abandon(conn, attempt)
            raise BankUnreachable() from None
