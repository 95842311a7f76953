"""Account information over HTTP (AISP): consents by the partner, reads under a customer's consent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from gateway.accounts import permissions as rules
from gateway.accounts.fresh import FreshBalances
from gateway.accounts.shapes import (
    AccountConsentRequest,
    account_members,
    balance_members,
    consent_members,
    transaction_members,
)
from gateway.base64url import b64url, unb64url
from gateway.call import Answer, Call
from gateway.clock import asked_ms, rfc3339, to_ms
from gateway.consents import store as consents
from gateway.consents.book import ConsentBook
from gateway.consents.consent import Consent, ConsentKind
from gateway.corebank.port import Account, Balance, CoreBank, Transaction
from gateway.database import Database
from gateway.jsonio import encode
from gateway.refusal import ForeignResource, Refusal, UnknownResource

BASE = "/open-banking/v4.0/aisp"
PAGE_ROWS = 100  # transactions a page; about 60 KiB
_FOREVER_MS = 253_402_300_799_000


class FieldDateInvalid(Refusal):
    """A consent that would be over before it is given."""

    code, ob_code, outcome = "date_invalid", "U003", "schema"
    title = "The date cannot be used"


class CursorInvalid(Refusal):
    """A page that this API did not hand out."""

    code, ob_code, outcome = "cursor_invalid", "U002", "schema"
    title = "Follow Links.Next; the page number is not yours to make"


@dataclass(frozen=True, slots=True)
class AccountsApi:
    """Consents and reads. The balance read is the hot path: no database call, no JSON work for a fresh balance."""

    database: Database
    book: ConsentBook
    bank: CoreBank
    fresh: FreshBalances
    issuer: str

    # --- consents, by the partner -------------------------------------------------------------------------------
    async def create_consent(self, call: Call) -> Answer:
        request: AccountConsentRequest = call.body
        rules.check_permissions(request.data.permissions)
        body = _consent_body(request)
        expires = request.data.expiration_date_time
        expires_ms = to_ms(expires) if expires else None
        if expires_ms is not None and expires_ms <= call.now_ms:
            raise FieldDateInvalid("ExpirationDateTime lies in the past", path="$.Data.ExpirationDateTime")
        async with self.database.transaction() as conn:
            made = await consents.create(
                conn, partner_id=call.partner.partner_id, client_id=call.app.client_id,
                kind=ConsentKind.ACCOUNT_ACCESS, body=body, expires_ms=expires_ms, now_ms=call.now_ms,
            )  # fmt: skip
        return self._consent_answer(201, made, now_ms=call.now_ms)

    async def get_consent(self, call: Call) -> Answer:
        async with self.database.connection() as conn:
            found = await self._own_consent(conn, call)
        return self._consent_answer(200, found, now_ms=call.now_ms)

    async def delete_consent(self, call: Call) -> Answer:
        """Ends the consent and every token under it; afterwards it is no more (GET: 400)."""
        async with self.database.transaction() as conn:
            found = await self._own_consent(conn, call)
            found.check_can_be_asked(call.now_ms)  # what is over already has no end to come
            await consents.revoke(
                conn, found.consent_id, partner_id=call.partner.partner_id, actor=call.app.client_id,
                now_ms=call.now_ms,
            )  # fmt: skip
        return Answer(204)

    async def _own_consent(self, conn: Any, call: Call) -> Consent:
        found = await consents.load(conn, call.path["ConsentId"], partner_id=call.partner.partner_id)
        if found.kind is not ConsentKind.ACCOUNT_ACCESS or found.status.value == "CANC":
            raise UnknownResource(f"There is no account-access consent {found.consent_id}")
        return found

    # --- reads, under the customer's consent --------------------------------------------------------------------
    async def list_accounts(self, call: Call) -> Answer:
        consent = await self._consent(call, "ReadAccountsBasic", "ReadAccountsDetail")
        granted = rules.consent_permissions(consent.body)
        shown = [account_members(account, granted) for account in await self._accounts(consent)]
        return self._read({"Account": shown}, f"{BASE}/accounts")

    async def get_account(self, call: Call) -> Answer:
        consent = await self._consent(call, "ReadAccountsBasic", "ReadAccountsDetail")
        account_id = self._account_id(call, consent)
        account = next((a for a in await self._accounts(consent) if a.account_id == account_id), None)
        if account is None:
            raise UnknownResource(f"There is no account {account_id}")
        shown = account_members(account, rules.consent_permissions(consent.body))
        return self._read({"Account": [shown]}, f"{BASE}/accounts/{account_id}")

    async def read_balances(self, call: Call) -> Answer:
        consent = await self._consent(call, "ReadBalances")
        fresh = await self.fresh.get(self._account_id(call, consent), now_ms=call.now_ms)
        if fresh is None:
            raise UnknownResource("There is no such account")
        return Answer(200, fresh.body)

    async def list_transactions(self, call: Call) -> Answer:
        """In the order of booking, a page at a time; Credits and Debits decide which rows, Detail which fields."""
        consent = await self._consent(call, "ReadTransactionsBasic", "ReadTransactionsDetail")
        account_id = self._account_id(call, consent)
        from_ms, to_ms = _period(call.query, consent.body)
        rows = await self.bank.transactions(
            account_id, from_ms=from_ms, to_ms=to_ms, after=_cursor(call.query.get("page")), limit=PAGE_ROWS + 1
        )
        granted = rules.consent_permissions(consent.body)
        page = rows[:PAGE_ROWS]
        shown = [transaction_members(row, granted) for row in page if _visible(row, granted)]
        path = f"{BASE}/accounts/{account_id}/transactions"
        following = _page_link(path, call.query, page[-1].cursor) if len(rows) > PAGE_ROWS else None
        return self._read({"Transaction": shown}, path, following=following)

    async def _consent(self, call: Call, *codes: str) -> Consent:
        """The consent behind the token, in force, with one of the permissions. Raises refusals that say which."""
        consent = await self.book.get(call.consent_id)
        consent.check_owner(call.partner.partner_id)
        consent.check_in_force(call.now_ms)
        rules.require(rules.consent_permissions(consent.body), *codes)
        return consent

    def _account_id(self, call: Call, consent: Consent) -> str:
        account_id = call.path["AccountId"]
        if account_id not in consent.account_ids:
            raise ForeignResource("The customer has not shared that account under this consent")
        return account_id

    async def _accounts(self, consent: Consent) -> Sequence[Account]:
        assert consent.customer_id is not None, "an authorised consent has its customer"
        found = await self.bank.accounts(consent.customer_id)
        return [account for account in found if account.account_id in consent.account_ids]

    # --- answers ------------------------------------------------------------------------------------------------
    def _consent_answer(self, status: int, consent: Consent, *, now_ms: int) -> Answer:
        path = f"{BASE}/account-access-consents/{consent.consent_id}"
        body = {"Data": consent_members(consent, now_ms=now_ms), "Risk": {}, "Links": {"Self": self.issuer + path}}
        return Answer(status, {**body, "Meta": {}})

    def _read(self, data: Mapping[str, Any], path: str, *, following: str | None = None) -> Answer:
        links = {"Self": self.issuer + path}
        if following is not None:
            links["Next"] = self.issuer + following
        return Answer(200, {"Data": data, "Links": links, "Meta": {}})


def render_balance(balance: Balance, *, issuer: str) -> bytes:
    """OBReadBalance1, once a second and account."""
    path = f"{issuer}{BASE}/accounts/{balance.account_id}/balances"
    return encode({"Data": {"Balance": balance_members(balance)}, "Links": {"Self": path}, "Meta": {}})


def _consent_body(request: AccountConsentRequest) -> dict[str, Any]:
    """Data as the partner asked for it, dates in one spelling."""
    body: dict[str, Any] = {"Permissions": list(request.data.permissions)}
    given = {
        "ExpirationDateTime": request.data.expiration_date_time,
        "TransactionFromDateTime": request.data.transaction_from_date_time,
        "TransactionToDateTime": request.data.transaction_to_date_time,
    }
    return body | {name: rfc3339(to_ms(value)) for name, value in given.items() if value}


def _period(query: Mapping[str, str], body: Mapping[str, Any]) -> tuple[int, int]:
    """What was asked for, within what the customer allowed."""
    from_ms = max(_query_moment(query, "fromBookingDateTime", 0), _allowed(body, "TransactionFromDateTime", 0))
    to_ms = min(
        _query_moment(query, "toBookingDateTime", _FOREVER_MS), _allowed(body, "TransactionToDateTime", _FOREVER_MS)
    )
    return from_ms, to_ms


def _query_moment(query: Mapping[str, str], name: str, otherwise: int) -> int:
    text = query.get(name)
    return otherwise if text is None else asked_ms(text, path=f"$query.{name}")


def _allowed(body: Mapping[str, Any], name: str, otherwise: int) -> int:
    return to_ms(datetime.fromisoformat(body[name])) if name in body else otherwise


def _visible(row: Transaction, granted: frozenset[str]) -> bool:
    credit, debit = rules.sides(granted)
    return credit if row.amount.minor >= 0 else debit


def _cursor(text: str | None) -> int:
    if text is None:
        return 0
    try:
        number = int(unb64url(text).decode("ascii"))
    except ValueError:
        number = -1
    if not 0 <= number < 2**62:
        raise CursorInvalid(path="$query.page")
    return number


def _page_link(path: str, query: Mapping[str, str], cursor: int) -> str:
    page = b64url(str(cursor).encode())
    return f"{path}?{urlencode({**query, 'page': page})}"
