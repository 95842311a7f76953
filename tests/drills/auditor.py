"""The journal against the books: what was answered is there exactly once, what was not is there once at most."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import asyncpg

from tests.drills.clients import Clients
from tests.drills.journal import RESETS, Entry

LAPSED = frozenset(("hold_expired",))
REPEATED = 20  # of each kind, asked again with their keys after the drill; those that met the fault first


class Auditor:
    """One drill's. `found` has a sentence for everything that is not as it should be."""

    def __init__(self, clients: Clients, conn: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._clients = clients
        self._journal = clients.journal
        self._conn = conn
        self.found: list[str] = []

    async def audit(self, *, resets_allowed: bool, expiries_allowed: bool = False) -> list[str]:
        """`expiries_allowed`: a clock that jumped has ended holds; ahead of that clock nothing may end anywhere."""
        self._check_answers(resets_allowed, LAPSED if expiries_allowed else frozenset())
        await self._check_redemptions()
        await self._check_payments()
        await self._check_charges()
        await self._check_batches()
        await self._check_balance()
        await self._check_times()
        await self._ask_again()
        return self.found

    def _expect(self, what: str, holds: bool, shown: object = "") -> None:
        if not holds:
            self.found.append(f"{what}: {shown}" if shown != "" else what)

    def _check_answers(self, resets_allowed: bool, lapsed: frozenset[str]) -> None:
        heard = list(self._journal.heard())
        told = Counter(f"{one.what} {one.code}".strip() for one in heard if isinstance(one.what, int))
        self._expect("500 was answered", not [one for one in heard if one.what == 500], told)
        self._expect("an error that is plain text", not [one for one in heard if one.is_text], told)
        refused = [entry for entry in self._journal.entries if entry.data is None and entry.heard]
        given_up = [entry for entry in refused if not entry.heard[-1].is_served]
        denied = [entry for entry in refused if entry.heard[-1].is_served and entry.heard[-1].code not in lapsed]
        self._expect("a good request was refused", not denied, _last_words(denied))
        self._expect("a wish was never answered", not given_up, _last_words(given_up))
        if not resets_allowed:
            resets = Counter(str(one.what) for one in heard if one.what in RESETS)
            self._expect("a request that was sent was reset", not resets, resets)

    async def _counts(self, statement: str, *values: Any) -> Counter[str]:
        """A text and a number each row."""
        return Counter({str(row[0]): int(row[1]) for row in await self._conn.fetch(statement, *values)})

    async def _check_redemptions(self) -> None:
        held = {entry.subject: entry for entry in self._journal.of("hold")}
        customers = list(held)
        rows = await self._counts(
            "SELECT subject_token, count(*) FROM redemption WHERE subject_token = ANY($1) GROUP BY 1", customers
        )
        self._once("hold", held.values(), rows)
        wanted = {"confirm": "CONFIRMED", "release": "RELEASED"}
        states = await self._conn.fetch(
            "SELECT subject_token, state, redemption_id FROM redemption WHERE subject_token = ANY($1)", customers
        )
        by_customer = {row["subject_token"]: row for row in states}
        for kind, state in wanted.items():
            for entry in self._journal.of(kind):
                row = by_customer.get(entry.subject)
                if entry.data is not None:
                    self._expect(f"{kind} was answered and is not in the books", row is not None
                                 and row["state"] == state, entry.subject)  # fmt: skip
        confirmed = {row["subject_token"]: str(row["redemption_id"]) for row in states if row["state"] == "CONFIRMED"}
        made = {str(row["redemption_id"]) for row in states}
        await self._check_booked("redemption.confirmed", set(confirmed.values()), made)
        events = await self._counts(
            "SELECT subject_token, count(*) FROM event WHERE type = 'redemption.confirmed' AND subject_token = ANY($1) "
            "GROUP BY 1", customers,
        )  # fmt: skip
        self._expect("events and confirmations differ", events == Counter(dict.fromkeys(confirmed, 1)), len(events))

    async def _check_booked(self, cause: str, facts: set[str], asked: set[str]) -> None:
        """Each fact is one entry of the ledger, and nothing else is."""
        booked = await self._counts(
            "SELECT cause, count(*) FROM ledger_entry WHERE cause = ANY($1) GROUP BY 1", [f"{cause}:{a}" for a in asked]
        )
        wanted = Counter({f"{cause}:{fact}": 1 for fact in facts})
        self._expect(f"{cause} is not booked once each", booked == wanted, f"{booked - wanted} {wanted - booked}")

    def _once(self, kind: str, entries: Iterable[Entry], rows: Counter[str]) -> None:
        for entry in entries:
            most, least = 1, int(entry.data is not None)
            self._expect(f"{kind} of {entry.subject}", least <= rows[entry.subject] <= most, rows[entry.subject])

    async def _check_payments(self) -> None:
        rows = await self._conn.fetch(
            """SELECT p.payment_id, p.status, coalesce(o.status = 'ACSC', false) AS is_ordered
               FROM payment p LEFT JOIN sandbox_bank.bank_order o ON o.order_id = p.payment_id
               WHERE p.consent_id = $1""", self._clients.mandate,
        )  # fmt: skip
        answered = {entry.data["DomesticVRPId"] for entry in self._journal.of("payment") if entry.data}
        charges = await self._conn.fetch(
            "SELECT payment_id FROM parking_charge WHERE mandate_id = $1", self._clients.mandate
        )
        parked = {row["payment_id"] for row in charges}
        made = {row["payment_id"] for row in rows} - parked
        unanswered = sum(entry.data is None for entry in self._journal.of("payment"))
        self._expect("a payment was answered and is not there", answered <= made, len(answered - made))
        self._expect("payments nobody asked for", len(made - answered) <= unanswered, len(made - answered))
        settled = {row["payment_id"] for row in rows if row["status"] == "ACSC"}
        await self._check_booked("payment.collected", settled, {row["payment_id"] for row in rows})
        wrong = [row["payment_id"] for row in rows if (row["status"] == "ACSC") > row["is_ordered"]]
        self._expect("settled payments without an order at the bank", not wrong, wrong[:3])

    async def _check_charges(self) -> None:
        """One for each stay, whatever became of it."""
        entries = {entry.subject: entry for entry in self._journal.of("charge")}
        rows = await self._counts(
            "SELECT session_id, count(*) FROM parking_charge WHERE session_id = ANY($1) GROUP BY 1", list(entries)
        )
        self._once("charge", entries.values(), rows)

    async def _check_batches(self) -> None:
        entries = {entry.subject: entry for entry in self._journal.of("batch")}
        rows = await self._counts(
            "SELECT out_number, count(*) FROM referral_batch WHERE out_number = ANY($1) GROUP BY 1", list(entries)
        )
        self._once("batch", entries.values(), rows)

    async def _check_balance(self) -> None:
        """Debits are credits in every entry; both sides of every movement of the sandbox bank are there."""
        odd = await self._conn.fetchval(
            """SELECT count(*) FROM (SELECT entry_seq FROM ledger_posting GROUP BY entry_seq, right(account, 3)
               HAVING sum(amount_minor) <> 0) AS unbalanced"""
        )
        self._expect("entries that do not balance", odd == 0, odd)

    async def _check_times(self) -> None:
        """No hold ends before its time by the clock that ended it, and no business day closes by itself."""
        early = await self._conn.fetchval(
            "SELECT count(*) FROM redemption WHERE state = 'EXPIRED' AND changed_at_ms < expires_ms"
        )
        self._expect("holds expired before their time", early == 0, early)
        shut = await self._conn.fetchval("SELECT count(*) FROM business_day")
        self._expect("days were closed that nobody closed", shut == 0, shut)

    async def _ask_again(self) -> None:
        """The same request with the same key has the same answer; what it is about is in it."""
        names = {"hold": "RedemptionId", "payment": "DomesticVRPId", "charge": "ChargeId", "entry": "SessionId"}
        for kind in (*names, "confirm", "release"):
            answered = [entry for entry in self._journal.of(kind) if entry.data is not None]
            for entry in sorted(answered, key=lambda one: not one.was_hit)[:REPEATED]:
                answer = await self._clients.send(entry)
                again = answer.json().get("Data") if answer is not None and answer.status_code < 300 else None
                name = names.get(kind)
                same = again is not None and (again[name] == entry.data[name] if name else again == entry.data)
                self._expect(f"{kind} asked again is another answer", same, f"{entry.data} / {again}")


def _last_words(entries: Iterable[Entry]) -> Counter[tuple[str, int | str, str]]:
    return Counter((entry.kind, entry.heard[-1].what, entry.heard[-1].code) for entry in entries)
