"""The client of the drills: it holds, confirms, releases, pays, parks and brings customers, and writes it all down."""

import asyncio
import hashlib
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from gateway.demo.client import CallFailed, PartnerClient, Token
from gateway.demo.parking_steps import PARKING, bind_plate
from gateway.demo.stage import V1, Stage, data, identity_token
from tests.api.vrp_calls import KIND, MANDATES, PAYMENTS, mandate_body, payment_body
from tests.conftest import know_test_customers
from tests.drills.journal import LATER, Entry, Heard, Journal

PEOPLE = 4_000  # more than a drill has holds
PLATES = 2
GIVE_UP_S = 60.0  # for one wish, all its attempts together
RETRY_S = 0.2
LOOK_S = 0.1  # between two questions about readiness
READY_TIMEOUT_S = 2.5
WIDE = [{"PeriodType": "Year", "PeriodAlignment": "Consent", "Amount": "900000.00", "Currency": "CNY"}]
BATCH_EVERY_S = 1.2  # a partner's rate for batches is one a second


@dataclass(slots=True)
class Clients:
    """The load of one drill. `start` it, let the fault strike, `stop` it: then every wish has its answer or gave up.

    `clocks`: attempts are signed by one after the other. With more than one, what is refused for its moment is sent
    again, as one would whose clock has been put right.
    """

    stage: Stage
    journal: Journal
    clocks: Sequence[Callable[[], float]] = (time.time,)
    run: str = field(default_factory=lambda: secrets.token_hex(4))
    mandate: str = ""
    _signers: list[PartnerClient] = field(default_factory=list)
    _customer: Token | None = None
    _enough: bool = False
    _numbers: int = 0
    _keys: dict[str, Any] = field(default_factory=dict)

    async def prepare(self, url: str) -> None:
        """A mandate with plates under it, and customers that the partner has brought."""
        await know_test_customers(url, [self.customer(number) for number in range(PEOPLE)])
        self._signers = [self._signer(clock) for clock in self.clocks]
        stage, client = self.stage, self.stage.parkco
        person = {"Phone": f"+86138{secrets.randbelow(10**8):08}", "Name": "车主",
                  "OpeningBalance": {"Amount": "900000.00", "Currency": "CNY"}}  # fmt: skip
        [opened] = (await stage.sandbox("/customers", {"Customer": [person]}))["Customer"]
        asked = await data(client, "POST", MANDATES, body=mandate_body(PeriodicLimits=WIDE), sign="jws")
        self.mandate = asked["ConsentId"]
        who = {"CustomerId": opened["CustomerId"]}
        self._customer = await client.approve(self.mandate, kind=KIND, scope="payments", **who)
        for number in range(PLATES):
            await bind_plate(client, self.plate(number), self.mandate)
        self._keys = (await data(client, "GET", f"{V1}/identity-keys"))["IdentityKey"][-1]

    def _signer(self, clock: Callable[[], float]) -> PartnerClient:
        return PartnerClient(self.stage.http, self.stage.parkco.credentials, now_s=clock)

    def customer(self, number: int) -> str:
        return f"{self.run}-{number}"

    def plate(self, number: int) -> str:
        return f"沪{'AB'[number]}{self.run}".upper()

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Until the end of the block; then every wish is carried to its end."""
        turns: list[Callable[[], Awaitable[None]]] = [self._redeem, self._redeem, self._pay]
        tasks = [asyncio.create_task(self._again_and_again(turn)) for turn in turns]
        tasks += [asyncio.create_task(self._again_and_again(self._stay_of(number))) for number in range(PLATES)]
        tasks += [asyncio.create_task(self._again_and_again(self._bring)), asyncio.create_task(self._watch_readiness())]
        try:
            yield
        finally:
            self._enough = True
            await asyncio.gather(*tasks)

    async def _again_and_again(self, turn: Callable[[], Awaitable[None]]) -> None:
        while not self._enough:
            await turn()

    async def ask(self, kind: str, subject: str, method: str, path: str, **how: Any) -> dict[str, Any] | None:
        """`Data` of the yes, however often it takes; None: refused for good, or given up."""
        entry = Entry(kind, subject, method, path, {"key": secrets.token_hex(8), **how})
        self.journal.entries.append(entry)
        by_s = time.monotonic() + GIVE_UP_S
        while time.monotonic() < by_s:
            answer = await self.send(entry)
            if answer is not None and answer.status_code not in LATER and not self._is_put_off(entry):
                if answer.status_code < 300:
                    entry.data = answer.json()["Data"]
                return entry.data
            await asyncio.sleep(RETRY_S)
        return None

    def _is_put_off(self, entry: Entry) -> bool:
        return len(self.clocks) > 1 and entry.heard[-1].is_untimely

    async def send(self, entry: Entry) -> httpx.Response | None:
        """Once. None: no answer came."""
        number = len(entry.heard) % len(self._signers)
        answer = await self._send(entry, self._signers[number])
        if self._is_put_off(entry):
            self._signers[number] = self._signer(self.clocks[number])  # its tokens may be of another time
            await self._renew(entry.how.get("token"), self._signers[number])
        return answer

    async def _renew(self, token: Token | None, signer: PartnerClient) -> None:
        """The customer's, which has its end in it; in its place, as wishes hold it."""
        if token is None or token.refresh is None:
            return
        with suppress(CallFailed, httpx.HTTPError):
            fresh = await signer.grant(grant_type="refresh_token", refresh_token=token.refresh)
            token.value, token.ends_s = fresh.value, fresh.ends_s

    async def _send(self, entry: Entry, signer: PartnerClient) -> httpx.Response | None:
        began_s = time.monotonic()
        try:
            answer = await signer.call(entry.method, entry.path, **entry.how)
        except CallFailed as failed:  # of a fresh token, before the request itself
            answer = failed.response
        except httpx.HTTPError as error:
            entry.heard.append(Heard(began_s, time.monotonic(), type(error).__name__))
            return None
        told = answer.headers.get("content-type", "")
        code = _code(answer) if answer.status_code >= 400 else ""
        entry.heard.append(
            Heard(began_s, time.monotonic(), answer.status_code, code, bool(answer.content) and "json" not in told)
        )
        return answer if isinstance(answer, httpx.Response) else None

    async def _redeem(self) -> None:
        """Held, then confirmed; each third one released."""
        self._numbers += 1
        number = self._numbers
        who = f"idt_1_{self.customer(number)}"
        order = {
            "OfferId": "first-park", "OrderAmount": {"Amount": "30.00", "Currency": "CNY"}, "SiteId": "lot-1",
            "CustomerToken": who, "Plate": f"粤{self.run[:5]}{number:04d}".upper(), "OrderReference": who,
        }  # fmt: skip
        held = await self.ask("hold", who, "POST", f"{V1}/redemptions", body={"Data": order})
        if held is None:
            return
        path = f"{V1}/redemptions/{held['RedemptionId']}"
        if number % 3:
            await self.ask("confirm", who, "POST", f"{path}/confirmation", body={"Data": {}})
        else:
            await self.ask("release", who, "POST", f"{path}/release")

    async def _pay(self) -> None:
        body = payment_body(self.mandate, "0.01")
        await self.ask("payment", "", "POST", PAYMENTS, token=self._customer, body=body, sign="jws")

    def _stay_of(self, number: int) -> Callable[[], Awaitable[None]]:
        async def stay() -> None:
            now = datetime.now(UTC)
            came = {"SiteId": "lot-1", "Plate": self.plate(number), "OccurredAt": _text(now - timedelta(hours=3))}
            inside = await self.ask("entry", self.plate(number), "POST", f"{PARKING}/sessions", body={"Data": came})
            if inside is None or inside["EntryState"] != "NORMAL":
                return await asyncio.sleep(RETRY_S)  # an unpaid stay, after a fault of the bank
            path, left = f"{PARKING}/sessions/{inside['SessionId']}/charges", {"OccurredAt": _text(now)}
            await self.ask("charge", inside["SessionId"], "POST", path, body={"Data": left})

        return stay

    async def _bring(self) -> None:
        """A batch of two: declared, sent. The back office applies it."""
        phones = [f"+86139{secrets.randbelow(10**8):08}" for _ in range(2)]
        tokens = [await identity_token(self.stage.parkco, phone, self._keys) for phone in phones]
        touched = _text(datetime.now(UTC) - timedelta(hours=30))
        lines = ["customer_token,consent_ref,touched_at,site", *(f"{one},c-1,{touched},lot-1" for one in tokens)]
        file, number = ("\n".join(lines) + "\n").encode(), f"{self.run}-{secrets.token_hex(4)}"
        said = {"OutNumber": number, "RowCount": 2, "FileSha256": hashlib.sha256(file).hexdigest(), "ControlTotal": 2}
        made = await self.ask("batch", number, "POST", f"{V1}/referral-batches", body={"Data": said})
        if made is not None:
            path = f"{V1}/referral-batches/{made['BatchId']}/file"
            await self.ask("file", number, "PUT", path, content=file, headers={"Content-Type": "text/csv"})
        await asyncio.sleep(BATCH_EVERY_S)

    async def _watch_readiness(self) -> None:
        async with httpx.AsyncClient(timeout=READY_TIMEOUT_S, trust_env=False, verify=False) as http:
            while not self._enough:
                at_s = time.monotonic()
                try:
                    status = (await http.get(f"{self.stage.url}/readyz", headers={"Connection": "close"})).status_code
                except httpx.HTTPError:
                    status = 0
                self.journal.readiness.append((at_s, status))
                await asyncio.sleep(LOOK_S)


def _code(answer: httpx.Response) -> str:
    """Of a refusal: ours, OAuth's, Open Banking's, or that of the challenge where the standard has no body."""
    challenged = re.search(r'error="(\w+)"', answer.headers.get("www-authenticate", ""))
    try:
        found = answer.json()
    except ValueError:
        return challenged[1] if challenged else ""
    [first, *_] = found.get("Errors") or [{}]
    return str(found.get("code") or found.get("error") or first.get("ErrorCode", ""))


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
