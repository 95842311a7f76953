"""What a consent says, in words for the customer: a few lines in English and Chinese, and the accounts it can cover."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.clock import rfc3339
from gateway.consents.consent import Consent, ConsentKind, ConsentStatus
from gateway.corebank.port import Account
from gateway.partners.partner import Partner


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that the customer allows."""

    en: str
    zh: str


# UK Open Banking permission codes, by what they start with; several codes are one line for a customer
_PERMISSIONS = (
    ("ReadAccounts", Line("See your accounts and what kind they are", "查看您的账户及账户类型")),
    ("ReadBalances", Line("See your balances", "查看账户余额")),
    ("ReadTransactions", Line("See your transactions", "查看交易明细")),
    (("ReadPAN", "ReadAccountsDetail"), Line("See your full account or card numbers", "查看完整账号或卡号")),
    ("ReadBeneficiaries", Line("See whom you have paid before", "查看常用收款人")),
    ("ReadDirectDebits", Line("See your direct debits", "查看代扣协议")),
    ("ReadStandingOrders", Line("See your standing orders", "查看定期转账")),
    ("ReadScheduledPayments", Line("See your scheduled payments", "查看预约付款")),
    ("ReadStatements", Line("See your statements", "查看对账单")),
    ("ReadParty", Line("See your name and contact details", "查看您的姓名与联系方式")),
    ("ReadProducts", Line("See the products behind your accounts", "查看账户产品信息")),
    ("ReadOffers", Line("See offers made to you", "查看专属优惠")),
)
_QUOTES = frozenset('“”„‟"«»「」『』')
_NAME_SHOWN = 70  # characters of a name that a partner wrote; the standard's own limit before 4.0
_PERIODS = {
    "Day": "每日", "Week": "每周", "Fortnight": "每两周", "Month": "每月", "Half-year": "每半年", "Year": "每年",
}  # fmt: skip


def view_of(consent: Consent, partner: Partner, *, payee: str | None = None) -> tuple[Line, ...]:
    """What is allowed, to whom, and until when. `payee` is whom the bank has registered as the holder of the partner's
    account, where that was asked: before somebody allows payments it must be."""
    if consent.kind is ConsentKind.ACCOUNT_ACCESS:
        lines = _access(consent.body)
    else:
        lines = (*_payee(consent.body, partner, payee), *_limits(consent.body))
    if consent.expires_ms is None:
        return (*lines, Line("Until you take it back", "长期有效，您可随时撤销"))
    day = rfc3339(consent.expires_ms)[:10]
    return (*lines, Line(f"Until {day} (UTC), or earlier if you take it back", f"有效期至 {day}（UTC），您可提前撤销"))


def choosable(consent: Consent, accounts: Sequence[Account]) -> tuple[Account, ...]:
    """The customer's accounts that the consent can be given for: those given before, or the one the request names."""
    if consent.status is ConsentStatus.AUTHORISED:
        return tuple(account for account in accounts if account.account_id in consent.account_ids)
    named = consent.body.get("Initiation", {}).get("DebtorAccount", {}).get("Identification")
    return tuple(account for account in accounts if named is None or account.identification == named)


def masked(account: Account) -> str:
    """The last four digits: enough for its owner."""
    return _ending(account.identification)


def _ending(identification: str) -> str:
    return f"**** {identification[-4:]}"


def _access(body: Mapping[str, Any]) -> Iterable[Line]:
    asked = body.get("Permissions", ())
    return (line for start, line in _PERMISSIONS if any(code.startswith(start) for code in asked))


def _payee(body: Mapping[str, Any], partner: Partner, payee: str | None) -> Iterable[Line]:
    """The money goes to the account that the partner agreed with the bank (payments/mandate.py refuses any other one).
    What the partner wrote is shown as what the partner wrote."""
    ending = _ending(partner.settlement_account)
    if payee is None:
        yield Line(f"Collect payments to the account {ending} that {partner.name} agreed with the bank",
                   f"向{partner.name_zh}与银行约定的账户 {ending} 付款")  # fmt: skip
        return
    yield Line(f"Collect payments to {payee}: so the bank has registered the holder of the account {ending}",
               f"向“{payee}”付款：该名称为银行登记的账户 {ending} 户名")  # fmt: skip
    written = body.get("Initiation", {}).get("CreditorAccount", {}).get("Name")
    if written and _folded(written) != _folded(payee):
        written = _as_written(written)
        yield Line(f"{partner.name} calls the payee “{written}”; that is not the name that the bank has registered",
                   f"{partner.name_zh}将收款人称为“{written}”，与银行登记的户名不符")  # fmt: skip


def _as_written(name: str) -> str:
    """What stands between our quotation marks cannot leave them, nor turn the line around (U+202E and its like)."""
    plain = "".join("'" if each in _QUOTES else each for each in name if unicodedata.category(each)[0] != "C")
    return plain if len(plain) <= _NAME_SHOWN else f"{plain[:_NAME_SHOWN]}…"


def _folded(name: str) -> str:
    """Names that a reader would take for the same."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _limits(body: Mapping[str, Any]) -> Iterable[Line]:
    limits = body.get("ControlParameters", {})
    single = limits.get("MaximumIndividualAmount")
    if single:
        yield Line(f"Up to {_money(single)} each time", f"单笔最高 {_money(single)}")
    for limit in limits.get("PeriodicLimits", ()):
        period = limit["PeriodType"]
        yield Line(f"Up to {_money(limit)} a {period.lower()}", f"{_PERIODS.get(period, period)}最高 {_money(limit)}")


def _money(amount: Mapping[str, Any]) -> str:
    return f"{amount['Amount']} {amount['Currency']}"
