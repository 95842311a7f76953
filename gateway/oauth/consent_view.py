"""What a consent says, in words for the customer: a few lines in English and Chinese, and the accounts it can cover."""

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
_PERIODS = {
    "Day": "每日", "Week": "每周", "Fortnight": "每两周", "Month": "每月", "Half-year": "每半年", "Year": "每年",
}  # fmt: skip


def view_of(consent: Consent, partner: Partner) -> tuple[Line, ...]:
    """What is allowed, to whom, and until when."""
    lines = _access(consent.body) if consent.kind is ConsentKind.ACCOUNT_ACCESS else _mandate(consent.body, partner)
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


def _mandate(body: Mapping[str, Any], partner: Partner) -> Iterable[Line]:
    """The payee is the holder of the account that the partner agreed with the bank (payments/mandate.py refuses any
    other one), by the name that the bank has registered. What the partner wrote is shown as what the partner wrote."""
    limits, initiation = body.get("ControlParameters", {}), body.get("Initiation", {})
    account = f" (account {_ending(partner.settlement_account)})", f"（账户 {_ending(partner.settlement_account)}）"
    yield Line(f"Collect payments to {partner.name}{account[0]}", f"向{partner.name_zh}{account[1]}付款")
    creditor = initiation.get("CreditorAccount", {}).get("Name")
    if creditor and creditor != partner.name:
        yield Line(f"{partner.name} calls the payee “{creditor}”; the bank has not checked that name",
                   f"{partner.name_zh}将收款人称为“{creditor}”，该名称未经银行核实")  # fmt: skip
    single = limits.get("MaximumIndividualAmount")
    if single:
        yield Line(f"Up to {_money(single)} each time", f"单笔最高 {_money(single)}")
    for limit in limits.get("PeriodicLimits", ()):
        period = limit["PeriodType"]
        yield Line(f"Up to {_money(limit)} a {period.lower()}", f"{_PERIODS.get(period, period)}最高 {_money(limit)}")


def _money(amount: Mapping[str, Any]) -> str:
    return f"{amount['Amount']} {amount['Currency']}"
