"""Entries of the book, built by pure functions. Debits are positive, credits negative; every entry sums to zero."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

BANK = "bank"


class AccountKind(StrEnum):
    """The chart of accounts; with a party and a currency it names an account."""

    DISCOUNT_EXPENSE = "discount_expense"  # the bank's own share of discounts
    FUNDED_RECEIVABLE = "funded_receivable"  # what a partner owes for its share of discounts
    MERCHANT_RECEIVABLE = "merchant_receivable"  # what the merchant of a redemption owes for its own share
    NETWORK_RECEIVABLE = "network_receivable"  # what the card network owes for its share
    MERCHANT_CLEARING = "merchant_clearing"  # discounts that the bank owes the merchant who granted them
    CORE_CLEARING = "core_clearing"  # customers' money that the core bank moved on our order
    MERCHANT_RECEIPTS = "merchant_receipts"  # … and that it credited to the merchant's own account
    DISCOUNT_SUSPENSE = (
        "discount_suspense"  # discounts given on paid charges that no redemption funds, until people decide
    )
    DISCOUNT_UNFUNDED = "discount_unfunded"  # … and that the partner has gone without meanwhile
    COMMISSION_EXPENSE = "commission_expense"
    COMMISSION_PAYABLE = "commission_payable"


# Who funds a discount, and where that party's share is booked.
_FUNDERS = {
    "bank": AccountKind.DISCOUNT_EXPENSE,
    "partner": AccountKind.FUNDED_RECEIVABLE,
    "merchant": AccountKind.MERCHANT_RECEIVABLE,
    "network": AccountKind.NETWORK_RECEIVABLE,
}


def account(kind: AccountKind, party: str, currency: str) -> str:
    """`funded_receivable:parkco:CNY`."""
    return f"{kind}:{party}:{currency}"


@dataclass(frozen=True, slots=True)
class Posting:
    """One line: a debit where `amount_minor` is positive, a credit where it is negative."""

    account: str
    amount_minor: int

    @property
    def currency(self) -> str:
        return self.account[-3:]


@dataclass(frozen=True, slots=True)
class Entry:
    """One movement of money. `cause` names the fact behind it and is booked once, ever."""

    cause: str
    partner_id: str
    postings: tuple[Posting, ...]

    def __post_init__(self) -> None:
        assert self.postings, "an entry has lines"
        assert all(posting.amount_minor for posting in self.postings), "a line moves something"
        assert not any(totals(self.postings).values()), f"{self.cause} does not sum to zero"


def totals(postings: Sequence[Posting]) -> dict[str, int]:
    """The sum per currency."""
    sums: dict[str, int] = defaultdict(int)
    for posting in postings:
        sums[posting.currency] += posting.amount_minor
    return dict(sums)


def redemption_confirmed(redemption_id: str, *, partner_id: str, currency: str, legs: Mapping[str, int]) -> Entry:
    """Each funder's share is a debit; the bank owes the sum to the merchant who granted the discount."""
    return _funded(f"redemption.confirmed:{redemption_id}", partner_id=partner_id, currency=currency, legs=legs)


def redemption_reversed(event_id: str, *, partner_id: str, currency: str, legs: Mapping[str, int]) -> Entry:
    """The mirror, on the original legs: `legs` are the negative differences of the reversal `event_id`."""
    return _funded(f"redemption.reversed:{event_id}", partner_id=partner_id, currency=currency, legs=legs)


def payment_collected(payment_id: str, *, partner_id: str, currency: str, amount_minor: int) -> Entry:
    """The core bank took the customer's money and credited the merchant's account with it."""
    return _pair(
        f"payment.collected:{payment_id}",
        debit=account(AccountKind.CORE_CLEARING, BANK, currency),
        credit=account(AccountKind.MERCHANT_RECEIPTS, partner_id, currency),
        partner_id=partner_id,
        amount_minor=amount_minor,
    )


def payment_refunded(refund_id: str, *, partner_id: str, currency: str, amount_minor: int) -> Entry:
    """The core bank gave money back to the customer from the merchant's account."""
    return _pair(
        f"payment.refunded:{refund_id}",
        debit=account(AccountKind.MERCHANT_RECEIPTS, partner_id, currency),
        credit=account(AccountKind.CORE_CLEARING, BANK, currency),
        partner_id=partner_id,
        amount_minor=amount_minor,
    )


def commission_accrued(event_id: str, *, partner_id: str, currency: str, amount_minor: int) -> Entry:
    """A goal of the contract was reached: the bank owes the partner its commission (negative: a claw-back)."""
    return _pair(
        f"commission.accrued:{event_id}",
        debit=account(AccountKind.COMMISSION_EXPENSE, BANK, currency),
        credit=account(AccountKind.COMMISSION_PAYABLE, partner_id, currency),
        partner_id=partner_id,
        amount_minor=amount_minor,
    )


def discount_lapsed(charge_id: str, *, partner_id: str, currency: str, amount_minor: int) -> Entry:
    """A charge was paid at a price that a discount had made, and the discount could not be granted any more."""
    return _pair(
        f"discount.lapsed:{charge_id}",
        debit=account(AccountKind.DISCOUNT_SUSPENSE, BANK, currency),
        credit=account(AccountKind.DISCOUNT_UNFUNDED, partner_id, currency),
        partner_id=partner_id,
        amount_minor=amount_minor,
    )


def _funded(cause: str, *, partner_id: str, currency: str, legs: Mapping[str, int]) -> Entry:
    shares = [
        Posting(account(_FUNDERS[party], party if party in (BANK, "network") else partner_id, currency), minor)
        for party, minor in legs.items()
        if minor
    ]
    owed = Posting(account(AccountKind.MERCHANT_CLEARING, partner_id, currency), -sum(legs.values()))
    return Entry(cause, partner_id, (*shares, owed))


def _pair(cause: str, *, debit: str, credit: str, partner_id: str, amount_minor: int) -> Entry:
    return Entry(cause, partner_id, (Posting(debit, amount_minor), Posting(credit, -amount_minor)))
