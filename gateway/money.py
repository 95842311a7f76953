"""Money is an integer of minor units and a currency; text is only at the edge."""

import re
from dataclasses import dataclass

import msgspec

from gateway.refusal import Refusal

# ISO 4217 minor-unit digits of the currencies that a contract may name; another one is refused, never guessed.
MINOR_DIGITS = {"CNY": 2, "EUR": 2, "GBP": 2, "USD": 2, "HKD": 2, "JPY": 0}
_AMOUNT = re.compile(r"(\d{1,13})(?:\.(\d{1,5}))?", re.ASCII)  # OBActiveCurrencyAndAmount_SimpleType 4.0.1


class AmountMalformed(Refusal):
    """An amount that cannot be held exactly in minor units."""

    code, ob_code, outcome = "amount_malformed", "U002", "schema"
    title = "The amount is not a decimal number of that currency"


class AmountNotPositive(Refusal):
    """There is no order, reversal or refund of nothing."""

    code, ob_code, outcome = "amount_not_positive", "U002", "schema"
    title = "The amount must be above zero"


class CurrencyDiffers(Refusal):
    """A hold and a charge live in one currency each; what is taken back of them is in that one."""

    code, ob_code, outcome = "currency_differs", "U002", "schema"
    title = "The amount is in another currency than what it belongs to"


@dataclass(frozen=True, slots=True, order=True)
class Money:
    """`minor` units of `currency`: Money(1250, "CNY") is twelve yuan fifty."""

    minor: int
    currency: str

    @property
    def text(self) -> str:
        """The decimal string of the public APIs: "12.50", "-0.05", and "7" for a currency without decimals."""
        digits = MINOR_DIGITS[self.currency]
        sign = "-" if self.minor < 0 else ""
        if digits == 0:
            return f"{sign}{abs(self.minor)}"
        whole, rest = divmod(abs(self.minor), 10**digits)
        return f"{sign}{whole}.{rest:0{digits}d}"


def parse_amount(text: str, currency: str, *, path: str = "") -> Money:
    """Read "12.50" exactly. Raises AmountMalformed: no sign, no exponent, no more decimals than the currency has."""
    digits = MINOR_DIGITS.get(currency)
    if digits is None:
        raise AmountMalformed(f"Currency {currency!r} is not one of {', '.join(sorted(MINOR_DIGITS))}", path=path)
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise AmountMalformed("Write the amount as digits with at most one decimal point, like 12.50", path=path)
    whole, decimals = match[1], (match[2] or "").rstrip("0")
    if len(decimals) > digits:
        raise AmountMalformed(f"{currency} has {digits} decimals", path=path)
    return Money(int(whole) * 10**digits + int(decimals.ljust(digits, "0") or "0"), currency)


class Amount(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """`{"Amount": "12.50", "Currency": "CNY"}`, as bodies of our own APIs say it."""

    amount: str
    currency: str

    def positive(self, *, path: str) -> Money:
        """`path` is the member's. Raises AmountMalformed, AmountNotPositive."""
        money = parse_amount(self.amount, self.currency, path=f"{path}.Amount")
        if money.minor == 0:
            raise AmountNotPositive(path=f"{path}.Amount")
        return money


def amount_json(minor: int, currency: str) -> dict[str, str]:
    """The same in an answer."""
    return {"Amount": Money(minor, currency).text, "Currency": currency}
